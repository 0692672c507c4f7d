"""Following: history, then what is appended, with no gap and no repeat.

A follower holds a position and nothing else, and reads from the log itself: it can fall behind, and knows by how much,
but it can miss nothing, and nothing is ever queued for it.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final

import trio
from msgspec import structs

from events.errors import StoreError
from events.log import EventLog, Query
from events.recorded import Recorded

PAGE: Final = 200


class Arrivals:
    """Wakes whoever waits for something to be appended. It says that there is something, never what."""

    def __init__(self) -> None:
        self._next = trio.Event()

    def announce(self) -> None:
        """Something was appended."""
        arrived, self._next = self._next, trio.Event()
        arrived.set()

    def next(self) -> trio.Event:
        """What the next announcement will set: take it before looking at the log, wait for it after."""
        return self._next

    async def watch(self, log: EventLog, seconds: float) -> None:
        """Announces what other processes append, looking every so often: a few microseconds' work. Ends never."""
        # Nothing yet: what was committed between the followers' first look and this one's is announced as well.
        seen: Hashable = None
        while True:
            await trio.sleep(seconds)
            try:
                state = log.state()
            except StoreError:
                # Whoever follows looks too, and decides what that means.
                state = None
            if state is None or state != seen:
                self.announce()
            seen = state


class Follower:
    """Reads the log from beyond a position, page by page, and waits where it ends. `query` narrows what it shows."""

    def __init__(self, log: EventLog, arrivals: Arrivals, query: Query) -> None:
        self._log = log
        self._arrivals = arrivals
        self._query = query
        self.position = query.after

    async def page(self) -> list[Recorded]:
        """The next events, at least one; waits until there are some. UndecodableEntryError where one cannot be read."""
        while True:
            arrival = self._arrivals.next()
            head = self._log.head().position
            page = self._log.read(structs.replace(self._query, after=self.position, until=head))
            if page:
                self.position = page[-1].position
                await trio.lowlevel.checkpoint()
                return page
            # Whatever does not match the query has been passed all the same.
            self.position = max(self.position, head)
            await arrival.wait()

    def up_to(self, position: int) -> list[Recorded]:
        """What stands before that position and was not read yet, at most a page; the entry there is passed by."""
        page = self._log.read(structs.replace(self._query, after=self.position, until=position - 1))
        full = len(page) == self._query.limit
        self.position = page[-1].position if full else position
        return page

    def lag(self) -> int:
        """How many entries the log has beyond what was read."""
        return max(0, self._log.head().position - self.position)
