"""What a tail of the book reads at a time, and shows: for a reader's thread, with a book of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
from msgspec import Struct

from events.catalogue import AuditRead
from events.log import Query
from events.recorded import Recorded
from service import inspection
from service.book import Book

TARGET: Final = "events/follow"
"""What the look of a tail is called. Such looks are shown by no tail: two that showed each other's would never rest."""


class Shown(Struct, frozen=True):
    """One entry as a tail shows it: JSON, and whether it could be decoded."""

    position: int
    data: bytes
    undecodable: bool = False


class Skipped(Struct, frozen=True):
    """Positions that a tail passed by, first and last."""

    first: int
    last: int


class Page(Struct, frozen=True):
    """What one read of a tail found: perhaps that it skipped, the entries to show, and where it stands now."""

    skipped: Skipped | None
    shown: Sequence[Shown]
    position: int
    head: int


def read(book: Book, after: int, limit: int, backlog: int | None) -> Page:
    """The next entries beyond a position, at most so many, for a reader's thread.

    Where more than `backlog` entries are left, all but the newest are passed by.
    """
    head = book.log.head().position
    skipped = None
    if backlog is not None and head - after > backlog:
        skipped = Skipped(after + 1, head - min(limit, backlog))
        after = skipped.last
    entries = book.log.entries(Query(after=after, until=head, limit=limit))
    decoded = [inspection.decoded(entry) for entry in entries]
    inspection.prepare_keys(book.keyring, (one.event for one in decoded if isinstance(one, Recorded)))
    shown = [
        Shown(entry.position, msgspec.json.encode(inspection.event_object(one, book.keyring)))
        if isinstance(one, Recorded)
        else Shown(entry.position, msgspec.json.encode(one), undecodable=True)
        for entry, one in zip(entries, decoded, strict=True)
        if not _is_look_of_a_tail(one)
    ]
    return Page(skipped, shown, entries[-1].position if entries else head, head)


def _is_look_of_a_tail(one: Recorded | inspection.Object) -> bool:
    event = one.event if isinstance(one, Recorded) else None
    return isinstance(event, AuditRead) and event.target.startswith(TARGET)
