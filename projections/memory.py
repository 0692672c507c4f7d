"""The read-model store in dictionaries: the fake that the contract tests hold to the same promises as the real ones."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from events.memory import MemoryTransaction
from projections.projection import AnyProjection, IndexValue
from projections.store import PAGE, Change, ReadModelState, Row


class MemoryReadModels:
    """The `ReadModels` in dictionaries."""

    def __init__(self, projections: Iterable[AnyProjection]) -> None:
        self._rows: dict[str, dict[str, Row]] = defaultdict(dict)
        self._states = {projection.name: ReadModelState(projection.revision) for projection in projections}

    def states(self) -> dict[str, ReadModelState]:
        """Where each read model stands."""
        return dict(self._states)

    def outdated(self) -> list[AnyProjection]:
        """None: what is in memory was folded by this process."""
        return []

    def get(self, projection: AnyProjection, key: str) -> bytes | None:
        """The document under the key."""
        row = self._rows[projection.name].get(key)
        return None if row is None else row.document

    def find(
        self, projection: AnyProjection, index: str, value: IndexValue, *, after: str = "", limit: int = PAGE
    ) -> list[tuple[str, bytes]]:
        """Documents whose index has that value."""
        rows = self.scan(projection, after=after, limit=len(self._rows[projection.name]))
        return [(row.key, row.document) for row in rows if value is not None and row.indexed[index] == value][:limit]

    def count(self, projection: AnyProjection, index: str, value: IndexValue = None) -> int:
        """How many documents have that value in the index, or any."""
        indexed = [row.indexed[index] for row in self._rows[projection.name].values()]
        return sum(one is not None and value in {None, one} for one in indexed)

    def up_to(self, projection: AnyProjection, index: str, value: int, *, limit: int = PAGE) -> list[tuple[str, bytes]]:
        """Documents whose index is at most that value, lowest first."""
        found = [
            (indexed, row)
            for row in self._rows[projection.name].values()
            if isinstance(indexed := row.indexed[index], int) and indexed <= value
        ]
        return [(row.key, row.document) for _, row in sorted(found, key=lambda pair: pair[0])[:limit]]

    def scan(self, projection: AnyProjection, *, after: str = "", limit: int = PAGE) -> list[Row]:
        """All rows in order of key."""

        def order(key: str) -> tuple[int, str]:
            return (int(key or 0), "") if projection.keyed_by_position else (0, key)

        rows = [row for row in self._rows[projection.name].values() if not after or order(row.key) > order(after)]
        return sorted(rows, key=lambda row: order(row.key))[:limit]

    def within(self, transaction: object) -> MemoryReadModelTransaction:
        """The read models inside a transaction of a `MemoryLog`."""
        assert isinstance(transaction, MemoryTransaction)  # noqa: S101 - a log and its read models are made as a pair
        return MemoryReadModelTransaction(self, self._rows, self._states, transaction)


class MemoryReadModelTransaction:
    """The read models inside the write transaction: writes wait for the log's commit."""

    def __init__(
        self,
        store: MemoryReadModels,
        rows: dict[str, dict[str, Row]],
        states: dict[str, ReadModelState],
        transaction: MemoryTransaction,
    ) -> None:
        self._store = store
        self._rows = rows
        self._states = states
        self._transaction = transaction

    def states(self) -> dict[str, ReadModelState]:
        """Where each read model stands."""
        return self._store.states()

    def load(self, projection: AnyProjection, keys: Iterable[str]) -> dict[str, bytes]:
        """The stored documents under those keys."""
        rows = self._rows[projection.name]
        return {key: rows[key].document for key in keys if key in rows}

    def load_found(self, projection: AnyProjection, index: str, values: Iterable[IndexValue]) -> dict[str, bytes]:
        """The stored documents whose index has one of the values."""
        asked = set(values) - {None}
        return {row.key: row.document for row in self._rows[projection.name].values() if row.indexed[index] in asked}

    def count_found(self, projection: AnyProjection, index: str, values: Iterable[IndexValue]) -> dict[IndexValue, int]:
        """How many documents have each of these values in the index."""
        indexed = [row.indexed[index] for row in self._rows[projection.name].values()]
        return {value: 0 if value is None else indexed.count(value) for value in values}

    def write(self, projection: AnyProjection, changes: Mapping[str, Change]) -> None:
        """Puts and deletes documents when the log commits."""
        rows = self._rows[projection.name]
        names = [index.name for index in projection.indexes]

        def commit() -> None:
            for key, change in changes.items():
                if change.after is None:
                    rows.pop(key, None)
                else:
                    rows[key] = Row(key, change.after, dict(zip(names, change.indexed, strict=True)))

        self._transaction.on_commit.append(commit)

    def put_states(self, states: Mapping[str, ReadModelState]) -> None:
        """Says where the read models stand when the log commits."""
        self._transaction.on_commit.append(lambda: self._states.update(states))
