"""The read-model store in the log's own SQLite file: one table for each projection, one column for each index.

Sets of rows come back as one JSON array and go in as one statement of many rows: every step of a statement gives up the
GIL and waits for it again, so that a row at a time is slow beside a busy event loop.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import apsw
import msgspec

from events.errors import NewerStoreError, OlderStoreError
from events.log import Transaction
from events.sqlite import SQLiteTransaction
from events.sqlite_files import MAX_ROWS_A_STATEMENT, translated, translating, value_rows
from projections.projection import AnyProjection, IndexValue
from projections.store import PAGE, Change, ReadModelState, Row

STATES_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS read_model (
    name TEXT PRIMARY KEY, revision INTEGER NOT NULL, position INTEGER NOT NULL, documents INTEGER NOT NULL,
    digest TEXT NOT NULL
) STRICT, WITHOUT ROWID
"""
_rows_decoder: Final = msgspec.json.Decoder(list[tuple[str, msgspec.Raw]])
_AS_ONE: Final = """'[' || ifnull(group_concat('[' || json_quote(key || '') || ',' || document || ']'), '') || ']'"""


def table_of(projection: AnyProjection) -> str:
    """The name of the projection's table."""
    return f"read_{projection.name}"


def create_table(connection: apsw.Connection, projection: AnyProjection, table: str, suffix: str = "") -> None:
    """Makes the projection's table, empty, under that name, with one column and one SQL index for each index."""
    key = "key INTEGER PRIMARY KEY" if projection.keyed_by_position else "key TEXT PRIMARY KEY"
    columns = "".join(f", by_{index.name} ANY" for index in projection.indexes)
    without = "" if projection.keyed_by_position else ", WITHOUT ROWID"
    connection.execute(f"CREATE TABLE {table} ({key}, document TEXT NOT NULL{columns}) STRICT{without}")
    for index in projection.indexes:
        column = f"by_{index.name}"
        connection.execute(f"CREATE INDEX {table}_{column}{suffix} ON {table} ({column}) WHERE {column} IS NOT NULL")


def stored_key(projection: AnyProjection, key: str) -> int | str | None:
    """The key as its column holds it; None for one that the column can hold nothing for."""
    if not projection.keyed_by_position:
        return key
    return int(key) if key.isascii() and key.isdigit() and len(key) < 19 else None  # noqa: PLR2004 - 2**63 has 19 digits


