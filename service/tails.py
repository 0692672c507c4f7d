"""Live tails of the book: history from a position, then what is appended, entry by entry, for one admin each.

A tail holds a position and reads on from it, a page at a time: nothing is ever queued for it. One whose client is slow
falls behind, and once it has been at the head and is too far behind it passes by what it missed, and says so. A tail
shows nothing any more as soon as its session is over, or its user is no active admin.
"""

from __future__ import annotations

from typing import Final

import structlog
import trio
from msgspec import Struct

from events.catalogue import ADMIN
from events.follow import Arrivals
from service.audit import DOOR
from service.errors import Refused
from service.gate.lookups import Lookups, Principal
from service.metrics import Metrics
from service.readers import Readers
from service.sockets.registry import Registry
from service.tail_pages import Page, read

log = structlog.get_logger("gatebook.tails")

HEARTBEAT_SECONDS: Final = 15.0
"""How long a tail is silent at most: proxies and clients close what says nothing, and whoever has gone is noticed."""
PARTING_SECONDS: Final = 1.0
"""How long what is being written when a tail ends may take."""
LOOK_SECONDS: Final = 0.05
"""How long a tail at the head lets what is appended gather, so that each commit does not cost a look for each tail."""


class TailLimits(Struct, frozen=True):
    """How many tails there are at a time, how many entries one reads at a time, and how far behind one may be."""

    tails: int = 10
    page: int = 100
    backlog: int = 10_000


class Tails:
    """All tails of this process. `end_at` is the task through which a stop reaches them."""

    def __init__(
        self,
        readers: Readers,
        lookups: Lookups,
        arrivals: Arrivals,
        registry: Registry,
        metrics: Metrics,
        limits: TailLimits | None = None,
    ) -> None:
        self.readers = readers
        self.lookups = lookups
        self.arrivals = arrivals
        self.registry = registry
        self.metrics = metrics
        self.limits = limits or TailLimits()
        self._open: set[Tail] = set()
        self._stopping = False

    @property
    def full(self) -> bool:
        """Whether there is room for no further tail."""
        return len(self._open) >= self.limits.tails

    async def head(self) -> int:
        """The last position of the book; errors as `Readers.look`."""
        return await self.readers.look(lambda book: book.log.head().position)

    def enter(self, tail: Tail) -> bool:
        """Counts a tail that begins, unless there is no room for it, or no time."""
        if self.full or self._stopping:
            return False
        self._open.add(tail)
        self.metrics.tails_open.set(len(self._open))
        return True

    def leave(self, tail: Tail) -> None:
        """Forgets a tail that is over."""
        self._open.discard(tail)
        self.metrics.tails_open.set(len(self._open))

    async def end_at(self, stopping: trio.Event) -> None:
        """Waits for the stop and ends all tails: they would go on until the grace of the doors is over."""
        await stopping.wait()
        self._stopping = True
        for tail in tuple(self._open):
            tail.end()


class Tail:
    """One tail, from beyond `position`. It holds its session at the registry between `begin` and `finish`.

    `writing` is for around whatever is written to its client: a tail that ends waits no longer than a moment for that.
    """

    door: Final = DOOR

    def __init__(self, tails: Tails, principal: Principal, position: int) -> None:
        self._tails = tails
        self._principal = principal
        # Whether it has been at the head, and whether it was there when it read last.
        self._caught_up = False
        self._at_head = False
        self._looked_at = -LOOK_SECONDS
        self._resting = trio.CancelScope()
        self.writing = trio.CancelScope()
        self.position = position
        self.over = trio.Event()

    def begin(self) -> None:
        """Takes its place, or is over at once where there is none."""
        self._tails.registry.hold(self._principal.session.id, self)
        if not self._tails.enter(self):
            self.end()

    def finish(self) -> None:
        """Gives its place up."""
        self._tails.leave(self)
        self._tails.registry.release(self._principal.session.id, self)

    def end(self) -> None:
        """Shows nothing any more, and wakes whoever waits for it."""
        self.over.set()
        self._resting.cancel()
        self.writing.deadline = min(self.writing.deadline, trio.current_time() + PARTING_SECONDS)

    def drop(self, session_id: int) -> bool:  # noqa: ARG002 - it holds one session alone
        """The session is over. See `Holder`: nobody is to be told, since the stream ends."""
        self.end()
        return False

    async def tell(self) -> None:
        """See `Holder`."""

    def cut(self) -> None:
        """See `Holder`."""
        self.end()

    async def page(self) -> Page | None:
        """What is to be shown next. None where there was nothing for a while, or the tail is over: ask `over`."""
        while not self.over.is_set():
            arrival = self._tails.arrivals.next()
            page = await self._read()
            # After the read: whatever it found, the right to see it was there when it was there to be seen.
            if page is None or not self._allowed():
                self.end()
                return None
            self.position = page.position
            self._at_head = page.position == page.head
            self._caught_up |= self._at_head
            if page.shown or page.skipped is not None:
                return page
            if self._at_head and not await self._rest(arrival):
                return None
        return None

    async def _read(self) -> Page | None:
        limits = self._tails.limits
        if self._at_head:
            await trio.sleep_until(self._looked_at + LOOK_SECONDS)
        self._looked_at = trio.current_time()
        backlog = limits.backlog if self._caught_up else None
        try:
            page = await self._tails.readers.look(lambda book: read(book, self.position, limits.page, backlog))
        except Refused as refusal:
            # Its client comes again, and hears then what is the matter.
            log.warning("tail_ended", reason=refusal.code)
            return None
        if page.skipped is not None:
            self._tails.metrics.tail_skipped.inc(page.skipped.last - page.skipped.first + 1)
        return page

    async def _rest(self, arrival: trio.Event) -> bool:
        """Waits until something is appended, for the time between two heartbeats; False where nothing was."""
        if self.over.is_set():
            return False
        with trio.CancelScope(deadline=trio.current_time() + HEARTBEAT_SECONDS) as self._resting:
            await arrival.wait()
        return not self._resting.cancelled_caught

    def _allowed(self) -> bool:
        try:
            principal = self._tails.lookups.renewed(self._principal)
        except Refused:
            return False
        return principal.user.level >= ADMIN
