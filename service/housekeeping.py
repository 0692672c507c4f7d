"""Housekeeping: sessions whose time is over are ended, throttles that count nothing are let go, old keys are destroyed.

It looks by the clock, a little at a time and behind every waiting command. Each session and throttle is looked at again
in its decision, so that one which was renewed meanwhile stays.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

import structlog
import trio
from msgspec import Struct

from events.catalogue import SessionClosed
from events.errors import BookError
from events.recorded import Recorded, to_microseconds
from projections.catalogue import SESSIONS, THROTTLES
from service.batch import FATAL, Clock
from service.book import Book
from service.credentials.cookies import Cookies
from service.credentials.devices import Devices
from service.credentials.signing_keys import SigningKeys
from service.decisions.command import Command
from service.decisions.sessions import ExpireSessions
from service.decisions.throttling import FORGOTTEN_AFTER, ForgetThrottles
from service.errors import Refused
from service.gate.throttling import Throttling
from service.writer import Writer

log = structlog.get_logger("gatebook.housekeeping")

EVERY_SECONDS: Final = 1.0
ACTOR: Final = "service"


class Told(Struct, frozen=True):
    """What one round did."""

    sessions: int = 0
    throttles: int = 0
    key_replaced: bool = False
    keys_destroyed: int = 0


class Housekeeping:
    """See the module. `book` is one of the event loop's."""

    def __init__(
        self,
        book: Book,
        writer: Writer,
        throttling: Throttling,
        cookies: Cookies,
        devices: Devices,
        signing_keys: SigningKeys,
        clock: Clock,
        most: int = 100,
        idle_limit: timedelta | None = None,
        lifetime: timedelta = timedelta(days=1),
        devices_known: timedelta = timedelta(days=180),
    ) -> None:
        self._book = book
        self._idle_limit = idle_limit
        self._lifetime = lifetime
        self._writer = writer
        self._throttling = throttling
        self._cookies = cookies
        self._devices = devices
        self._devices_known = devices_known
        self._signing_keys = signing_keys
        self._clock = clock
        self._most = most

    async def run(
        self, heard: Callable[[Told], None] = lambda _: None, postponed: Callable[[], None] = lambda: None
    ) -> None:
        """Looks once a second, at once again where a round was full. Ends never; what cannot be written waits.

        `postponed` is called for each round that waits: sessions may be over then, and the book does not say so yet.
        Raises DurabilityError or CorruptStoreError, after which the process must end.
        """
        while True:
            try:
                told = await self.round()
            except FATAL:
                raise
            except (Refused, BookError) as error:
                # Not now: the writer has said why, and the next round finds the same work.
                log.warning("housekeeping_postponed", reason=str(error))
                told = Told()
                postponed()
            heard(told)
            if told.sessions < self._most and told.throttles < self._most:
                await trio.sleep(EVERY_SECONDS)

    async def round(self) -> Told:
        """One look at everything."""
        now = self._clock()
        key_replaced = self._throttling.rotate(now)
        if key_replaced:
            log.info("throttle_key_replaced")
        self._cookies.rotate(now)
        self._devices.seal.rotate(now)
        keys_destroyed = (
            self._destroy_cookie_keys(now) + self._destroy_device_keys(now) + self._destroy_signing_keys(now)
        )
        models = self._book.read_models
        due = models.up_to(SESSIONS, "expiry", to_microseconds(now), limit=self._most)
        if self._idle_limit is not None and len(due) < self._most:
            last_seen = to_microseconds(now - self._idle_limit)
            due += models.up_to(SESSIONS, "seen", last_seen, limit=self._most - len(due))
        sessions = 0
        if due:
            ended = await self._submit(ExpireSessions(tuple(int(key) for key, _ in due), self._idle_limit))
            sessions = sum(isinstance(one.event, SessionClosed) for one in ended)
        idle_since = to_microseconds(now - FORGOTTEN_AFTER)
        idle = models.up_to(THROTTLES, "failed_at", idle_since, limit=self._most)
        forgotten = await self._submit(ForgetThrottles(tuple(key for key, _ in idle))) if idle else ()
        return Told(sessions, len(idle) if forgotten else 0, key_replaced, keys_destroyed)

    def _destroy_cookie_keys(self, now: datetime) -> int:
        """Destroys the keys under which no cookie of an open session can be sealed."""
        before = now - self._lifetime
        spent = self._cookies.spent(before)
        # A session may be older than today's settings let one grow. The oldest has the lowest id.
        oldest = self._book.read_models.scan(SESSIONS, limit=1) if spent else ()
        if oldest:
            spent = self._cookies.spent(min(before, self._book.decode(SESSIONS, oldest[0].document).opened_at))
        if spent:
            self._cookies.destroy(spent)
            log.info("cookie_keys_destroyed", keys=len(spent))
        return len(spent)

    def _destroy_device_keys(self, now: datetime) -> int:
        """Destroys the keys of devices that have not logged in for so long that they are strangers again."""
        spent = self._devices.seal.spent(now - self._devices_known)
        if spent:
            self._devices.seal.destroy(spent)
            log.info("device_keys_destroyed", keys=len(spent))
        return len(spent)

    def _destroy_signing_keys(self, now: datetime) -> int:
        """Destroys the keys of which no access token counts any more."""
        destroyed = self._signing_keys.tend(now)
        if destroyed:
            log.info("signing_keys_destroyed", keys=destroyed)
        return destroyed

    async def _submit(self, command: Command) -> tuple[Recorded, ...]:
        return await self._writer.submit(command, actor=ACTOR, door=ACTOR, behind=True)
