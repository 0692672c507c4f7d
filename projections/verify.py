"""Verification: that a book is whole, says what its columns say, and adds up to the read models beside it.

The log is read in pages, so that the service goes on writing and its write-ahead log can be reset. Only what came since
the last page, the head, and the rows of the read models are read under one snapshot, at the end. At hand in memory are
one page of entries, four bytes for each position (the versions of the streams) and the documents of the replay.

What it cannot find: a book that was rewritten as a whole, consistently, by somebody with the keys. Against that stands
the tree root that it gives, held against one that was noted down elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Final, Protocol

from msgspec import Struct

from events import merkle
from events.errors import FoldError, UndecodableEntryError, UnreadableTextError
from events.keys import Keyring
from events.log import Head
from events.recorded import Entry, Recorded
from projections.faults import Fault, shown
from projections.projection import AnyProjection
from projections.replay import Replay
from projections.store import ReadModelState, Row
from projections.verify_entries import EntryChecks
from projections.verify_rows import Digests, check_read_model, check_states

Progress = Callable[[int, int], None]
"""Hears the position verified to and the position that the book ended at, after each page."""

WITHOUT_KEYS: Final = (
    "Without keys, names was not compared with the book.",
    "Without keys, sealed values were not opened, and the key store was not checked.",
)


class Evidence(Protocol):
    """What a store shows of itself for verification: its columns as they stand, whatever they hold.

    Outside `snapshot` each read sees what was committed last; inside, all see one state. StoreError where the store
    cannot be read at all, UnreadableTextError where a column of text holds none.
    """

    def snapshot(self) -> AbstractContextManager[None]:
        """A block in which every read sees the same state of the whole store. Kept short by whoever opens it."""

    def span(self) -> tuple[int, int]:
        """The lowest and the highest position in the log, whatever the head says; 1 and 0 when it is empty."""

    def entries(self, after: int) -> list[Entry]:
        """The next page of entries, columns and bytes; UndecodableEntryError where the next one cannot be read."""

    def head(self) -> Head | None:
        """The head, as it is stored; ValueError when its frontier is not whole hashes."""

    def catalogue(self) -> tuple[str, ...]:
        """The event types that the book says it may hold."""

    def states(self) -> dict[str, ReadModelState]:
        """Where each read model says it stands."""

    def rows(self, projection: AnyProjection) -> Iterator[Row]:
        """Every row of the read model, whatever its key; LookupError when its table or a column of that is missing."""

    def schema_fault(self) -> Fault | None:
        """What is missing from the tables of the book, or stands there and is not ours: an append-only trigger, say."""


class Verification(Struct, frozen=True):
    """What a verification found. Sound when `fault` is None.

    `position` is how far entries were found in order, `root` the RFC 6962 tree root over them, in hex. `read_models` is
    empty when keys, log or head are at fault: there is then nothing to hold them against. `left_out` says what was not
    looked at, in sentences.
    """

    position: int
    root: str
    read_models: tuple[Digests, ...]
    fault: Fault | None
    left_out: tuple[str, ...]


def verify(
    evidence: Evidence,
    projections: Iterable[AnyProjection],
    *,
    keyring: Keyring | None = None,
    progress: Progress | None = None,
) -> Verification:
    """Verifies a whole book, all that is sealed opened when there is a keyring; stops at the first fault of the log.

    Works while the service runs; what it appends meanwhile is verified too. Raises StoreError when the store cannot be
    read at all; whatever is wrong with what was read is a `Fault`.
    """
    return _Run(evidence, tuple(projections), keyring, progress).run()


class _Run:
    """One verification under way."""

    def __init__(
        self,
        evidence: Evidence,
        projections: tuple[AnyProjection, ...],
        keyring: Keyring | None,
        progress: Progress | None,
    ) -> None:
        self._evidence = evidence
        self._projections = projections
        self._keyring = keyring
        self._progress = progress
        self._checks = EntryChecks(keyring)
        self._replay = Replay(projections, None if keyring is None else self._checks.opened)

    def run(self) -> Verification:
        """See `verify`."""
        fault = self._check_keys() or self._walk()
        if fault is not None:
            return self._found(fault)
        with self._evidence.snapshot():
            fault = self._walk() or self._check_book()
            if fault is not None:
                return self._found(fault)
            return self._compare()

    def _check_keys(self) -> Fault | None:
        if self._keyring is None:
            return None
        try:
            broken = next(self._keyring.broken(), None)
        except UnreadableTextError:
            return Fault("key", "The key store's table service_key holds bytes that are no text.", table="service_key")
        if broken is None:
            return None
        sentence = f"In the key store's table {broken.table}, the key of {shown(broken.row)} does not open: it is not"
        sentence += " the one that the master key wrapped for it."
        return Fault("key", sentence, None, broken.table, broken.row)

    def _walk(self) -> Fault | None:
        """Checks and folds every entry from where it stands to the end of the log."""
        lowest, end = self._evidence.span()
        if lowest < 1:
            return Fault("gap", f"An entry stands at position {lowest}, before the first.", lowest, "log", str(lowest))
        while True:
            try:
                page = self._evidence.entries(self._checks.position)
            except UndecodableEntryError as error:
                return Fault("undecodable", str(error), error.position, "log")
            if not page:
                return None
            fault = self._take(page)
            if fault is not None:
                return fault
            if self._progress is not None:
                self._progress(self._checks.position, max(end, self._checks.position))

    def _take(self, page: list[Entry]) -> Fault | None:
        events: list[Recorded] = []
        fault = self._checks.page(page, events)
        try:
            self._replay.fold(events)
        except FoldError as error:
            return Fault("fold", str(error), error.position, "log")
        return fault

    def _check_book(self) -> Fault | None:
        """What stands beside the log: its head, its catalogue, its tables."""
        return self._check_head() or self._checks.catalogue(self._evidence.catalogue()) or self._evidence.schema_fault()

    def _check_head(self) -> Fault | None:
        checks = self._checks
        try:
            head = self._evidence.head()
        except ValueError as error:
            return Fault("head", f"The head cannot be read: {error}.", None, "head", column="frontier")
        if head is None:
            return Fault("head", "The table head has lost its row.", None, "head")
        for column, said, found in (
            ("position", head.position, checks.position),
            ("at", head.at, checks.at),
            ("frontier", merkle.pack(head.frontier), merkle.pack(checks.frontier)),
        ):
            if said != found:
                sentence = f"The head's {column} is not what the log adds up to at position {checks.position}."
                return Fault("head", sentence, checks.position, "head", column=column)
        return None

    def _compare(self) -> Verification:
        """The read models against the replay, all of them, so that every digest is told."""
        states, fault = check_states(self._evidence, self._projections, self._checks.position)
        told: list[Digests] = []
        for projection in self._projections:
            folded = self._replay.documents.get(projection.name)
            digests, found = check_read_model(
                self._evidence, projection, states.get(projection.name), folded, self._checks.position
            )
            told.append(digests)
            fault = fault or found
        return self._found(fault, tuple(told))

    def _found(self, fault: Fault | None, told: tuple[Digests, ...] = ()) -> Verification:
        root = merkle.root(self._checks.frontier).hex()
        left_out = WITHOUT_KEYS if self._keyring is None else ()
        return Verification(self._checks.position, root, told, fault, left_out)
