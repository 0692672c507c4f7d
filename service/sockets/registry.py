"""The registry of open sockets: which connection holds which session, and who hears that one is over.

It follows the log, so it hears of every ending, whichever process wrote it and why. A door registers a connection under
a session first, and looks the session up after: an ending that was committed before the look is seen by the look, and
one that was committed later is met by the follower, which then finds the connection here. Nothing falls between.

A connection is dropped where it stands, before anything else runs; clients are told in tasks of their own, so that a
slow one holds up nobody. Nothing is queued for a connection: what it is owed is one bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, Protocol

import structlog
import trio

from events.errors import UndecodableEntryError
from events.follow import Follower
from events.recorded import Recorded
from projections.catalogue import SESSIONS
from service.errors import Unavailable
from service.following import AGAIN_SECONDS, keep_following
from service.guards import SocketLimits
from service.guards.reporting import describe
from service.guards.trio_websocket import ConnectionClosed
from service.metrics import Metrics

log = structlog.get_logger("gatebook.registry")

ENDING: Final = "session.closed"
TELLS_A_TURN: Final = 50
"""Clients that are told before whatever else waits has its turn."""
LOOKS_A_TURN: Final = 100
"""Sessions that are looked up before whatever else waits has its turn."""


class Holder(Protocol):
    """One connection, as the registry sees it. Compared by identity; it may hold several sessions for a moment."""

    @property
    def door(self) -> str:
        """The door's name, for the metrics."""

    def drop(self, session_id: int) -> bool:
        """The session is over: forget it at once. Says whether the client is to be told."""

    async def tell(self) -> None:
        """Tells the client that its session is over. Raises ConnectionClosed where nobody listens any more."""

    def cut(self) -> None:
        """Ends the connection at once: its client could not be told otherwise."""


class Registry:
    """See the module. `lives` says whether a session is open at this moment, or raises Unavailable."""

    def __init__(
        self,
        lives: Callable[[int], bool],
        metrics: Metrics,
        *,
        tell_seconds: float = SocketLimits().write_seconds,
    ) -> None:
        self._lives = lives
        self._metrics = metrics
        self._tell_seconds = tell_seconds
        self._holders: dict[int, dict[Holder, None]] = {}
        # Who is being told at this moment, and whether once more after that.
        self._telling: dict[Holder, bool] = {}
        self._doubted = trio.Event()

    def hold(self, session_id: int, holder: Holder) -> None:
        """From now on the holder hears when that session ends. Look the session up after this, never before alone."""
        holders = self._holders.setdefault(session_id, {})
        if holder not in holders:
            holders[holder] = None
            self._metrics.sockets_holding.labels(holder.door).inc()

    def release(self, session_id: int, holder: Holder) -> bool:
        """The holder is done with that session. Says whether it still held it: if not, the session has ended."""
        holders = self._holders.get(session_id, {})
        if holder not in holders:
            return False
        del holders[holder]
        if not holders:
            del self._holders[session_id]
        self._metrics.sockets_holding.labels(holder.door).dec()
        return True

    def holds(self, session_id: int, holder: Holder) -> bool:
        """Whether the holder is registered under that session, which then has not ended as far as we have heard."""
        return holder in self._holders.get(session_id, {})

    def doubt(self) -> None:
        """The book holds what this gatebook cannot read: any session may be over. Each is looked up again."""
        self._doubted.set()

    async def run(self, follower: Follower) -> None:
        """Drops and tells, until cancelled. `follower` shows entries of type `ENDING`, from the head on.

        Raises CorruptStoreError where the store says that it is damaged.
        """
        async with trio.open_nursery() as nursery:

            async def heard(page: list[Recorded]) -> None:
                ended = [int(key) for recorded in page for key in SESSIONS.keys(recorded)]
                await self._end(ended, nursery)
                self._metrics.follower_lag.labels("sockets").set(follower.lag())

            nursery.start_soon(self._look_when_in_doubt, nursery)
            await keep_following(follower, heard, self._unread)

    def _unread(self, error: UndecodableEntryError) -> None:
        log.error("ending_not_read", position=error.position, reason=error.reason)
        self.doubt()

    async def _end(self, session_ids: Iterable[int], nursery: trio.Nursery) -> None:
        """Drops all holders of all these sessions first, and then has those told who are to be told."""
        owed = [holder for session_id in session_ids for holder in self._drop_all(session_id)]
        for count, holder in enumerate(owed, 1):
            if holder in self._telling:
                self._telling[holder] = True
            else:
                self._telling[holder] = False
                nursery.start_soon(self._tell, holder)
            if count % TELLS_A_TURN == 0:
                await trio.lowlevel.checkpoint()

    def _drop_all(self, session_id: int) -> list[Holder]:
        """Drops the session's holders; those whose clients are to be told."""
        owed = []
        for holder in self._holders.pop(session_id, {}):
            self._metrics.sockets_holding.labels(holder.door).dec()
            try:
                if holder.drop(session_id):
                    owed.append(holder)
            except Exception as error:  # noqa: BLE001 - a fault of ours is one connection's, and it holds nothing then
                self._failed(holder, error)
        return owed

    async def _tell(self, holder: Holder) -> None:
        """Tells one client, and once more where another session of its own ended meanwhile."""
        again = True
        while again:
            self._telling[holder] = False
            again = await self._told(holder) and self._telling[holder]
        del self._telling[holder]

    async def _told(self, holder: Holder) -> bool:
        outcome = "told"
        try:
            with trio.fail_after(self._tell_seconds):
                await holder.tell()
        except ConnectionClosed:
            outcome = "gone"
        except trio.TooSlowError:
            outcome = "too_slow"
            holder.cut()
        except Exception as error:  # noqa: BLE001 - a fault of ours is one connection's
            self._failed(holder, error)
            return False
        self._metrics.notifications.labels(outcome).inc()
        return outcome == "told"

    def _failed(self, holder: Holder, error: Exception) -> None:
        log.error("notification_failed", door=holder.door, error=describe(error))
        self._metrics.notifications.labels("failed").inc()
        holder.cut()

    async def _look_when_in_doubt(self, nursery: trio.Nursery) -> None:
        while True:
            await self._doubted.wait()
            self._doubted = trio.Event()
            try:
                await self._look_at_all(nursery)
            except Unavailable as error:
                # They stay: nobody is told that a session is over which may not be.
                log.warning("sessions_in_doubt", reason=str(error))
                await trio.sleep(AGAIN_SECONDS)
                self._doubted.set()

    async def _look_at_all(self, nursery: trio.Nursery) -> None:
        """Looks up every session that is held, and ends those that are over."""
        for count, session_id in enumerate(tuple(self._holders), 1):
            # Whoever registers meanwhile looks for itself.
            if session_id in self._holders and not self._lives(session_id):
                await self._end((session_id,), nursery)
            if count % LOOKS_A_TURN == 0:
                await trio.lowlevel.checkpoint()
