"""The log in a SQLite file keeps the contract of the log, and refuses by itself what would change its past."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import apsw
import pytest

from events.errors import StoreBusyError
from events.log import Head, Query
from events.sqlite import SQLiteLog
from tests.entries import append, failed, opened, registered
from tests.log_contract import LogContract, Opening


class TestSQLiteLog(LogContract):
    @pytest.fixture
    def opening(self, tmp_path: Path) -> Opening:
        return lambda: SQLiteLog(tmp_path / "gatebook.db")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gatebook.db"


@pytest.fixture
def log(path: Path) -> Iterator[SQLiteLog]:
    log = SQLiteLog(path)
    append(log, ("user", registered()), ("session", opened()), ("service", failed()))
    yield log
    log.close()


INSERT = "INSERT INTO log SELECT {position}, '{stream}', {version}, at, type, user_id, command_id, entry, leaf FROM log"
ONE = " WHERE position = 1"


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE log SET type = 'x' WHERE position = 2",
        "UPDATE log SET entry = entry",
        "UPDATE log SET position = 4 WHERE position = 3",
        "DELETE FROM log WHERE position = 3",
        "DELETE FROM log",
        "INSERT OR REPLACE" + INSERT.format(position=2, stream="user-1", version=1).removeprefix("INSERT") + ONE,
        # A conflict on the stream's version would remove the older entry, without asking the trigger on removal.
        "INSERT OR REPLACE" + INSERT.format(position=4, stream="user-1", version=1).removeprefix("INSERT") + ONE,
        INSERT.format(position=5, stream="service", version=2) + ONE,
        INSERT.format(position=3, stream="service", version=2) + ONE,
        INSERT.format(position="NULL", stream="service", version=2) + ONE,
        INSERT.format(position=4, stream="service", version=3) + ONE,
        INSERT.format(position=4, stream="service", version=1) + ONE,
        INSERT.format(position=4, stream="user-9", version=2) + ONE,
        INSERT.format(position=4, stream="user-9", version=0) + ONE,
    ],
)
def test_the_database_itself_refuses_to_change_the_past(log: SQLiteLog, path: Path, statement: str) -> None:
    before = log.entries(Query())
    raw = apsw.Connection(str(path))
    with pytest.raises(apsw.ConstraintError, match="append-only"):
        raw.execute(statement)
    raw.close()
    assert log.entries(Query()) == before


def test_the_database_itself_takes_what_follows(log: SQLiteLog, path: Path) -> None:
    raw = apsw.Connection(str(path))
    raw.execute(INSERT.format(position=4, stream="service", version=2) + ONE)
    raw.execute(INSERT.format(position=5, stream="user-9", version=1) + ONE)
    raw.close()
    assert [(entry.stream, entry.version) for entry in log.entries(Query(after=3))] == [("service", 2), ("user-9", 1)]


def test_what_was_appended_is_there_after_closing(log: SQLiteLog, path: Path) -> None:
    entries, head = log.entries(Query()), log.head()
    again = SQLiteLog(path, create=False)
    assert (again.entries(Query()), again.head(), again.book_id) == (entries, head, log.book_id)
    again.close()


def test_a_commit_is_synced(log: SQLiteLog) -> None:
    assert log.connection.pragma("journal_mode") == "wal"
    assert log.connection.pragma("synchronous") == 2, "FULL: the write-ahead log is synced by every commit"


def test_only_the_owner_reads_a_store(log: SQLiteLog, path: Path) -> None:
    for name in ("gatebook.db", "gatebook.db-wal", "gatebook.db-shm", "gatebook.db-lock"):
        assert path.with_name(name).stat().st_mode & 0o777 == 0o600, name


def test_a_writer_that_never_ends_is_waited_for_no_longer_than_the_bound(
    log: SQLiteLog, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("events.sqlite.BUSY_TIMEOUT_MS", 20)
    other = SQLiteLog(path)
    began = monotonic()
    with log.transaction():
        with pytest.raises(StoreBusyError), other.transaction():
            pytest.fail("two writers at once")
        assert monotonic() - began < 4, "it waited for longer than the bound that was set"
        assert other.head().position == 3
    append(other, ("service", failed()))
    assert log.head().position == 4
    other.close()


def test_a_raw_writer_beside_the_lock_is_waited_for_too(log: SQLiteLog, path: Path) -> None:
    log.connection.set_busy_timeout(20)
    raw = apsw.Connection(str(path))
    raw.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreBusyError), log.transaction():
        pytest.fail("two writers at once")
    raw.close()
    append(log, ("service", failed()))
    assert log.head() != Head()


@pytest.mark.parametrize(
    ("query", "index"),
    [
        (Query(after=1_000, until=2_000, type="session.closed"), "log_type (type=? AND rowid>? AND rowid<?)"),
        (Query(after=1_000, type="session.closed"), "log_type (type=? AND rowid>?)"),
        (Query(user=17), "log_user (user_id=? AND rowid>?)"),
        (Query(command_id="c"), "log_command (command_id=? AND rowid>?)"),
        (Query(stream="session-17"), "log_stream (stream=?)"),
        (Query(after=1_000, until=2_000), "PRIMARY KEY (rowid>? AND rowid<?)"),
    ],
)
def test_whoever_is_far_behind_reads_only_what_is_asked_for(log: SQLiteLog, query: Query, index: str) -> None:
    """Each kind of question has an index that also knows the positions, and no question sorts what it found."""
    asked: list[tuple[str, object]] = []

    def note(_: object, statement: str, values: object) -> bool:
        asked.append((statement, values))
        return True

    log.connection.exec_trace = note
    log.read(query)
    log.connection.exec_trace = None
    statement, values = asked[0]
    plan = [str(step[3]) for step in log.connection.execute(f"EXPLAIN QUERY PLAN {statement}", values)]  # type: ignore[arg-type] # as traced
    assert any(step.startswith("SEARCH log USING") and step.endswith(index) for step in plan), plan
    assert query.stream is not None or not any("TEMP B-TREE" in step for step in plan)
