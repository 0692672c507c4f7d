"""A read model is rebuilt beside the live one while the service writes; revisions that differ refuse to write."""

from __future__ import annotations

import fcntl
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from events.catalogue import UserLevelChanged
from events.errors import (
    FoldError,
    NewerStoreError,
    OlderStoreError,
    RebuildUnderWayError,
    SealError,
    StoreFullError,
)
from events.recorded import Recorded
from events.sealing import open_event
from projections import rebuild as rebuilding
from projections.projection import AnyProjection, Index
from projections.rebuild import Rebuilt, rebuild
from projections.replay import replay
from projections.sqlite import SQLiteReadModels
from projections.sqlite_rebuild import SQLiteFreshTable
from projections.sqlite_verify import SQLiteEvidence
from projections.store import Change
from projections.users import User, Users
from projections.verify import verify
from service.book import Book, open_book, parse_address
from tests.books import NOON, random_events, registered, small_book, tell
from tests.house import book_in

LATER = NOON + timedelta(days=30)
NAMES = ["users", "names", "sessions", "throttles", "activity"]


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Book]:
    with book_in(tmp_path) as made:
        small_book(made)
        random_events(7, made, 40)
        yield made


@contextmanager
def second(folder: Path) -> Iterator[Book]:
    """The same book, as another process has it."""
    opened = open_book(parse_address(f"sqlite:{folder}/gatebook.db"))
    try:
        yield opened
    finally:
        opened.close()


def named(book: Book, name: str) -> AnyProjection:
    return next(projection for projection in book.projections if projection.name == name)


def table_for(book: Book, name: str) -> SQLiteFreshTable:
    return SQLiteFreshTable(book.log, book.read_models, named(book, name))


def rebuilt(book: Book, name: str) -> Rebuilt:
    return rebuild(book.log, table_for(book, name), keyring=book.keyring)


def store(book: Book) -> SQLiteReadModels:
    assert isinstance(book.read_models, SQLiteReadModels)
    return book.read_models


def tables(book: Book) -> set[str]:
    rows: list[Any] = store(book).connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    return {name for (name,) in rows}


def assert_sound(book: Book) -> None:
    assert verify(SQLiteEvidence(book.log, book.read_models), book.projections, keyring=book.keyring).fault is None
    assert tables(book) == {"book", "head", "log", "read_model", *(f"read_{name}" for name in NAMES)}


def replayed_digest(book: Book, name: str) -> str:
    folded = replay(book.log, [named(book, name)], opener=lambda recorded: open_event(recorded, book.keyring))
    return folded.digest(name)


@pytest.mark.parametrize("name", NAMES)
def test_a_sound_read_model_is_rebuilt_into_the_same(book: Book, name: str) -> None:
    state = book.read_models.states()[name]
    told: list[tuple[int, int]] = []
    found = rebuild(
        book.log, table_for(book, name), keyring=book.keyring, progress=lambda *progress: told.append(progress)
    )
    assert found.before == found.maintained == found.after == state.digest == replayed_digest(book, name)
    assert not found.changed
    assert (found.position, found.documents) == (state.position, state.documents)
    assert told == [(state.position, state.position)]
    assert book.read_models.states()[name] == state
    assert_sound(book)
    # Again, over the SQL indexes of the last time; and the service writes on.
    tell(book, LATER, ("user", registered("dora")))
    assert not rebuilt(book, name).changed
    assert_sound(book)


def test_documents_in_many_transactions(book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rebuilding, "ROWS_A_TRANSACTION", 3)
    for name in NAMES:
        assert not rebuilt(book, name).changed
    assert_sound(book)


def test_a_changed_row_is_repaired_and_told_of(book: Book) -> None:
    store(book).connection.execute("UPDATE read_users SET document = replace(document, '\"level\":1', '\"level\":2')")
    found = rebuilt(book, "users")
    assert found.maintained == found.after != found.before
    assert found.changed
    assert_sound(book)


def test_a_row_that_is_no_text_is_repaired(book: Book) -> None:
    store(book).connection.execute("UPDATE read_names SET key = CAST(x'ff' || key AS TEXT), document = x'ff' || ''")
    assert rebuilt(book, "names").changed
    assert_sound(book)


def test_a_wrong_digest_is_repaired_and_told_of(book: Book) -> None:
    store(book).connection.execute("UPDATE read_model SET digest = ?", ("0" * 64,))
    found = rebuilt(book, "users")
    assert found.before == found.after != found.maintained == "0" * 64
    assert found.changed


