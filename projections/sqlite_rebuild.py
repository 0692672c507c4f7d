"""The fresh table of a rebuild in a SQLite store.

The live table steps aside under the write lock by a change of its name, which is quick, and is dropped afterwards.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from typing import Any

from events.errors import DurabilityError, RebuildUnderWayError, StoreError, StoreUnavailableError
from events.log import EventLog
from events.sqlite import SQLiteLog
from events.sqlite_files import translating
from projections import digest
from projections.projection import AnyProjection
from projections.sqlite import (
    STATES_SCHEMA,
    SQLiteReadModels,
    SQLiteReadModelTransaction,
    create_table,
    put_rows,
    stored_key,
    table_of,
)
from projections.store import Change, ReadModels, ReadModelState


class SQLiteFreshTable:
    """The `FreshTable` in a SQLite store, on its log's connection."""

    def __init__(self, log: EventLog, read_models: ReadModels, projection: AnyProjection) -> None:
        assert isinstance(log, SQLiteLog)  # noqa: S101 - a log and its read models are made as a pair
        assert isinstance(read_models, SQLiteReadModels)  # noqa: S101 - as above
        self._log = log
        self._read_models = read_models
        self._connection = log.connection
        self.projection = projection
        self._live = table_of(projection)
        self._fresh = f"fresh_{projection.name}"
        self._replaced = f"replaced_{projection.name}"

    @contextmanager
    def alone(self) -> Iterator[None]:
        """A file lock for the projection; it ends with the process, however that ends."""
        with self._lock():
            self._make()
            try:
                yield
            except DurabilityError:
                raise
            except BaseException:
                # Whatever cannot be removed now, the next rebuild removes.
                with suppress(StoreError):
                    self._clear()
                raise
            self._clear()

    @contextmanager
    def locked(self) -> Iterator[int]:
        """A write transaction of the log, to which nothing is appended."""
        with self._log.transaction() as transaction:
            yield transaction.head.position

    def put(self, changes: Mapping[str, Change]) -> None:
        """Puts and deletes documents."""
        rows = [(key, change.after, change.indexed) for key, change in changes.items() if change.after is not None]
        gone = [stored_key(self.projection, key) for key, change in changes.items() if change.after is None]
        with translating(self._log.path):
            put_rows(self._connection, self.projection, self._fresh, rows)
            if gone:
                self._connection.execute(
                    f"DELETE FROM {self._fresh} WHERE key IN (SELECT value FROM json_each(?))",  # noqa: S608 - our own table names
                    (json.dumps(gone),),
                )

    def live(self) -> ReadModelState | None:
        """Where the live read model stands."""
        # Another process may have brought a newer gatebook's read models here since the rebuild began.
        self._read_models.outdated()
        return self._read_models.states().get(self.projection.name)

    def switch(self, state: ReadModelState) -> None:
        """Renames both tables; other connections see either the one or the other."""
        with translating(self._log.path):
            if self._exists(self._live):
                self._connection.execute(f"ALTER TABLE {self._live} RENAME TO {self._replaced}")
            self._connection.execute(f"ALTER TABLE {self._fresh} RENAME TO {self._live}")
            SQLiteReadModelTransaction(self._connection).put_states({self.projection.name: state})

    def replaced_digest(self) -> str | None:
        """The digest of the rows of the table that stepped aside, read without a lock: nobody writes to it."""
        with translating(self._log.path):
            if not self._exists(self._replaced):
                return None
            rows: Iterable[Any] = self._connection.execute(
                f"SELECT CAST(key AS BLOB), CAST(document AS BLOB) FROM {self._replaced}"  # noqa: S608 - our own table names
            )
            # A key that is no text any more cannot but change the digest.
            return digest.to_text(
                digest.of_documents((key.decode(errors="backslashreplace"), document) for key, document in rows)
            )

    @contextmanager
    def _lock(self) -> Iterator[None]:
        path = self._log.path.with_name(f"{self._log.path.name}-rebuild-{self.projection.name}")
        try:
            lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreUnavailableError(f"The lock file {path} cannot be opened: {error.strerror}.") from error
        try:
            if not _taken(lock, path):
                raise RebuildUnderWayError(
                    f"Another process is rebuilding {self.projection.name} in {self._log.path}; wait until it is done."
                )
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
        finally:
            os.close(lock)

    def _make(self) -> None:
        self._read_models.outdated()
        with self._log.transaction(), translating(self._log.path):
            self._drop()
            self._connection.execute(STATES_SCHEMA)
            # The name of an SQL index stays when its table is renamed, so each rebuild needs names of its own.
            create_table(self._connection, self.projection, self._fresh, f"_{token_hex(8)}")

    def _clear(self) -> None:
        with self._log.transaction(), translating(self._log.path):
            self._drop()

    def _drop(self) -> None:
        self._connection.execute(f"DROP TABLE IF EXISTS {self._fresh}")
        self._connection.execute(f"DROP TABLE IF EXISTS {self._replaced}")

    def _exists(self, table: str) -> bool:
        return bool(self._connection.execute("SELECT count(*) FROM sqlite_master WHERE name = ?", (table,)).get)


def _taken(lock: int, path: Path) -> bool:
    """Takes the file lock unless somebody has it."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Whoever had it removes it in the end: a lock on a file that nobody else finds would lock nobody out.
        return os.path.samestat(os.fstat(lock), path.stat())
    except (BlockingIOError, FileNotFoundError):
        return False
