"""Looking at a store that came back: whether everything that was answered is in it, and nothing half."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Literal

import apsw

from events.errors import BookError
from events.log import Query, pages
from events.recorded import Entry, Recorded
from events.sealing import open_event
from projections.sqlite_verify import SQLiteEvidence
from projections.verify import verify
from service.book import Book, StoreAddress, open_book
from tests.durability.disk import Image

Part = Literal["log", "keys"]


def address_in(folder: Path) -> StoreAddress:
    """A store in that folder whose master key is given, so that no file of ours holds it."""
    return StoreAddress(folder / "gatebook.db", master_key="A" * 43 + "=")


def laid_out(image: Image, folder: Path) -> StoreAddress:
    """The image as files in a new folder."""
    folder.mkdir(parents=True)
    for name, data in image.items():
        (folder / name).write_bytes(data)
    return address_in(folder)


def connection(book: Book, part: Part) -> apsw.Connection:
    """The SQLite connection behind one part of a book."""
    behind: apsw.Connection = getattr(book.log, "connection") if part == "log" else getattr(book.keys, "_connection")  # noqa: B009 - no contract names it
    return behind


def faults(
    address: StoreAddress,
    answered: Sequence[Recorded] = (),
    *,
    whole: Sequence[Entry] | None = None,
    ends: Collection[int] | None = None,
) -> list[str]:
    """What is wrong with the store, in sentences; none when it is as it should be.

    `answered` are the events, in plain text, that somebody was told of. `whole` are the entries as they were to be, of
    which the book must be a beginning; `ends` the positions after which a batch ended.
    """
    try:
        book = open_book(address, create=True)
    except BookError as error:
        return [f"it does not open: {error!r}"]
    try:
        return [*_wrong(book), *_missing(book, answered), *_strange(book, whole, ends)]
    except BookError as error:
        return [f"it cannot be read: {error!r}"]
    finally:
        book.close()


def verified(book: Book) -> str | None:
    """The sentence of the first fault that `verify` finds, with everything sealed opened."""
    found = verify(SQLiteEvidence(book.log, book.read_models), book.projections, keyring=book.keyring)
    return None if found.fault is None else found.fault.sentence


def _wrong(book: Book) -> Iterator[str]:
    sentence = verified(book)
    if sentence is not None:
        yield sentence


def _missing(book: Book, answered: Sequence[Recorded]) -> Iterator[str]:
    there = {recorded.position: recorded for page in pages(book.log, Query()) for recorded in page}
    for recorded in answered:
        found = there.get(recorded.position)
        if found is None:
            yield f"position {recorded.position} was answered and is lost"
            continue
        try:
            opened = open_event(found, book.keyring)
        except BookError as error:
            yield f"position {recorded.position} does not open: {error!r}"
            continue
        if opened != recorded:
            yield f"position {recorded.position} is another event than the one that was answered"


def _strange(book: Book, whole: Sequence[Entry] | None, ends: Collection[int] | None) -> Iterator[str]:
    head = book.log.head().position
    if ends is not None and head not in ends:
        yield f"it ends at {head}, in the middle of a batch"
    if whole is not None and book.log.entries(Query(limit=len(whole) + 1)) != list(whole[:head]):
        yield "its entries are not those that were written"
