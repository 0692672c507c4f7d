"""The stores in memory: the fakes that the same contract tests hold to the same promises as the real ones.

For tests of what stands above them. They promise everything but durability.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from threading import Lock
from uuid import uuid4

from events.errors import StoreError
from events.keys import ServiceKey
from events.log import Head, Query
from events.recorded import Entry, Recorded, decode, to_microseconds


class MemoryTransaction:
    """The write transaction of a store in memory: entries wait here until the commit; others join its roll-back."""

    def __init__(self, log: MemoryLog) -> None:
        self._log = log
        self.head = log.head()
        self.appended: list[Entry] = []
        self.on_commit: list[Callable[[], None]] = []

    def versions(self, streams: Iterable[str]) -> dict[str, int]:
        """The last version of each stream that has one, the entries appended here included."""
        asked = set(streams)
        return {entry.stream: entry.version for entry in [*self._log.stored, *self.appended] if entry.stream in asked}

    def append(self, entries: Sequence[Entry]) -> None:
        """Adds the entries and moves the head; StoreError where a position or a version leaves a gap."""
        for entry in entries:
            expected = self.versions((entry.stream,)).get(entry.stream, 0) + 1
            if entry.position != self.head.position + 1 or entry.version != expected:
                raise StoreError("the log is append-only: positions and versions have no gaps")
            self.appended.append(entry)
            self.head = self.head.after((entry,))


class MemoryLog:
    """The `EventLog` in a list."""

    def __init__(self) -> None:
        self.book_id = uuid4().hex
        self.stored: list[Entry] = []
        self._head = Head()
        self._commits = 0
        self._lock = Lock()

    def head(self) -> Head:
        """Where the book ends."""
        return self._head

    def entries(self, query: Query) -> list[Entry]:
        """The matching entries."""
        since = 0 if query.since is None else to_microseconds(query.since)
        before = None if query.before is None else to_microseconds(query.before)
        found = [
            entry
            for entry in self.stored
            if entry.position > query.after
            and (query.until is None or entry.position <= query.until)
            and entry.at >= since
            and (before is None or entry.at < before)
            and query.stream in {None, entry.stream}
            and query.user in {None, entry.user_id}
            and query.type in {None, entry.type}
            and query.command_id in {None, entry.command_id}
        ]
        return (found[::-1] if query.backwards else found)[: query.limit]

    def read(self, query: Query) -> list[Recorded]:
        """The matching recorded events."""
        return [decode(entry.data, entry.position) for entry in self.entries(query)]

    def position_at(self, moment: datetime) -> int:
        """The last position recorded at or before the moment."""
        return bisect_right([entry.at for entry in self.stored], to_microseconds(moment))

    def state(self) -> Hashable:
        """How often something was committed."""
        return self._commits

    @contextmanager
    def transaction(self) -> Iterator[MemoryTransaction]:
        """The write transaction: what joined it takes effect together, at the end of the block."""
        with self._lock:
            transaction = MemoryTransaction(self)
            yield transaction
            self.stored.extend(transaction.appended)
            self._head = transaction.head
            self._commits += 1
            for commit in transaction.on_commit:
                commit()

    def close(self) -> None:
        """Nothing is held that would need closing."""


class MemoryKeyStore:
    """The `KeyStore` in dictionaries."""

    def __init__(self, book_id: str) -> None:
        self.book_id = book_id
        self._subjects: dict[int, bytes] = {}
        self._service: dict[str, ServiceKey] = {}

    def subject_keys(self, subjects: Iterable[int]) -> dict[int, bytes]:
        """The wrapped keys of those subjects that have one."""
        return {subject: self._subjects[subject] for subject in subjects if subject in self._subjects}

    def put_subject_keys(self, wrapped: Mapping[int, bytes]) -> None:
        """Keeps the keys of new subjects."""
        self._subjects.update(wrapped)

    def all_subject_keys(self) -> Iterator[tuple[int, bytes]]:
        """Every subject with its wrapped key."""
        yield from self._subjects.items()

    def service_keys(self, prefix: str = "") -> list[ServiceKey]:
        """The service's own keys whose names begin so."""
        return [key for name, key in sorted(self._service.items()) if name.startswith(prefix)]

    def service_key(self, name: str) -> ServiceKey | None:
        """The service's key of that purpose."""
        return self._service.get(name)

    def put_service_key(self, key: ServiceKey, *, replacing: bytes | None) -> bool:
        """Keeps the key unless the present one is another than `replacing`."""
        present = self._service.get(key.name)
        if (present.wrapped if present else None) != replacing:
            return False
        self._service[key.name] = key
        return True

    def destroy_service_key(self, name: str) -> bool:
        """Forgets the key."""
        return self._service.pop(name, None) is not None

    def close(self) -> None:
        """Nothing is held that would need closing."""
