"""The part of verification that looks at entries: positions, versions, time, bytes, columns, leaves, sealed values."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

import msgspec

from events import merkle
from events.catalogue import BY_WIRE_NAME, PERSONAL_FIELDS, Personal, is_position, user_of, wire_name
from events.errors import SealError, UndecodableEntryError
from events.keys import Keyring
from events.recorded import MAX_ENTRY_BYTES, Entry, Recorded, decode, to_microseconds
from events.sealing import open_event
from events.upcasting import UPCASTERS
from projections.faults import Fault, FaultKind

OWN_STREAMS: Final = ("user", "session")
"""The kinds of stream that are numbered by the position of their first event."""


class Versions:
    """The last version of every stream, in a few bytes for each position.

    The streams of users and sessions are numbered by the position of their first event, so that two arrays do for them.
    """

    def __init__(self) -> None:
        self._numbered = {kind: array("I") for kind in OWN_STREAMS}
        self._named: dict[str, int] = {}

    def follow(self, stream: str, version: int, position: int) -> str | None:
        """Takes the next event of a stream; a sentence when it does not follow the one before."""
        kind, _, number = stream.partition("-")
        numbered = self._numbered.get(kind)
        if numbered is None:
            last = self._named.get(stream, 0)
            if version == last + 1:
                self._named[stream] = version
                return None
            return f"its version is {version}, and {last + 1} is the next of its stream"
        if not is_position(number) or (first := int(number)) > position:
            return "its stream is named for no position up to here"
        last = numbered[first] if first < len(numbered) else 0
        if version != last + 1:
            return f"its version is {version}, and {last + 1} is the next of its stream"
        if version == 1:
            if first != position:
                return f"its stream begins here, and is not named for position {position}"
            numbered.frombytes(bytes(numbered.itemsize * (first + 1 - len(numbered))))
        numbered[first] = version
        return None


class EntryChecks:
    """Checks entries in order. `position`, `at` and `frontier` are those of the last that was found right."""

    def __init__(self, keyring: Keyring | None) -> None:
        self.position = 0
        self.at = 0
        self.frontier: tuple[bytes, ...] = ()
        self._keyring = keyring
        self._versions = Versions()
        self._types: dict[str, int] = {}
        self._plain: dict[int, Recorded] = {}

    def page(self, entries: Iterable[Entry], events: list[Recorded]) -> Fault | None:
        """Checks a page of entries and adds those that are right to `events`; the first fault ends it."""
        self._plain.clear()
        size, leaves = self.position, []
        fault = None
        for entry in entries:
            fault = self._entry(entry, events)
            if fault is not None:
                break
            leaves.append(entry.leaf)
            self.position, self.at = entry.position, entry.at
        self.frontier = merkle.extend(size, self.frontier, leaves)
        # What is sealed wrongly stands before whatever ended the page.
        return self._check_seals(events) or fault

    def opened(self, recorded: Recorded) -> Recorded:
        """An event of the page in plain text."""
        return self._plain.get(recorded.position, recorded)

    def catalogue(self, known: tuple[str, ...]) -> Fault | None:
        """Holds the book's own list of event types against the types that were met."""
        for name in known:
            if name not in BY_WIRE_NAME and name not in UPCASTERS:
                sentence = "The book's catalogue names an event type that this gatebook does not know."
                return Fault("catalogue", sentence, None, "book", column="catalogue")
        if list(known) != sorted(set(known)):
            sentence = "The book's catalogue is not in order; no gatebook writes it so."
            return Fault("catalogue", sentence, None, "book", column="catalogue")
        for name, position in self._types.items():
            if name not in known:
                sentence = f"The book's catalogue leaves out {name}, which stands at position {position}."
                return Fault("catalogue", sentence, position, "book", column="catalogue")
        return None

    def _entry(self, entry: Entry, events: list[Recorded]) -> Fault | None:
        position, data = entry.position, entry.data
        if position != self.position + 1:
            missing = self.position + 1
            return Fault("gap", f"The log has no entry at position {missing}; {position} is next.", missing, "log")
        if len(data) > MAX_ENTRY_BYTES:
            sentence = f"The entry at position {position} has {len(data)} bytes, more than {MAX_ENTRY_BYTES}."
            return _fault("too_large", sentence, position, "entry")
        if merkle.leaf_hash(data) != entry.leaf:
            sentence = f"The leaf of position {position} is not the hash of its entry: one of the two was changed."
            return _fault("leaf", sentence, position, "leaf")
        try:
            recorded = decode(data, position)
            column = _differing_column(entry, recorded)
        except UndecodableEntryError as error:
            return _fault("undecodable", str(error), position, "entry")
        except (ValueError, TypeError, OverflowError):
            # A stream without its number, a moment without its zone.
            return _fault("undecodable", f"The entry at position {position} makes no sense.", position, "entry")
        if column is not None:
            sentence = f"The column {column} of position {position} is not what the entry says."
            return _fault("column", sentence, position, column)
        wrong = self._versions.follow(entry.stream, entry.version, position)
        if wrong is not None:
            return _fault("version", f"Position {position} is out of order: {wrong}.", position, "version")
        if entry.at < self.at:
            sentence = f"Position {position} was recorded before the one that precedes it: time went back."
            return _fault("time", sentence, position, "at")
        self._types.setdefault(entry.type, position)
        events.append(recorded)
        return None

    def _check_seals(self, events: list[Recorded]) -> Fault | None:
        """Every personal value is sealed for its own place and, when there are keys, opens.

        What follows a fault is taken off `events`.
        """
        subjects = [self._subject(recorded) for recorded in events]
        if self._keyring is not None:
            # One read of the key store for the page. A key that does not open is named by the event that needs it.
            with suppress(SealError):
                self._keyring.prepare(subject for subject in subjects if subject)
        for count, (recorded, subject) in enumerate(zip(events, subjects, strict=True)):
            if subject is None:
                continue
            wrong = _misplaced(recorded, subject) or self._open(recorded)
            if wrong is not None:
                del events[count:]
                return _fault(
                    "seal", f"Position {recorded.position} is sealed wrongly: {wrong}", recorded.position, "entry"
                )
        return None

    def _subject(self, recorded: Recorded) -> int | None:
        """Whose key the event's personal values are sealed under; 0 for nobody's, None when it has no such value."""
        for field in PERSONAL_FIELDS[type(recorded.event)]:
            if getattr(recorded.event, field) is not None:
                return user_of(recorded.stream, recorded.event) or 0
        return None

    def _open(self, recorded: Recorded) -> str | None:
        if self._keyring is None:
            return None
        try:
            self._plain[recorded.position] = open_event(recorded, self._keyring)
        except SealError as error:
            return str(error)
        except UnicodeDecodeError:
            return "what it seals is no text."
        return None


