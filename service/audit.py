"""Audit: that somebody with the right to look, looked, is written down before they see anything.

Looks of one principal at one target within the interval are one event. What is remembered for that is bounded: the
oldest is forgotten first, and a forgotten look is merely written down again.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

import trio

from service.batch import Clock, utc_now
from service.decisions.administration import NoteAuditRead
from service.gate.lookups import Principal
from service.writer import Writer

DOOR: Final = "admin"
INTERVAL: Final = timedelta(minutes=5)
MOST_REMEMBERED: Final = 10_000

Look = tuple[str, str]
"""An actor and what they looked at."""


class Audit:
    """See the module."""

    def __init__(
        self,
        writer: Writer,
        *,
        interval: timedelta = INTERVAL,
        most_remembered: int = MOST_REMEMBERED,
        clock: Clock = utc_now,
    ) -> None:
        self._writer = writer
        self._interval = interval
        self._most_remembered = most_remembered
        self._clock = clock
        self._noted: dict[Look, datetime] = {}
        self._writing: dict[Look, trio.Event] = {}

    @property
    def remembered(self) -> int:
        """How many looks are remembered."""
        return len(self._noted)

    async def looked(self, principal: Principal, target: str) -> None:
        """Returns once the look stands in the book. Raises Overloaded or Unavailable when it cannot be written."""
        look = principal.actor, target
        # Two requests at once are one look: the second waits for the first, and writes if the first could not.
        while (writing := self._writing.get(look)) is not None:
            await writing.wait()
        now = self._clock()
        noted = self._noted.get(look)
        # A clock that was set back must not silence the audit: what was noted in the future counts for nothing.
        if noted is not None and timedelta(0) <= now - noted < self._interval:
            return
        writing = self._writing[look] = trio.Event()
        try:
            await self._writer.submit(NoteAuditRead(target), actor=principal.actor, door=DOOR)
            self._remember(look, now)
        finally:
            del self._writing[look]
            writing.set()

    def _remember(self, look: Look, now: datetime) -> None:
        self._noted.pop(look, None)
        while len(self._noted) >= self._most_remembered:
            del self._noted[next(iter(self._noted))]
        self._noted[look] = now
