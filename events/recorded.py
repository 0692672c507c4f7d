"""The recorded event (an event with its envelope) and its entry: the bytes that are stored, hashed and exported."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
from msgspec import Struct

from events import upcasting
from events.catalogue import Event, Moment, user_of, wire_name
from events.errors import EntryTooLargeError, UndecodableEntryError

MAX_ENTRY_BYTES: Final = 65_535
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


class Recorded(Struct, frozen=True, gc=False):
    """An event as it stands in the book.

    `position` counts 1, 2, 3, … over the whole log and `version` within the stream, both without gaps; `at` is UTC, in
    microseconds, and never earlier than the one before. `actor` is who caused it (`user-17`, `anonymous`, `operator`,
    `service`), `door` the contract it came through, `command_id` a UUID of version 7 in hex, ours alone.
    """

    position: int
    stream: str
    version: int
    at: Moment
    actor: str
    door: str
    command_id: str
    event: Event

    @property
    def type(self) -> str:
        """The event's wire name."""
        return wire_name(self.event)


class Entry(Struct, frozen=True, gc=False):
    """An encoded recorded event with the searchable copies of what it says, as the columns of a log hold them.

    `at` is microseconds since 1970-01-01 UTC. `leaf` is the RFC 6962 leaf hash of `data`.
    """

    position: int
    stream: str
    version: int
    at: int
    type: str
    user_id: int | None
    command_id: str
    data: bytes
    leaf: bytes


_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(Recorded)
_page_decoder: Final = msgspec.json.Decoder(list[Recorded])
_positions_decoder: Final = msgspec.json.Decoder(list[int])
_any_decoder: Final = msgspec.json.Decoder(dict[str, Any])


def to_microseconds(moment: datetime) -> int:
    """Microseconds since 1970-01-01 UTC."""
    return (moment - EPOCH) // _MICROSECOND


def from_microseconds(count: int) -> datetime:
    """The moment that many microseconds after 1970-01-01 UTC."""
    return EPOCH + timedelta(microseconds=count)


def encode(recorded: Recorded) -> bytes:
    """The entry's bytes: one JSON object, at most 65,535 bytes; EntryTooLargeError beyond."""
    data = _encoder.encode(recorded)
    if len(data) > MAX_ENTRY_BYTES:
        raise EntryTooLargeError(f"An entry of {len(data)} bytes exceeds the {MAX_ENTRY_BYTES} that one may have.")
    return data


def decode(data: bytes, position: int) -> Recorded:
    """The recorded event in an entry's bytes; retired shapes go through their upcaster.

    `position` is where the bytes were found, for the error: UndecodableEntryError, also when they say another one.
    """
    try:
        recorded = _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        recorded = _decode_retired(data, position, error)
    if recorded.position != position:
        raise UndecodableEntryError(position, f"it says that it stands at position {recorded.position}")
    return recorded


def decode_page(entries: str, positions: str, *, backwards: bool) -> list[Recorded]:
    """Many entries at once, as one JSON array, with the array of the positions where they were found.

    Raises msgspec.DecodeError or ValueError where any of them needs a closer look by `decode`.
    """
    page = _page_decoder.decode(entries)
    found = _positions_decoder.decode(positions)
    if [recorded.position for recorded in page] != found or found != sorted(found, reverse=backwards):
        raise ValueError("an entry stands at another position than it says, or out of order")
    return page


def _decode_retired(data: bytes, position: int, first: Exception) -> Recorded:
    try:
        raw = _any_decoder.decode(data)
        raised = upcasting.upcast(raw["event"])
        if raised is None:
            raise UndecodableEntryError(position, str(first)) from first
        return msgspec.convert({**raw, "event": raised}, Recorded)
    except (msgspec.DecodeError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        # An upcaster that meets what it was not written for raises any of these.
        raise UndecodableEntryError(position, str(error)) from error


def searchable(recorded: Recorded, data: bytes, leaf: bytes) -> Entry:
    """The entry with the columns that a log keeps beside its bytes."""
    return Entry(
        recorded.position,
        recorded.stream,
        recorded.version,
        to_microseconds(recorded.at),
        wire_name(recorded.event),
        user_of(recorded.stream, recorded.event),
        recorded.command_id,
        data,
        leaf,
    )
