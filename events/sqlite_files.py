"""Opening SQLite files through apsw: recognising them, their pragmas, and what their errors mean to us."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from time import monotonic, sleep
from typing import Final

import apsw

from events.errors import (
    CorruptStoreError,
    DurabilityError,
    NewerStoreError,
    NotOurStoreError,
    StoreBusyError,
    StoreError,
    StoreFullError,
    StoreUnavailableError,
    UnreadableTextError,
)

BUSY_TIMEOUT_MS: Final = 5_000
CHECKPOINT_PAGES: Final = 4_000
MAX_ROWS_A_STATEMENT: Final = 500
_SYNC_FAILURES: Final = frozenset({apsw.SQLITE_IOERR_FSYNC, apsw.SQLITE_IOERR_DIR_FSYNC})


class FileKind:
    """One kind of our files: the application id in its header, the newest schema we know, its name for sentences."""

    def __init__(self, application_id: int, schema: int, name: str) -> None:
        self.application_id = application_id
        self.schema = schema
        self.name = name


def busy(path: str | Path) -> StoreBusyError:
    """What to say when another writer never came to an end."""
    return StoreBusyError(f"Another process kept {path} locked for more than {BUSY_TIMEOUT_MS // 1000} seconds.")


def translated(error: apsw.Error | UnicodeDecodeError, path: str | Path) -> StoreError:
    """What an error of apsw means: one of our store errors, with one clear sentence."""
    if isinstance(error, UnicodeDecodeError):
        return UnreadableTextError(f"{path} holds text that is not UTF-8; `gatebook verify` says where.")
    # The order matters: a failed sync is an I/O error too, and must not pass for one that may be tried again.
    if getattr(error, "extendedresult", None) in _SYNC_FAILURES:
        return DurabilityError(f"Syncing {path} to disk failed; what is on disk is unknown, so the process must end.")
    if isinstance(error, apsw.FullError):
        return StoreFullError(f"There is no room left for {path}; nothing was written. Make room; writes then go on.")
    if isinstance(error, apsw.BusyError | apsw.LockedError):
        return busy(path)
    if isinstance(error, apsw.NotADBError):
        return NotOurStoreError(f"{path} is not a SQLite database, so it is no gatebook store; it was left as it is.")
    if isinstance(error, apsw.CorruptError):
        return CorruptStoreError(f"SQLite says that {path} is damaged ({error}); restore it from a backup.")
    return StoreUnavailableError(f"{path} cannot be used: {error}.")


@contextmanager
def translating(path: str | Path) -> Iterator[None]:
    """A block in which apsw's errors become ours."""
    try:
        yield
    except (apsw.Error, UnicodeDecodeError) as error:
        raise translated(error, path) from error


def connect(path: Path, kind: FileKind, *, create: bool, vfs: str | None = None) -> apsw.Connection:
    """A connection to one of our files, made if `create` and it is not there; recognised, and ready for use.

    Raises NotOurStoreError, NewerStoreError, CorruptStoreError or StoreUnavailableError, having changed nothing.
    """
    try:
        _find_or_make(path, kind, create=create)
    except OSError as error:
        raise StoreUnavailableError(f"The {kind.name} {path} cannot be found or made: {error.strerror}.") from error
    with translating(path):
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE, vfs=vfs, statementcachesize=400)
        try:
            connection.set_busy_timeout(BUSY_TIMEOUT_MS)
            if not _recognise(connection, path, kind) and not create:
                raise StoreUnavailableError(f"{path} is empty; `gatebook serve` makes a {kind.name} of it.")
            _use_wal(connection)
            connection.pragma("synchronous", "full")
            connection.pragma("trusted_schema", "off")
            # Pages written again and again (a busy hour's row, the head) then reach the database once, not each time.
            connection.pragma("wal_autocheckpoint", CHECKPOINT_PAGES)
            connection.pragma("journal_size_limit", 64 * 1024 * 1024)
        except BaseException:
            connection.close()
            raise
    return connection


def _find_or_make(path: Path, kind: FileKind, *, create: bool) -> None:
    if path.exists():
        return
    if not create:
        raise StoreUnavailableError(f"There is no {kind.name} at {path}; `gatebook serve` makes one.")
    if not path.parent.is_dir():
        raise StoreUnavailableError(f"The folder {path.parent} of the {kind.name} does not exist; make it first.")
    # Personal data lives here: nobody but the owner may read it, whatever the umask says.
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))


def _use_wal(connection: apsw.Connection) -> None:
    # Only while a store is made: SQLite gives up at once, without its waiting, when somebody else is doing the same.
    given_up = monotonic() + BUSY_TIMEOUT_MS / 1000
    while True:
        try:
            connection.pragma("journal_mode", "wal")
        except apsw.BusyError:
            if monotonic() >= given_up:
                raise
            sleep(0.005)
        else:
            return


def _recognise(connection: apsw.Connection, path: Path, kind: FileKind) -> bool:
    """Whether the file is one of ours; False while it is empty."""
    # The tables first: another process that is making the store commits them together with the application id.
    tables = connection.execute("SELECT count(*) FROM sqlite_master").get
    application_id = connection.pragma("application_id")
    if application_id == 0 and tables == 0:
        return False
    if application_id != kind.application_id:
        raise NotOurStoreError(f"{path} is another application's database, not a {kind.name}; it was left as it is.")
    schema = connection.pragma("user_version")
    if schema > kind.schema:
        raise NewerStoreError(
            f"{path} was written by a newer gatebook (schema {schema}, this one knows {kind.schema}); use that one."
        )
    return True


def make_schema(
    connection: apsw.Connection, kind: FileKind, statements: str, row: str, values: tuple[str | int, ...]
) -> None:
    """Makes the tables and the one first row in a file that has none yet, in one transaction.

    Two processes that start at once make them once; a crash leaves all of it or nothing.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        if connection.pragma("application_id") == 0:
            connection.execute(statements)
            connection.execute(row, values)
            connection.pragma("application_id", kind.application_id)
            connection.pragma("user_version", kind.schema)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


@cache
def value_rows(rows: int, columns: int) -> str:
    """`(?,?),(?,?)`: the VALUES of an insert of many rows. One statement is one step, and gives up the GIL once."""
    row = f"({','.join('?' * columns)})"
    return ",".join([row] * rows)
