"""The key store in a SQLite file of its own, beside the log's: what is destroyed here must be in no backup of the log.

`secure_delete` overwrites what is deleted, and destroying a key ends with a truncating checkpoint, since a deleted row
would otherwise live on in the write-ahead log.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import apsw

from events.errors import CorruptStoreError, MasterKeyError, NotOurStoreError, StoreBusyError
from events.keys import MasterKey, ServiceKey
from events.recorded import from_microseconds, to_microseconds
from events.sqlite_files import (
    BUSY_TIMEOUT_MS,
    MAX_ROWS_A_STATEMENT,
    FileKind,
    connect,
    make_schema,
    translating,
    value_rows,
)

KEYS: Final = FileKind(application_id=0x6761746B, schema=1, name="gatebook key store")

_SCHEMA: Final = """
CREATE TABLE keys (one INTEGER PRIMARY KEY CHECK (one = 1), book_id TEXT NOT NULL, master_check TEXT NOT NULL) STRICT;
CREATE TABLE subject_key (subject INTEGER PRIMARY KEY, wrapped BLOB NOT NULL) STRICT;
CREATE TABLE service_key (name TEXT PRIMARY KEY, created_at INTEGER NOT NULL, wrapped BLOB NOT NULL) STRICT;
"""


class SQLiteKeyStore:
    """The `KeyStore` in one SQLite file, for one book and one master key."""

    def __init__(
        self, path: Path, book_id: str, master: MasterKey, *, create: bool = True, vfs: str | None = None
    ) -> None:
        self.path = path
        self.book_id = book_id
        self._connection: apsw.Connection = connect(path, KEYS, create=create, vfs=vfs)
        try:
            with translating(path):
                self._connection.pragma("secure_delete", "on")
                self._make(master)
                # A process that ended in the middle of a replacement may have left the old key behind.
                self._sweep(0)
                row = self._connection.execute("SELECT book_id, master_check FROM keys").fetchone()
            if row is None or row[0] != book_id:
                raise NotOurStoreError(f"The key store {path} belongs to another book; put the right one in its place.")
            if row[1] != master.check:
                raise MasterKeyError(f"The master key is not the one that the key store {path} was made with.")
        except BaseException:
            self._connection.close()
            raise

    def subject_keys(self, subjects: Iterable[int]) -> dict[int, bytes]:
        """The wrapped keys of those subjects that have one, in one step: the rows come back as one JSON array."""
        with translating(self.path):
            found = self._connection.execute(
                "SELECT json_group_array(json_array(subject, hex(wrapped))) FROM subject_key"
                " WHERE subject IN (SELECT value FROM json_each(?))",
                (json.dumps(list(subjects)),),
            ).get
        return {subject: bytes.fromhex(wrapped) for subject, wrapped in json.loads(found)}

    def put_subject_keys(self, wrapped: Mapping[int, bytes]) -> None:
        """Keeps the keys of new subjects, synced when this returns."""
        rows = list(wrapped.items())
        with translating(self.path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                for start in range(0, len(rows), MAX_ROWS_A_STATEMENT):
                    part = rows[start : start + MAX_ROWS_A_STATEMENT]
                    values: list[Any] = [value for row in part for value in row]
                    self._connection.execute(
                        f"INSERT OR REPLACE INTO subject_key VALUES {value_rows(len(part), 2)}",  # noqa: S608 - placeholders only
                        values,
                    )
                self._connection.execute("COMMIT")
            finally:
                self._roll_back()

    def all_subject_keys(self) -> Iterator[tuple[int, bytes]]:
        """Every subject with its wrapped key; the store is read as it stood at the first."""
        with translating(self.path):
            rows: Iterable[Any] = self._connection.execute("SELECT subject, wrapped FROM subject_key ORDER BY subject")
            for subject, wrapped in rows:
                yield int(subject), bytes(wrapped)

    def service_keys(self, prefix: str = "") -> list[ServiceKey]:
        """The service's own keys whose names begin so."""
        with translating(self.path):
            rows: list[Any] = self._connection.execute(
                "SELECT name, created_at, wrapped FROM service_key WHERE substr(name, 1, ?) = ? ORDER BY name",
                (len(prefix), prefix),
            ).fetchall()
        return [self._service_key(*row) for row in rows]

    def service_key(self, name: str) -> ServiceKey | None:
        """The service's key of that purpose."""
        with translating(self.path):
            if self._unswept:
                self._sweep(0)
            row = self._connection.execute(
                "SELECT created_at, wrapped FROM service_key WHERE name = ?", (name,)
            ).fetchone()
        return None if row is None else self._service_key(name, *row)

    def put_service_key(self, key: ServiceKey, *, replacing: bytes | None) -> bool:
        """Keeps the key unless another process came first; what it replaces is gone from the files."""
        created_at = to_microseconds(key.created_at)
        with translating(self.path):
            if replacing is None:
                self._connection.execute(
                    "INSERT OR IGNORE INTO service_key VALUES (?, ?, ?)", (key.name, created_at, key.wrapped)
                )
                return self._connection.changes() == 1
            self._connection.execute(
                "UPDATE service_key SET created_at = ?, wrapped = ? WHERE name = ? AND wrapped = ?",
                (created_at, key.wrapped, key.name, replacing),
            )
            replaced = self._connection.changes() == 1
            self._sweep()
        self._refuse_unswept(f"replaced key {key.name}")
        return replaced

    def destroy_service_key(self, name: str) -> bool:
        """Destroys the key: it is gone from the files."""
        with translating(self.path):
            self._connection.execute("DELETE FROM service_key WHERE name = ?", (name,))
            destroyed = self._connection.changes() == 1
            self._sweep()
        self._refuse_unswept(f"destroyed key {name}")
        return destroyed

    def close(self) -> None:
        """Closes the connection."""
        self._connection.close()

    def _sweep(self, seconds: float = BUSY_TIMEOUT_MS / 1000) -> None:
        # This takes what was zeroed to the database, and leaves nothing in the write-ahead log.
        self._connection.set_busy_timeout(int(seconds * 1000))
        busy, *_ = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()[0]
        self._connection.set_busy_timeout(BUSY_TIMEOUT_MS)
        self._unswept = bool(busy)

    def _refuse_unswept(self, what: str) -> None:
        if self._unswept:
            raise StoreBusyError(
                f"The {what} may still stand in {self.path} while somebody reads there;"
                " it is overwritten as soon as that ends."
            )

    def _service_key(self, name: str, created_at: int, wrapped: bytes) -> ServiceKey:
        try:
            return ServiceKey(name, from_microseconds(created_at), bytes(wrapped))
        except OverflowError as error:
            raise CorruptStoreError(
                f"In {self.path}, the row {name} of service_key was made at no moment; restore it from a backup."
            ) from error

    def _make(self, master: MasterKey) -> None:
        if self._connection.pragma("application_id") == 0:
            row = "INSERT INTO keys VALUES (1, ?, ?)"
            make_schema(self._connection, KEYS, _SCHEMA, row, (self.book_id, master.check))

    def _roll_back(self) -> None:
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")