def _misplaced(recorded: Recorded, subject: int) -> str | None:
    """A sentence when a personal value is plain, or sealed for another place than the one where it stands."""
    for field in PERSONAL_FIELDS[type(recorded.event)]:
        value: Personal | None = getattr(recorded.event, field)
        if isinstance(value, str):
            return f"its {field} stands in plain text."
        if value is not None and (value.subject, value.stream, value.position, value.field) != (
            subject,
            recorded.stream,
            recorded.position,
            field,
        ):
            return f"its {field} was sealed for another place."
    return None


def _differing_column(entry: Entry, recorded: Recorded) -> str | None:
    """The first column that is not what the entry's bytes say."""
    event = recorded.event
    if entry.stream != recorded.stream:
        return "stream"
    if entry.version != recorded.version:
        return "version"
    if entry.at != to_microseconds(recorded.at):
        return "at"
    # A retired shape keeps the wire name that it was recorded under.
    if entry.type != wire_name(event) and (entry.type not in UPCASTERS or entry.type != _recorded_type(entry.data)):
        return "type"
    if entry.user_id != user_of(recorded.stream, event):
        return "user_id"
    if entry.command_id != recorded.command_id:
        return "command_id"
    return None


def _recorded_type(data: bytes) -> str:
    return str(msgspec.json.decode(data)["event"]["type"])


def _fault(kind: FaultKind, sentence: str, position: int, column: str) -> Fault:
    return Fault(kind, sentence, position, "log", str(position), column)
