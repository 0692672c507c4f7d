"""The overlay: read models in memory over what a transaction loaded, folded event by event, written once at the end.

Loaded set by set before anything is decided; what a decision reads without having said so is found by a read of its own
(and counted: `strays`), so that a forgotten declaration costs time, never correctness. Documents that nobody reads in
the batch (the hour's activity, say) wait and are loaded together at the end.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from events.errors import BookError, FoldError
from events.recorded import Recorded
from projections.projection import AnyProjection, IndexValue, encode_document
from projections.store import Change, ReadModelState, ReadModelTransaction, moved

_ABSENT = object()
Pair = tuple[Recorded, Recorded]
"""A recorded event as it stands in the book, and the same in plain text."""


class _Table:
    """One projection's documents in the overlay."""

    def __init__(self, projection: AnyProjection) -> None:
        self.projection = projection
        self.decoder = _decoder_of(projection.document)
        self.stored: dict[str, bytes] = {}
        self.documents: dict[str, Any] = {}
        self.known: set[str] = set()
        self.found: dict[tuple[str, IndexValue], dict[str, None]] = {}
        self.counts: dict[tuple[str, IndexValue], int] = {}
        self.touched: set[str] = set()
        self.late: dict[str, list[Recorded]] = defaultdict(list)

    def put(self, key: str, doc: Struct | None) -> None:
        """Puts or drops a document, and keeps the index values that were asked for up with it."""
        if self.found and (before := self.documents.get(key)) is not None:
            for index in self.projection.indexes:
                self.found.get((index.name, index.value(before)), {}).pop(key, None)
        if doc is None:
            self.documents.pop(key, None)
        else:
            self.documents[key] = doc
            self.enter(key, doc)

    def count(self, before: Struct | None, after: Struct | None) -> None:
        """Keeps the counts that were asked for up with a document that changes."""
        for index in self.projection.indexes:
            for doc, step in ((before, -1), (after, 1)):
                place = index.name, None if doc is None else index.value(doc)
                if place in self.counts:
                    self.counts[place] += step

    def enter(self, key: str, doc: Struct) -> None:
        """Enters a document under the index values that were asked for."""
        if self.found:
            for index in self.projection.indexes:
                members = self.found.get((index.name, index.value(doc)))
                if members is not None:
                    members[key] = None


_decoders: dict[type[Struct], msgspec.json.Decoder[Any]] = {}


def _decoder_of(document: type[Struct]) -> msgspec.json.Decoder[Any]:
    """Made once for all batches: making one costs more than most batches need it for."""
    decoder = _decoders.get(document)
    if decoder is None:
        decoder = _decoders[document] = msgspec.json.Decoder(document)
    return decoder