def test_every_read_model_can_be_dropped_and_rebuilt_out_of_the_book(book: Book) -> None:
    before = book.read_models.states()
    for table in [*(f"read_{name}" for name in NAMES), "read_model"]:
        store(book).connection.execute(f"DROP TABLE {table}")
    assert [projection.name for projection in store(book).outdated()] == NAMES
    for name in NAMES:
        found = rebuilt(book, name)
        assert (found.before, found.maintained) == (None, None)
        assert found.changed
    assert book.read_models.states() == before
    assert store(book).outdated() == []
    assert_sound(book)


class Watched(SQLiteFreshTable):
    """Something happens before each lock is taken."""

    happens: Any = None

    def locked(self) -> Any:
        if self.happens is not None:
            self.happens()
        return super().locked()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("nearly_there", [0, 500])
def test_what_is_appended_meanwhile_is_in_the_rebuilt_read_model(
    book: Book, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, nearly_there: int
) -> None:
    monkeypatch.setattr(rebuilding, "ROWS_A_TRANSACTION", 10)
    monkeypatch.setattr(rebuilding, "NEARLY_THERE", nearly_there)
    with second(tmp_path) as service:
        moments = iter(range(1, 1000))

        def happens() -> None:
            # Documents that were written already change, and new ones come to be.
            step = next(moments)
            tell(
                service,
                LATER + timedelta(minutes=step),
                ("user-1", UserLevelChanged(2 if step % 2 else 1)),
                ("user", registered(f"late{step}")),
            )

        table = Watched(book.log, book.read_models, named(book, name))
        table.happens = happens
        found = rebuild(book.log, table, keyring=book.keyring)
        assert found.position == service.log.head().position
        assert not found.changed
        assert found.after == replayed_digest(book, name)
        assert_sound(book)
        happens()
        assert_sound(book)


WRITER = """
import sys
from datetime import timedelta
from pathlib import Path
from select import select
from service.book import open_book, parse_address
from tests.books import NOON, opened, registered, tell
book = open_book(parse_address(f"sqlite:{sys.argv[1]}/gatebook.db"))
step = 0
while not select([sys.stdin], [], [], 0)[0]:
    step += 1
    at = NOON + timedelta(days=40, seconds=step)
    user = tell(book, at, ("user", registered(f"writer{step}")))[0]
    print(tell(book, at, ("session", opened(user.position, at)))[0].position, flush=True)
book.close()
"""