class SQLiteReadModelTransaction:
    """The read models inside the write transaction of a SQLite log."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        # Inside the write transaction nobody else can move them: they are read once.
        self._states: dict[str, ReadModelState] | None = None

    def states(self) -> dict[str, ReadModelState]:
        """Where each read model stands, in one step."""
        if self._states is None:
            self._states = self._read_states()
        return dict(self._states)

    def _read_states(self) -> dict[str, ReadModelState]:
        found = self._connection.execute(
            "SELECT json_group_array(json_array(name, revision, position, documents, digest)) FROM read_model"
        ).get
        return {name: ReadModelState(*state) for name, *state in json.loads(found)}

    def load(self, projection: AnyProjection, keys: Iterable[str]) -> dict[str, bytes]:
        """The stored documents under those keys."""
        return self._load(projection, "key", [stored_key(projection, key) for key in keys])

    def load_found(self, projection: AnyProjection, index: str, values: Iterable[IndexValue]) -> dict[str, bytes]:
        """The stored documents whose index has one of the values."""
        return self._load(projection, f"by_{index}", list(values))

    def count_found(self, projection: AnyProjection, index: str, values: Iterable[IndexValue]) -> dict[IndexValue, int]:
        """How many documents have each of these values in the index."""
        found = self._connection.execute(
            f"SELECT json_group_array(json_array(value, (SELECT count(*) FROM {table_of(projection)}"  # noqa: S608 - our own names
            f" WHERE by_{index} = value))) FROM json_each(?)",
            (json.dumps(list(values)),),
        ).get
        return dict(json.loads(found))

    def write(self, projection: AnyProjection, changes: Mapping[str, Change]) -> None:
        """Puts and deletes documents."""
        table = table_of(projection)
        gone = [stored_key(projection, key) for key, change in changes.items() if change.after is None]
        if gone:
            self._connection.execute(
                f"DELETE FROM {table} WHERE key IN (SELECT value FROM json_each(?))",  # noqa: S608 - our own table names
                (json.dumps(gone),),
            )
        put_rows(
            self._connection,
            projection,
            table,
            ((key, change.after, change.indexed) for key, change in changes.items() if change.after is not None),
        )

    def put_states(self, states: Mapping[str, ReadModelState]) -> None:
        """Says where the read models stand now."""
        self._states = None
        values: list[Any] = []
        for name, state in states.items():
            values += (name, state.revision, state.position, state.documents, state.digest)
        self._connection.execute(f"INSERT OR REPLACE INTO read_model VALUES {value_rows(len(states), 5)}", values)  # noqa: S608 - placeholders only

    def _load(self, projection: AnyProjection, column: str, values: list[Any]) -> dict[str, bytes]:
        found = self._connection.execute(
            f"SELECT {_AS_ONE} FROM {table_of(projection)} WHERE {column} IN (SELECT value FROM json_each(?))",  # noqa: S608 - our own names
            (json.dumps(values),),
        ).get
        return {key: bytes(document) for key, document in _rows_decoder.decode(found)}


def put_rows(
    connection: apsw.Connection,
    projection: AnyProjection,
    table: str,
    rows: Iterable[tuple[str, bytes, tuple[IndexValue, ...]]],
) -> None:
    """Puts documents with their index columns, many in one statement."""
    names = ["document", *(f"by_{index.name}" for index in projection.indexes)]
    columns = 1 + len(names)
    values: list[Any] = []
    for key, document, indexed in rows:
        values += (stored_key(projection, key), document.decode(), *indexed)
    step = MAX_ROWS_A_STATEMENT * columns
    # An update, not a replacement: index entries whose value stays are then left alone.
    updated = ", ".join(f"{name} = excluded.{name}" for name in names)
    for start in range(0, len(values), step):
        part = values[start : start + step]
        connection.execute(
            f"INSERT INTO {table} VALUES {value_rows(len(part) // columns, columns)}"  # noqa: S608 - our own table names, placeholders
            f" ON CONFLICT (key) DO UPDATE SET {updated}",
            part,
        )


class SQLiteReadModels:
    """The `ReadModels` beside a SQLite log, on that log's connection."""

    def __init__(self, connection: apsw.Connection, path: Path, projections: Iterable[AnyProjection]) -> None:
        self.connection = connection
        self.path = path
        self.projections = tuple(projections)
        self._revisions = {projection.name: projection.revision for projection in self.projections}
        self._point = {
            projection.name: f"SELECT document FROM {table_of(projection)} WHERE key = ?"  # noqa: S608 - our own table names
            for projection in self.projections
        }

    def create(self) -> None:
        """Makes the tables of a new book, inside a write transaction; those that are there stay as they are."""
        with translating(self.path):
            self.connection.execute(STATES_SCHEMA)
            existing = self._transaction().states()
            missing = [projection for projection in self.projections if projection.name not in existing]
            for projection in missing:
                self.connection.execute(f"DROP TABLE IF EXISTS {table_of(projection)}")
                create_table(self.connection, projection, table_of(projection))
            if missing:
                self._transaction().put_states({p.name: ReadModelState(p.revision) for p in missing})

    def outdated(self) -> list[AnyProjection]:
        """The projections whose read model an older revision wrote, or that stands behind the log: to be rebuilt.

        Raises NewerStoreError when a newer gatebook has written one.
        """
        states = self.states()
        head = self.connection.execute("SELECT position FROM head").get
        self._refuse_newer(states)
        return [
            projection
            for projection in self.projections
            if projection.name not in states
            or states[projection.name].revision < projection.revision
            or states[projection.name].position != head
        ]

    def states(self) -> dict[str, ReadModelState]:
        """Where each read model stands; empty before the first start."""
        with translating(self.path):
            if not self.connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'read_model'").get:
                return {}
            return self._transaction().states()

    def get(self, projection: AnyProjection, key: str) -> bytes | None:
        """The document under the key."""
        known = stored_key(projection, key)
        if known is None:
            return None
        # Every check of every session comes this way: no context manager, no text put together anew.
        try:
            document = self.connection.execute(self._point[projection.name], (known,)).get
        except (apsw.Error, UnicodeDecodeError) as error:
            raise translated(error, self.path) from error
        return None if document is None else document.encode()

    def find(
        self, projection: AnyProjection, index: str, value: IndexValue, *, after: str = "", limit: int = PAGE
    ) -> list[tuple[str, bytes]]:
        """Documents whose index has that value, in order of key."""
        with translating(self.path):
            rows: list[Any] = self.connection.execute(
                f"SELECT key, document FROM {table_of(projection)} WHERE by_{index} = ? AND key > ?"  # noqa: S608 - our own names
                " ORDER BY key LIMIT ?",
                (value, _beyond(projection, after), limit),
            ).fetchall()
        return [(str(key), document.encode()) for key, document in rows]

    def count(self, projection: AnyProjection, index: str, value: IndexValue = None) -> int:
        """How many documents have that value in the index, or any."""
        which = "IS NOT NULL" if value is None else "= ?"
        with translating(self.path):
            found: int = self.connection.execute(
                f"SELECT count(*) FROM {table_of(projection)} WHERE by_{index} {which}",  # noqa: S608 - our own names
                () if value is None else (value,),
            ).get
        return found

    def up_to(self, projection: AnyProjection, index: str, value: int, *, limit: int = PAGE) -> list[tuple[str, bytes]]:
        """Documents whose index is at most that value, lowest first."""
        with translating(self.path):
            rows: list[Any] = self.connection.execute(
                f"SELECT key, document FROM {table_of(projection)} WHERE by_{index} <= ? ORDER BY by_{index} LIMIT ?",  # noqa: S608 - our own names
                (value, limit),
            ).fetchall()
        return [(str(key), document.encode()) for key, document in rows]

    def scan(self, projection: AnyProjection, *, after: str = "", limit: int = PAGE) -> list[Row]:
        """All rows in order of key."""
        names = [index.name for index in projection.indexes]
        columns = "".join(f", by_{name}" for name in names)
        with translating(self.path):
            rows: list[Any] = self.connection.execute(
                f"SELECT key, document{columns} FROM {table_of(projection)} WHERE key > ? ORDER BY key LIMIT ?",  # noqa: S608 - our own names
                (_beyond(projection, after), limit),
            ).fetchall()
        return [
            Row(str(key), document.encode(), dict(zip(names, indexed, strict=True))) for key, document, *indexed in rows
        ]

    def within(self, transaction: Transaction) -> SQLiteReadModelTransaction:
        """The read models inside a write transaction, whose revisions must be those of this process."""
        assert isinstance(transaction, SQLiteTransaction)  # noqa: S101 - a log and its read models are made as a pair
        joined = SQLiteReadModelTransaction(transaction.connection)
        states = joined.states()
        self._refuse_newer(states)
        for name, revision in self._revisions.items():
            state = states.get(name)
            if state is None or state.revision != revision or state.position != transaction.head.position:
                raise OlderStoreError(
                    f"The read model {name} in {self.path} is not the one that this gatebook keeps up;"
                    f" run `gatebook projections rebuild {name}`."
                )
        return joined

    def _refuse_newer(self, states: Mapping[str, ReadModelState]) -> None:
        newer = [name for name, state in states.items() if state.revision > self._revisions.get(name, 0)]
        if newer:
            raise NewerStoreError(
                f"A newer gatebook keeps up {', '.join(sorted(newer))} in {self.path}; this one writes no more."
            )

    def _transaction(self) -> SQLiteReadModelTransaction:
        return SQLiteReadModelTransaction(self.connection)


def _beyond(projection: AnyProjection, after: str) -> int | str:
    if projection.keyed_by_position:
        return int(after) if after else 0
    return after
