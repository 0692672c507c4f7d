"""What a SQLite store shows of itself for verification, read past every convenience of the log and the read models."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import apsw

from events import merkle
from events.errors import UndecodableEntryError, UnreadableTextError
from events.log import EventLog, Head, Query
from events.recorded import Entry
from events.sqlite import SCHEMA, SQLiteLog
from events.sqlite_files import translating
from projections.faults import Fault, shown
from projections.projection import AnyProjection
from projections.sqlite import SQLiteReadModels, table_of
from projections.store import ReadModels, ReadModelState, Row

_OBJECTS: Final = "SELECT name, tbl_name, sql FROM sqlite_master WHERE sql IS NOT NULL"


class SQLiteEvidence:
    """The `Evidence` of a SQLite store, on its log's connection."""

    def __init__(self, log: EventLog, read_models: ReadModels) -> None:
        assert isinstance(log, SQLiteLog)  # noqa: S101 - a log and its read models are made as a pair
        assert isinstance(read_models, SQLiteReadModels)  # noqa: S101 - as above
        self._log = log
        self._read_models = read_models
        self._connection = log.connection
        self.path = log.path

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """A read transaction: it holds up no writer, but the write-ahead log grows until it ends."""
        with translating(self.path):
            self._connection.execute("BEGIN")
        try:
            yield
        finally:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    def span(self) -> tuple[int, int]:
        """The lowest and the highest position in the log; 1 and 0 when it is empty."""
        with translating(self.path):
            lowest = self._connection.execute("SELECT ifnull(min(position), 1) FROM log").get
            highest = self._connection.execute("SELECT ifnull(max(position), 0) FROM log").get
        return int(lowest), int(highest)

    def entries(self, after: int) -> list[Entry]:
        """The next page of entries; what comes before one that cannot be read comes first."""
        try:
            return self._log.entries(Query(after=after))
        except UnreadableTextError:
            return self._one_by_one(after)

    def head(self) -> Head | None:
        """The head; ValueError for a frontier that is not whole hashes."""
        with translating(self.path):
            row: Any = self._connection.execute("SELECT position, at, frontier FROM head").fetchone()
        return None if row is None else Head(row[0], row[1], merkle.unpack(row[2]))

    def catalogue(self) -> tuple[str, ...]:
        """The event types that the book says it may hold."""
        with translating(self.path):
            return tuple(str(self._connection.execute("SELECT catalogue FROM book").get).split(","))

    def states(self) -> dict[str, ReadModelState]:
        """Where each read model says it stands."""
        return self._read_models.states()

    def rows(self, projection: AnyProjection) -> Iterator[Row]:
        """Every row of the projection's table; LookupError when that, or one of its columns, is not there."""
        names = [index.name for index in projection.indexes]
        columns = "".join(f", by_{name}" for name in names)
        table = table_of(projection)
        with translating(self.path):
            there: Iterable[Any] = self._connection.execute("SELECT name FROM pragma_table_info(?)", (table,))
            if not {"key", "document", *(f"by_{name}" for name in names)} <= {column for (column,) in there}:
                raise LookupError(table)
            rows: Iterable[Any] = self._connection.execute(
                f"SELECT key, CAST(document AS BLOB){columns} FROM {table} ORDER BY key"  # noqa: S608 - our own names
            )
            for key, document, *indexed in rows:
                yield Row(str(key), document, dict(zip(names, indexed, strict=True)))

    def schema_fault(self) -> Fault | None:
        """The tables of the book, their indexes and triggers, held against those of a book that was just made."""
        made = apsw.Connection(":memory:")
        made.execute(SCHEMA)
        ours = _objects(made)
        with translating(self.path):
            there = _objects(self._connection)
        for name, (table, sql) in ours.items():
            if name not in there:
                return Fault("schema", f"The store has lost {name}, which stands guard over {table}.", table=table)
            if there[name] != (table, sql):
                return Fault("schema", f"In the store, {name} is not what gatebook made it.", table=table)
        for name, (table, sql) in there.items():
            if name not in ours and sql.upper().startswith(("CREATE TRIGGER", "CREATE VIEW")):
                return Fault("schema", f"The store holds {shown(name)}, which gatebook did not make.", table=table)
        return None

    def _one_by_one(self, after: int) -> list[Entry]:
        found: list[Entry] = []
        while True:
            try:
                page = self._log.entries(Query(after=after, limit=1))
            except UnreadableTextError as error:
                if found:
                    return found
                with translating(self.path):
                    position = self._connection.execute(
                        "SELECT min(position) FROM log WHERE position > ?", (after,)
                    ).get
                raise UndecodableEntryError(int(position), "one of its columns holds bytes that are no text") from error
            if not page:
                return found
            found += page
            after = page[0].position


def _objects(connection: apsw.Connection) -> dict[str, tuple[str, str]]:
    rows: Iterable[Any] = connection.execute(_OBJECTS)
    return {name: (table, sql) for name, table, sql in rows}