def test_a_rebuild_while_another_process_writes(book: Book, tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdin is not None
        assert writer.stdout is not None
        assert int(writer.stdout.readline())
        for name in NAMES:
            found = rebuilt(book, name)
            assert not found.changed
            # It goes on writing, over the new table.
            while int(writer.stdout.readline()) <= found.position:
                pass
        writer.stdin.close()
        assert writer.stdout.read() is not None
    assert writer.returncode == 0
    assert_sound(book)


@dataclass
class Crash(BaseException):
    """The process is gone."""


class Crashing(SQLiteFreshTable):
    """A process that ends in the middle, at one place or another."""

    def put(self, changes: Mapping[str, Change]) -> None:
        super().put(changes)
        raise Crash

    def _clear(self) -> None:
        """A process that is gone removes nothing."""


class CrashingAtTheEnd(SQLiteFreshTable):
    """The same, between the switch and the removal of what it replaced."""

    def replaced_digest(self) -> str | None:
        raise Crash

    def _clear(self) -> None:
        """As above."""


@pytest.mark.parametrize(("crashing", "left"), [(Crashing, "fresh_users"), (CrashingAtTheEnd, "replaced_users")])
def test_what_a_crashed_rebuild_leaves_the_next_one_removes(
    book: Book, crashing: type[SQLiteFreshTable], left: str
) -> None:
    with pytest.raises(Crash):
        rebuild(book.log, crashing(book.log, book.read_models, named(book, "users")), keyring=book.keyring)
    assert left in tables(book)
    assert verify(SQLiteEvidence(book.log, book.read_models), book.projections).fault is None
    tell(book, LATER, ("user", registered("dora")))
    assert not rebuilt(book, "users").changed
    assert_sound(book)


def test_of_two_rebuilds_of_one_read_model_the_second_is_refused(book: Book, tmp_path: Path) -> None:
    with second(tmp_path) as other:
        with table_for(book, "users").alone():
            with pytest.raises(RebuildUnderWayError, match="Another process is rebuilding users"):
                rebuilt(other, "users")
            assert not rebuilt(other, "sessions").changed
            assert "fresh_users" in tables(book)
        assert not rebuilt(other, "users").changed
    assert_sound(book)
    assert not list(tmp_path.glob("*-rebuild-*"))


def test_a_lock_file_that_was_removed_before_it_was_locked_locks_nobody_out(
    book: Book, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = fcntl.flock

    def flock(descriptor: int, operation: int) -> None:
        # Between opening and locking, whoever had it is done.
        (tmp_path / "gatebook.db-rebuild-users").unlink(missing_ok=True)
        real(descriptor, operation)

    with monkeypatch.context() as patched:
        patched.setattr(fcntl, "flock", flock)
        with pytest.raises(RebuildUnderWayError), table_for(book, "users").alone():
            raise AssertionError
    assert not rebuilt(book, "users").changed


class RaisedUsers(Users):
    """The `users` of a later release, with another index."""

    revision = 2
    indexes: tuple[Index[User], ...] = (*Users.indexes, Index("sessions", lambda user: user.open_sessions or None))


def newer(book: Book) -> tuple[SQLiteReadModels, AnyProjection]:
    """The read models as a later release sees them, on the book's connection."""
    raised: AnyProjection = RaisedUsers()
    models = store(book)
    others = [projection for projection in book.projections if projection.name != "users"]
    return SQLiteReadModels(models.connection, models.path, [raised, *others]), raised


def test_a_raised_revision_is_rebuilt_while_the_older_service_writes(book: Book, tmp_path: Path) -> None:
    models, raised = newer(book)
    assert models.outdated() == [raised]
    with book.log.transaction() as transaction, pytest.raises(OlderStoreError, match="rebuild users"):
        models.within(transaction)
    found = verify(SQLiteEvidence(book.log, models), models.projections, keyring=book.keyring)
    assert found.fault is not None
    assert (found.fault.row, found.fault.column) == ("users", "revision")

    with second(tmp_path) as older:
        table = Watched(book.log, models, raised)
        names = iter(("dora", "emil"))
        table.happens = lambda: tell(older, LATER, ("user", registered(next(names))))
        done = rebuild(book.log, table)
        assert (done.revision, done.maintained, done.changed) == (2, None, True)
        assert done.position == older.log.head().position

        with pytest.raises(NewerStoreError, match="newer gatebook keeps up users"):
            tell(older, LATER, ("user", registered("fred")))
        with pytest.raises(NewerStoreError):
            store(older).outdated()
        with pytest.raises(NewerStoreError):
            rebuilt(older, "users")
        with pytest.raises(NewerStoreError):
            rebuilt(older, "sessions")

    assert models.outdated() == []
    with book.log.transaction() as transaction:
        models.within(transaction)
    assert models.find(raised, "sessions", 1)
    assert verify(SQLiteEvidence(book.log, models), models.projections, keyring=book.keyring).fault is None
    assert "fresh_users" not in tables(book)


def test_a_newer_gatebook_that_came_first_is_not_undone(book: Book, tmp_path: Path) -> None:
    models, raised = newer(book)
    with second(tmp_path) as older:
        table = Watched(older.log, older.read_models, named(older, "sessions"))
        table.happens = lambda: rebuild(book.log, SQLiteFreshTable(book.log, models, raised))
        with pytest.raises(NewerStoreError):
            rebuild(older.log, table)
    assert models.states()["users"].revision == 2
    assert "fresh_sessions" not in tables(book)


class FailingUsers(Users):
    """A fold that fails."""

    def evolve(self, key: str, doc: User | None, recorded: Recorded) -> User | None:
        if recorded.position == 5:
            raise ZeroDivisionError
        return super().evolve(key, doc, recorded)


def test_a_fold_that_fails_leaves_the_live_read_model_as_it_was(book: Book) -> None:
    before = book.read_models.states()
    with pytest.raises(FoldError, match="users failed on position 5"):
        rebuild(book.log, SQLiteFreshTable(book.log, book.read_models, FailingUsers()))
    assert book.read_models.states() == before
    assert_sound(book)


def test_names_are_not_rebuilt_without_keys(book: Book) -> None:
    with pytest.raises(SealError, match="names folds with keys"):
        rebuild(book.log, table_for(book, "names"))
    assert_sound(book)


def test_a_full_disk_leaves_the_live_read_model_as_it_was(book: Book) -> None:
    connection = store(book).connection
    most = connection.pragma("max_page_count")
    connection.pragma("max_page_count", connection.pragma("page_count"))
    with pytest.raises(StoreFullError):
        rebuilt(book, "users")
    connection.pragma("max_page_count", most)
    assert not rebuilt(book, "users").changed
    assert_sound(book)
