"""The event log in a SQLite file, through apsw: the embedded store.

WAL with `synchronous=FULL`: a commit returns after the fsync of its WAL frames. Writers of several processes queue at a
file lock before `BEGIN IMMEDIATE`, which is fairer than SQLite's own busy handler. Neither the head nor the frontier is
kept across transactions, since another process may have moved them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import apsw
import msgspec

from events import merkle
from events.catalogue import BY_WIRE_NAME
from events.errors import CorruptStoreError, NewerStoreError, StoreUnavailableError, UnreadableTextError
from events.log import Head, Query
from events.recorded import Entry, Recorded, decode, decode_page, to_microseconds
from events.sqlite_files import (
    BUSY_TIMEOUT_MS,
    MAX_ROWS_A_STATEMENT,
    FileKind,
    busy,
    connect,
    make_schema,
    translated,
    translating,
    value_rows,
)
from events.write_lock import WriteLock

STORE: Final = FileKind(application_id=0x67617465, schema=1, name="gatebook store")
CATALOGUE: Final = ",".join(sorted(BY_WIRE_NAME))

SCHEMA: Final = """
CREATE TABLE book (
    one INTEGER PRIMARY KEY CHECK (one = 1), book_id TEXT NOT NULL, catalogue TEXT NOT NULL
) STRICT;
CREATE TABLE head (
    one INTEGER PRIMARY KEY CHECK (one = 1), position INTEGER NOT NULL, at INTEGER NOT NULL, frontier BLOB NOT NULL
) STRICT;
INSERT INTO head VALUES (1, 0, 0, x'');
CREATE TABLE log (
    position INTEGER PRIMARY KEY, stream TEXT NOT NULL, version INTEGER NOT NULL, at INTEGER NOT NULL,
    type TEXT NOT NULL, user_id INTEGER, command_id TEXT NOT NULL, entry BLOB NOT NULL, leaf BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX log_stream ON log (stream, version);
CREATE INDEX log_user ON log (user_id) WHERE user_id IS NOT NULL;
CREATE INDEX log_type ON log (type);
CREATE INDEX log_command ON log (command_id);
CREATE TRIGGER log_is_never_updated BEFORE UPDATE ON log
BEGIN SELECT raise(ABORT, 'the log is append-only: an entry is never changed'); END;
CREATE TRIGGER log_is_never_deleted BEFORE DELETE ON log
BEGIN SELECT raise(ABORT, 'the log is append-only: an entry is never removed'); END;
CREATE TRIGGER log_is_appended_in_order BEFORE INSERT ON log
WHEN new.position <> coalesce((SELECT max(position) FROM log), 0) + 1
BEGIN SELECT raise(ABORT, 'the log is append-only: positions have no gaps'); END;
CREATE TRIGGER log_streams_are_appended_in_order BEFORE INSERT ON log
WHEN new.version <> coalesce((SELECT max(version) FROM log WHERE stream = new.stream), 0) + 1
BEGIN SELECT raise(ABORT, 'the log is append-only: versions have no gaps'); END;
"""
_COLUMNS: Final = "position, stream, version, at, type, user_id, command_id, entry, leaf"


class SQLiteTransaction:
    """The write transaction of a SQLite store; what stands beside the log joins it through `connection`."""

    def __init__(self, connection: apsw.Connection, head: Head) -> None:
        self.connection = connection
        self.head = head

    def versions(self, streams: Iterable[str]) -> dict[str, int]:
        """The last version of each stream that has one, in one step: the rows come back as one JSON array."""
        found = self.connection.execute(
            "SELECT json_group_array(json_array(stream, version)) FROM (SELECT asked.value AS stream,"
            " (SELECT max(log.version) FROM log WHERE log.stream = asked.value) AS version FROM json_each(?) AS asked)",
            (json.dumps(sorted(set(streams))),),
        ).get
        return {stream: version for stream, version in json.loads(found) if version is not None}

    def append(self, entries: Sequence[Entry]) -> None:
        """Adds the entries and moves the head."""
        for start in range(0, len(entries), MAX_ROWS_A_STATEMENT):
            part = entries[start : start + MAX_ROWS_A_STATEMENT]
            values: list[Any] = []
            for entry in part:
                values += (
                    entry.position,
                    entry.stream,
                    entry.version,
                    entry.at,
                    entry.type,
                    entry.user_id,
                    entry.command_id,
                    entry.data,
                    entry.leaf,
                )
            self.connection.execute(f"INSERT INTO log ({_COLUMNS}) VALUES {value_rows(len(part), 9)}", values)  # noqa: S608 - placeholders only
        self.head = self.head.after(entries)
        self.connection.execute(
            "UPDATE head SET position = ?, at = ?, frontier = ?",
            (self.head.position, self.head.at, merkle.pack(self.head.frontier)),
        )


class SQLiteLog:
    """The `EventLog` in one SQLite file."""

    def __init__(self, path: Path, *, create: bool = True, vfs: str | None = None) -> None:
        self.path = path
        self.connection = connect(path, STORE, create=create, vfs=vfs)
        try:
            with translating(path):
                self._make()
                row = self.connection.execute("SELECT book_id, catalogue FROM book").fetchone()
                if row is None:
                    raise CorruptStoreError(f"{path} has no row that says which book it is; restore it from a backup.")
                self.book_id, known = str(row[0]), str(row[1])
            unknown = set(known.split(",")) - set(BY_WIRE_NAME)
            if unknown:
                raise NewerStoreError(
                    f"{path} was written by a newer gatebook: it may hold {', '.join(sorted(unknown))}; use that one."
                )
            try:
                self._lock = WriteLock(path.with_name(f"{path.name}-lock"))
            except OSError as error:
                raise StoreUnavailableError(f"The lock of {path} cannot be opened: {error}.") from error
        except BaseException:
            self.connection.close()
            raise

    def head(self) -> Head:
        """Where the book ends at this moment."""
        with translating(self.path):
            return self._read_head()

    def entries(self, query: Query) -> list[Entry]:
        """The matching entries, bytes and columns."""
        clause, values = self._where(query)
        with translating(self.path):
            rows = self.connection.execute(f"SELECT {_COLUMNS} FROM log {clause}", values)  # noqa: S608 - fixed parts only
            return [Entry(*row) for row in rows]

    def read(self, query: Query) -> list[Recorded]:
        """The matching recorded events, a page in one step: the entries come back as one JSON array."""
        clause, values = self._where(query)
        try:
            with translating(self.path):
                row = self.connection.execute(
                    "SELECT '[' || group_concat(position) || ']', '[' || group_concat(CAST(entry AS TEXT)) || ']'"  # noqa: S608 - fixed parts only
                    f" FROM (SELECT position, entry FROM log {clause})",
                    values,
                ).fetchone()
            if row is None or row[0] is None:
                return []
            return decode_page(str(row[1]), str(row[0]), backwards=query.backwards)
        except (msgspec.DecodeError, RecursionError, UnreadableTextError, ValueError):
            # One by one: entries of a retired shape are raised, and one that is broken is named.
            return [decode(entry.data, entry.position) for entry in self.entries(query)]

    def position_at(self, moment: datetime) -> int:
        """The last position recorded at or before the moment, by bisection: `at` never goes back."""
        sought = to_microseconds(moment)
        low, high = 0, self.head().position
        with translating(self.path):
            while low < high:
                middle = (low + high + 1) // 2
                at = self.connection.execute("SELECT at FROM log WHERE position = ?", (middle,)).get
                if at is None or at > sought:
                    high = middle - 1
                else:
                    low = middle
        return low

    def state(self) -> Hashable:
        """`PRAGMA data_version`, which every commit of another connection moves, and the rows that this one changed.

        The pragma, not apsw's method of that name, which can miss another process's commit.
        """
        with translating(self.path):
            return self.connection.execute("PRAGMA data_version").get, self.connection.total_changes()

    @contextmanager
    def transaction(self) -> Iterator[SQLiteTransaction]:
        """The write transaction, behind the file lock."""
        if not self._lock.acquire(BUSY_TIMEOUT_MS / 1000):
            raise busy(self.path)
        try:
            with translating(self.path):
                self.connection.execute("BEGIN IMMEDIATE")
            try:
                with translating(self.path):
                    self._adopt_catalogue()
                    transaction = SQLiteTransaction(self.connection, self._read_head())
                    yield transaction
            except BaseException:
                self._roll_back()
                raise
            self._commit()
        finally:
            self._lock.release()

    def close(self) -> None:
        """Closes the connection and the lock's file."""
        self.connection.close()
        self._lock.close()

    def _make(self) -> None:
        if self.connection.pragma("application_id") == 0:
            make_schema(
                self.connection,
                STORE,
                SCHEMA,
                "INSERT INTO book VALUES (1, ?, ?)",
                (os.urandom(16).hex(), CATALOGUE),
            )

    def _adopt_catalogue(self) -> None:
        """Holds this process's catalogue against the store's, in every transaction: another may have raised it."""
        known = str(self.connection.execute("SELECT catalogue FROM book").get)
        if known == CATALOGUE:
            return
        unknown = set(known.split(",")) - set(BY_WIRE_NAME)
        if unknown:
            raise NewerStoreError(
                f"A newer gatebook has written to {self.path} since this one started; this one writes no more."
            )
        self.connection.execute("UPDATE book SET catalogue = ?", (CATALOGUE,))

    def _commit(self) -> None:
        try:
            self.connection.execute("COMMIT")
        except apsw.Error as error:
            self._roll_back()
            raise translated(error, self.path) from error

    def _roll_back(self) -> None:
        if self.connection.in_transaction:
            self.connection.execute("ROLLBACK")

    def _read_head(self) -> Head:
        row = self.connection.execute("SELECT position, at, frontier FROM head").fetchone()
        if row is None:
            raise CorruptStoreError(f"{self.path} has no head; `gatebook verify` says more.")
        try:
            return Head(int(row[0]), int(row[1]), merkle.unpack(bytes(row[2])))
        except ValueError as error:
            raise CorruptStoreError(
                f"{self.path} has a head that is none ({error}); restore it from a backup."
            ) from error

    def _where(self, query: Query) -> tuple[str, list[Any]]:
        # `at` never goes back, so a moment is a position: the log needs no index on time.
        after = max(query.after, self._position_before(query.since) if query.since else 0)
        conditions: list[str] = ["position > ?"]
        values: list[Any] = [after]
        for condition, value in (
            ("position <= ?", query.until),
            ("position <= ?", self._position_before(query.before) if query.before else None),
            ("stream = ?", query.stream),
            ("user_id = ?", query.user),
            ("type = ?", query.type),
            ("command_id = ?", query.command_id),
        ):
            if value is not None:
                conditions.append(condition)
                values.append(value)
        order = "DESC" if query.backwards else "ASC"
        return f"WHERE {' AND '.join(conditions)} ORDER BY position {order} LIMIT ?", [*values, query.limit]

    def _position_before(self, moment: datetime) -> int:
        return self.position_at(moment - timedelta(microseconds=1))
