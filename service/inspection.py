"""Inspection: what an admin may look at, out of a book, for a worker thread with a book of its own.

Personal fields are opened. Token digests and password hashes never leave, neither plain nor sealed; keys are nowhere in
what is read here. A seal that cannot be opened is shown as one, with the reason, and never ends the look.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from msgspec import UNSET, Struct, UnsetType

from events.catalogue import Sealed
from events.errors import SealError, UndecodableEntryError
from events.keys import Keyring
from events.log import Query
from events.recorded import Entry, Recorded, decode, from_microseconds
from events.sealing import KeyFinder, open_value
from projections.projection import AnyProjection, IndexValue
from service.book import Book
from service.shown import REDACTED, SECRET_FIELDS, ShownDocument, ShownEvent

Object = dict[str, Any]


class ProjectionView(Struct, frozen=True):
    """Where a read model stands. `lag` is how many entries of the book it has not folded yet."""

    name: str
    revision: int
    position: int
    lag: int
    documents: int
    digest: str
    indexes: tuple[str, ...]


class ProjectionsView(Struct, frozen=True):
    """All read models, and where the book ends."""

    head: int
    projections: list[ProjectionView]


class DocumentView(Struct, frozen=True):
    """A document under its key."""

    key: str
    document: ShownDocument


class DocumentsPage(Struct, frozen=True):
    """A page of documents; `next` is the `after` of the page behind it, None at the end."""

    projection: str
    documents: list[DocumentView]
    next: str | None


class DocumentThen(Struct, frozen=True, kw_only=True):
    """A document under its key as it is, or as it was after the `position`, where one was asked for."""

    projection: str
    key: str
    position: int | UnsetType = UNSET
    document: ShownDocument


class EventsPage(Struct, frozen=True):
    """A page of events; `next` is the next page's `after` (going backwards, its `before`), None at the end."""

    events: list[ShownEvent]
    next: int | None


def projections(book: Book) -> ProjectionsView:
    """Where each read model stands."""
    # The head first: read models move with it, so a lag is never shown that there is not.
    head = book.log.head().position
    states = book.read_models.states()
    return ProjectionsView(
        head,
        [
            ProjectionView(
                projection.name,
                state.revision,
                state.position,
                max(0, head - state.position),
                state.documents,
                state.digest,
                tuple(index.name for index in projection.indexes),
            )
            for projection in book.projections
            if (state := states.get(projection.name)) is not None
        ],
    )


def documents(
    book: Book, projection: AnyProjection, *, index: tuple[str, IndexValue] | None, after: str, limit: int
) -> DocumentsPage:
    """A page of documents in order of key, of all of them or of those whose index has that value."""
    if index is None:
        stored = [(row.key, row.document) for row in book.read_models.scan(projection, after=after, limit=limit + 1)]
    else:
        stored = book.read_models.find(projection, *index, after=after, limit=limit + 1)
    found = [(key, book.decode(projection, document)) for key, document in stored[:limit]]
    prepare_keys(book.keyring, (document for _, document in found))
    shown_ones = [DocumentView(key, shown(document, book.keyring)) for key, document in found]
    return DocumentsPage(projection.name, shown_ones, found[-1][0] if len(stored) > limit else None)


def document(book: Book, projection: AnyProjection, key: str) -> Object | None:
    """The document under the key as it is, None where there is none."""
    found = book.document(projection, key)
    return None if found is None else shown(found, book.keyring)


def events(book: Book, query: Query) -> EventsPage:
    """A page of events, at most the query's `limit`."""
    limit = query.limit
    entries = book.log.entries(_one_more(query))
    read = [decoded(entry) for entry in entries[:limit]]
    prepare_keys(book.keyring, (one.event for one in read if isinstance(one, Recorded)))
    cursor = entries[limit - 1].position if len(entries) > limit else None
    return EventsPage([one if isinstance(one, dict) else event_object(one, book.keyring) for one in read], cursor)


def event(book: Book, position: int) -> Object | None:
    """The event at that position, None where the book has none."""
    found = events(book, Query(after=position - 1, until=position, limit=1)).events
    return found[0] if found else None


def decoded(entry: Entry) -> Recorded | Object:
    """The recorded event; of an entry that cannot be decoded, what its columns say, and that it cannot."""
    try:
        return decode(entry.data, entry.position)
    except UndecodableEntryError:
        return {
            "position": entry.position,
            "stream": entry.stream,
            "version": entry.version,
            "at": from_microseconds(entry.at),
            "type": entry.type,
            "command_id": entry.command_id,
            "undecodable": True,
        }


def event_object(recorded: Recorded, key_of: KeyFinder) -> Object:
    """The recorded event as one object: its envelope, its type, and its own fields as `shown` shows them."""
    return {
        "position": recorded.position,
        "stream": recorded.stream,
        "version": recorded.version,
        "at": recorded.at,
        "actor": recorded.actor,
        "door": recorded.door,
        "command_id": recorded.command_id,
        "type": recorded.type,
        **shown(recorded.event, key_of),
    }


def shown(struct: Struct, key_of: KeyFinder) -> Object:
    """The fields of an event or a document, opened, without what never leaves."""
    return {
        name: REDACTED if name in SECRET_FIELDS else _shown(getattr(struct, name), key_of)
        for name in struct.__struct_fields__
    }


def prepare_keys(keyring: Keyring, structs: Iterable[Struct]) -> None:
    """Brings the keys of all subjects to hand in one read; one that cannot be unwrapped shows when it is used."""
    subjects = {
        value.subject
        for struct in structs
        for name in struct.__struct_fields__
        if isinstance(value := getattr(struct, name), Sealed)
    }
    try:
        keyring.prepare(subjects)
    except SealError:
        return


def _shown(value: object, key_of: KeyFinder) -> object:
    if isinstance(value, Sealed):
        try:
            return open_value(value, key_of)
        except SealError as error:
            return {"sealed": True, "reason": str(error)}
    if isinstance(value, Struct):
        return shown(value, key_of)
    if isinstance(value, tuple):
        return [_shown(one, key_of) for one in value]
    return value


def _one_more(query: Query) -> Query:
    return Query(**{name: getattr(query, name) for name in query.__struct_fields__} | {"limit": query.limit + 1})
