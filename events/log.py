"""The contract of the event log, which every store keeps and one test suite holds them to.

What a log promises:

- Positions are 1, 2, 3, … without gaps, given out inside the one write transaction, so that they follow the order of
  the commits: whoever has seen N has seen everything before N.
- What was appended is durable when the transaction's block is left without an exception, and not before; then it is
  there for every reader of every process. When the block is left by an exception, nothing of it is there.
- Nothing is ever changed or removed; the store itself refuses that.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Final, Protocol

from msgspec import Struct

from events import merkle
from events.recorded import Entry, Recorded

PAGE: Final = 1_000


class Head(Struct, frozen=True):
    """Where the book ends: the last position (0: empty), its moment in microseconds since 1970, the Merkle frontier."""

    position: int = 0
    at: int = 0
    frontier: tuple[bytes, ...] = ()

    @property
    def root(self) -> bytes:
        """The RFC 6962 tree head over all entries."""
        return merkle.root(self.frontier)

    def after(self, entries: Sequence[Entry]) -> Head:
        """The head when these entries follow."""
        if not entries:
            return self
        leaves = [entry.leaf for entry in entries]
        return Head(entries[-1].position, entries[-1].at, merkle.extend(self.position, self.frontier, leaves))


class Query(Struct, frozen=True):
    """Which entries to read: all that match everything that is set.

    `after` and `until` are positions (exclusive, inclusive); `since` and `before` moments (inclusive, exclusive). At
    most `limit` come back, in order of position, or from the end when `backwards`.
    """

    after: int = 0
    until: int | None = None
    stream: str | None = None
    user: int | None = None
    type: str | None = None
    since: datetime | None = None
    before: datetime | None = None
    command_id: str | None = None
    backwards: bool = False
    limit: int = PAGE


class Transaction(Protocol):
    """The one write transaction over the log and all that stands beside it. It belongs to the thread that opened it."""

    head: Head

    def versions(self, streams: Iterable[str]) -> dict[str, int]:
        """The last version of each stream that has one; one read for all of them."""

    def append(self, entries: Sequence[Entry]) -> None:
        """Adds the entries, whose positions follow the head's, in one write, and moves `head`."""


class EventLog(Protocol):
    """An append-only log of entries. Errors are those of `events.errors`.

    One object is used by one thread at a time; every thread that reads beside others opens a log of its own.
    """

    book_id: str

    def head(self) -> Head:
        """Where the book ends at this moment."""

    def entries(self, query: Query) -> list[Entry]:
        """The matching entries as they are stored, bytes and columns."""

    def read(self, query: Query) -> list[Recorded]:
        """The matching recorded events; UndecodableEntryError names the first that cannot be decoded."""

    def position_at(self, moment: datetime) -> int:
        """The last position recorded at or before the moment; 0 when there is none."""

    def state(self) -> Hashable:
        """Something that is another as soon as anybody has committed anything to the store, this object included.

        As long as it is the same, whatever was read from the store since it was asked still holds. Never None. Cheap:
        meant to be polled.
        """

    def transaction(self) -> AbstractContextManager[Transaction]:
        """Takes the write lock, waiting for other writers, and commits when its block ends.

        Answered means durable: when leaving the block does not raise, what was appended has been synced. Raises
        StoreFullError or StoreBusyError with nothing written; DurabilityError when a sync failed, after which nobody
        knows what is on disk, and the process must end.
        """

    def close(self) -> None:
        """Closes the log; it is not used again."""


def pages(log: EventLog, query: Query) -> Iterable[list[Recorded]]:
    """The matching recorded events forwards, page by page, so that no read stays open between two of them."""
    after = query.after
    while page := log.read(_moved(query, after)):
        yield page
        after = page[-1].position
        if len(page) < query.limit:
            return


def _moved(query: Query, after: int) -> Query:
    return Query(
        after,
        query.until,
        query.stream,
        query.user,
        query.type,
        query.since,
        query.before,
        query.command_id,
        limit=query.limit,
    )