class Overlay:
    """See the module. `head` is the position that the store stands at: what is keyed beyond it is not in the store."""

    def __init__(self, store: ReadModelTransaction, projections: Iterable[AnyProjection], head: int) -> None:
        self._store = store
        self._head = head
        self._tables = {projection.name: _Table(projection) for projection in projections}
        self.strays = 0

    def load(self, name: str, keys: Iterable[str]) -> None:
        """Brings the documents under these keys to hand, in one read, or none where all are."""
        table = self._tables[name]
        missing = {key for key in keys if key not in table.known and not self._beyond(table, key)}
        if missing:
            self._take(table, self._store.load(table.projection, missing))
            table.known |= missing

    def load_found(self, name: str, index: str, values: Iterable[IndexValue]) -> None:
        """Brings the documents that have one of the values in that index to hand, in one read."""
        table = self._tables[name]
        missing = {value for value in values if (index, value) not in table.found}
        if missing:
            table.found |= {(index, value): {} for value in missing}
            for key, doc in table.documents.items():
                table.enter(key, doc)
            self._take(table, self._store.load_found(table.projection, index, missing))

    def load_counts(self, name: str, index: str, values: Iterable[IndexValue]) -> None:
        """Brings to hand how many documents have each of the values in that index, in one read."""
        table = self._tables[name]
        missing = {value for value in values if (index, value) not in table.counts}
        if missing:
            fresh = {
                (index, value): count
                for value, count in self._store.count_found(table.projection, index, missing).items()
            }
            known, table.counts = table.counts, fresh
            for key in table.touched:
                stored = table.stored.get(key)
                table.count(None if stored is None else table.decoder.decode(stored), table.documents.get(key))
            table.counts = known | fresh

    def get(self, name: str, key: str) -> Any:  # noqa: ANN401 - the document of any projection
        """The document under the key, as the commands decided so far have left it."""
        table = self._tables[name]
        if key not in table.known and not self._beyond(table, key):
            self.strays += 1
            self.load(name, (key,))
        self._fold_late(table, (key,))
        return table.documents.get(key)

    def find(self, name: str, index: str, value: IndexValue) -> list[Any]:
        """The documents with that value in the index, as the commands decided so far have left them."""
        table = self._tables[name]
        if (index, value) not in table.found:
            self.strays += 1
            self.load_found(name, index, (value,))
        if table.late:
            self._settle(table)
        return [table.documents[key] for key in table.found[index, value]]

    def count(self, name: str, index: str, value: IndexValue) -> int:
        """How many documents have that value in the index, as the commands decided so far have left them."""
        table = self._tables[name]
        if (index, value) not in table.counts:
            self.strays += 1
            self.load_counts(name, index, (value,))
        if table.late:
            self._settle(table)
        return table.counts[index, value]

    def apply(self, pairs: Sequence[Pair]) -> None:
        """Folds one command's events, all of them or, when a fold fails (FoldError), none."""
        fresh: dict[tuple[str, str], Any] = {}
        late: list[tuple[_Table, str, Recorded]] = []
        for table in self._tables.values():
            projection = table.projection
            for sealed, plain in pairs:
                recorded = plain if projection.opened else sealed
                if type(recorded.event) not in projection.handles:
                    continue
                for key in _keys(projection, recorded):
                    if key in table.late or (key not in table.known and not self._beyond(table, key)):
                        late.append((table, key, recorded))
                        continue
                    place = (projection.name, key)
                    doc = fresh.get(place, _ABSENT)
                    if doc is _ABSENT:
                        doc = table.documents.get(key)
                    fresh[place] = _evolve(projection, key, doc, recorded)
        for (name, key), doc in fresh.items():
            self._set(self._tables[name], key, doc)
        for table, key, recorded in late:
            table.late[key].append(recorded)

    def changes(self) -> dict[str, dict[str, Change]]:
        """What is to be written: for each projection, the documents that are others than those stored."""
        changed: dict[str, dict[str, Change]] = {}
        for name, table in self._tables.items():
            self._settle(table)
            changed[name] = {key: change for key in table.touched if (change := self._change(table, key)) is not None}
        return changed

    def write(self, states: dict[str, ReadModelState], position: int) -> dict[str, ReadModelState]:
        """Writes every change and says where each read model stands now, at that position of the log."""
        after: dict[str, ReadModelState] = {}
        for name, changes in self.changes().items():
            if changes:
                self._store.write(self._tables[name].projection, changes)
            after[name] = moved(states[name], changes, position)
        self._store.put_states(after)
        return after

    def _change(self, table: _Table, key: str) -> Change | None:
        before, doc = table.stored.get(key), table.documents.get(key)
        if doc is None:
            return None if before is None else Change(before, None)
        after = encode_document(doc)
        if after == before:
            return None
        return Change(before, after, tuple(index.value(doc) for index in table.projection.indexes))

    def _beyond(self, table: _Table, key: str) -> bool:
        return table.projection.keyed_by_position and int(key) > self._head

    def _take(self, table: _Table, stored: dict[str, bytes]) -> None:
        for key, document in stored.items():
            # What is at hand already may have been folded further; the store's copy is the older one.
            if key in table.stored or key in table.touched:
                continue
            table.stored[key] = document
            table.put(key, table.decoder.decode(document))
            table.known.add(key)

    def _set(self, table: _Table, key: str, doc: Struct | None) -> None:
        table.touched.add(key)
        if table.counts:
            table.count(table.documents.get(key), doc)
        table.put(key, doc)

    def _settle(self, table: _Table) -> None:
        if table.late:
            self.load(table.projection.name, list(table.late))
            self._fold_late(table, list(table.late))

    def _fold_late(self, table: _Table, keys: Iterable[str]) -> None:
        for key in keys:
            if key not in table.late:
                continue
            doc = table.documents.get(key)
            for recorded in table.late[key]:
                doc = _evolve(table.projection, key, doc, recorded)
            # Only now: were one of them lost in a failure, the batch would be written without what it does.
            del table.late[key]
            self._set(table, key, doc)


def _keys(projection: AnyProjection, recorded: Recorded) -> tuple[str, ...]:
    try:
        return projection.keys(recorded)
    except BookError:
        raise
    except Exception as error:
        # Whatever a fold raises is a fault of ours: it refuses this command and is named with its place.
        raise FoldError(projection.name, recorded.position, repr(error)) from error


def _evolve(projection: AnyProjection, key: str, doc: Any, recorded: Recorded) -> Any:  # noqa: ANN401 - any projection's document
    try:
        return projection.evolve(key, doc, recorded)
    except BookError:
        raise
    except Exception as error:
        # As above.
        raise FoldError(projection.name, recorded.position, repr(error)) from error
