"""The child of a rebuild: what it does, what it says of it, and what it leaves behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from events.sqlite import SQLiteLog
from projections.sqlite import table_of
from service.book import Book, StoreAddress, fresh_table, parse_address
from service.children import Store, command
from service.rebuild_child import Done, Failed, Progress, Told, UnderWay, Work, work
from tests.books import NOON, opened, small_book, tell
from tests.house import book_in

COMMAND = command("service.rebuild_child")


def address_of(folder: Path) -> StoreAddress:
    return parse_address(f"sqlite:{folder}/gatebook.db")


def tables(book: Book) -> set[str]:
    assert isinstance(book.log, SQLiteLog)
    return {name for (name,) in book.log.connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def spoil(book: Book, projection: str = "users") -> None:
    """Changes what the read model says, behind everybody's back."""
    assert isinstance(book.log, SQLiteLog)
    found = book.projection(projection)
    assert found is not None
    table = table_of(found)
    book.log.connection.execute(f"DELETE FROM {table} WHERE key = (SELECT min(key) FROM {table})")  # noqa: S608 - a table of ours


def run(folder: Path, projection: str) -> list[Told]:
    """The child, as the service runs it; all that it said."""
    asked = msgspec.json.encode(Work(Store.at(address_of(folder)), projection))
    ended = subprocess.run(COMMAND, input=asked, capture_output=True, check=True, timeout=60)
    assert ended.stderr == b""
    return [msgspec.json.decode(line, type=Told) for line in ended.stdout.splitlines()]


@pytest.mark.parametrize("projection", ["users", "names", "sessions", "throttles", "activity"])
def test_a_read_model_is_made_anew_from_the_book(tmp_path: Path, projection: str) -> None:
    with book_in(tmp_path) as book:
        small_book(book)
        right, head = book.read_models.states()[projection], book.log.head().position
        spoil(book, projection)
        *progress, done = run(tmp_path, projection)
        assert done == Done(head, changed=True)
        assert progress == [Progress(head, head)]
        assert book.read_models.states()[projection] == right
        found = book.projection(projection)
        assert found is not None
        assert len(list(book.read_models.scan(found, limit=100))) == right.documents
        assert run(tmp_path, projection)[-1] == Done(head, changed=False)


def test_it_says_where_it_is_now_and_then_and_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with book_in(tmp_path) as book:
        small_book(book)
    ticks = iter(range(1_000))
    for seconds, expected in ((0.06, [1, 3, 5]), (0.2, [1, 2, 3, 4, 5])):
        told: list[Told] = []
        monkeypatch.setattr("service.rebuild_child.monotonic", lambda step=seconds: next(ticks) * step)

        def pages(log: object, table: object, *, keyring: object, progress: object) -> object:
            assert callable(progress)
            for position in range(1, 6):
                progress(position, 5)
            return type("Rebuilt", (), {"position": 5, "changed": False})

        monkeypatch.setattr("service.rebuild_child.rebuild", pages)
        work(Work(Store.at(address_of(tmp_path)), "users"), told.append)
        assert [one.position for one in told if isinstance(one, Progress)] == expected
        assert told[-1] == Done(5, changed=False)


@pytest.fixture
def interrupts() -> Iterator[None]:
    """SIGINT interrupts, also where the tests were started in the background, by a shell that has it ignored there."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interrupts")
def test_one_that_is_stopped_leaves_nothing_behind(tmp_path: Path) -> None:
    with book_in(tmp_path) as book:
        small_book(book)
        before, right = tables(book), book.read_models.states()["users"]

        def stop(told: Told) -> None:
            assert isinstance(told, Progress)
            assert "fresh_users" in tables(book)
            signal.raise_signal(signal.SIGINT)

        with pytest.raises(KeyboardInterrupt):
            work(Work(Store.at(address_of(tmp_path)), "users"), stop)
        assert tables(book) == before
        assert book.read_models.states()["users"] == right
        assert {path.name for path in tmp_path.iterdir() if "rebuild" in path.name} == set()


def test_it_ends_by_itself_when_nobody_listens(tmp_path: Path) -> None:
    with book_in(tmp_path) as book:
        small_book(book)
        before = tables(book)
        reading, writing = os.pipe()
        os.close(reading)
        asked = msgspec.json.encode(Work(Store.at(address_of(tmp_path)), "users"))
        try:
            ended = subprocess.run(
                COMMAND, input=asked, stdout=writing, stderr=subprocess.PIPE, check=False, timeout=60
            )
        finally:
            os.close(writing)
        assert (ended.returncode, ended.stderr) == (1, b"")
        assert tables(book) == before


def test_while_another_process_rebuilds_the_same_it_says_so(tmp_path: Path) -> None:
    with book_in(tmp_path) as book:
        small_book(book)
        users = book.projection("users")
        assert users is not None
        with fresh_table(book, users).alone():
            [told] = run(tmp_path, "users")
            assert isinstance(told, UnderWay)
            assert "users" in told.sentence
            assert isinstance(run(tmp_path, "sessions")[-1], Done)
        assert isinstance(run(tmp_path, "users")[-1], Done)


def test_an_entry_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with book_in(tmp_path) as book:
        small_book(book)
        right = book.read_models.states()["users"]
        assert isinstance(book.log, SQLiteLog)
        book.log.connection.execute("DROP TRIGGER log_is_never_updated")
        book.log.connection.execute("UPDATE log SET entry = ? WHERE position = 2", (b'{"position":2}',))
        told = run(tmp_path, "users")[-1]
        assert isinstance(told, Failed)
        assert "position 2" in told.sentence
        assert book.read_models.states()["users"] == right


def test_a_store_that_is_not_there_is_told(tmp_path: Path) -> None:
    [told] = run(tmp_path, "users")
    assert isinstance(told, Failed)
    assert "gatebook.db" in told.sentence


def test_a_fault_is_told_by_its_place_and_never_by_its_words(tmp_path: Path) -> None:
    with book_in(tmp_path) as book:
        small_book(book)
    [told] = run(tmp_path, "surprise")
    assert isinstance(told, Failed)
    assert told.sentence == "Something went wrong on our side."
    assert told.fault is not None
    assert re.fullmatch(r"LookupError at rebuild_child\.py:\d+", told.fault)


def test_the_book_goes_on_while_it_is_folded(tmp_path: Path) -> None:
    with book_in(tmp_path) as book:
        small_book(book)
        before = book.log.head().position
        told: list[Told] = []

        def hear(one: Told) -> None:
            if not told:
                tell(book, NOON + timedelta(days=1), ("session", opened(1, NOON + timedelta(days=1))))
            told.append(one)

        work(Work(Store.at(address_of(tmp_path)), "sessions"), hear)
        assert told == [Progress(before, before), Progress(before + 1, before + 1), Done(before + 1, changed=False)]
        sessions = book.projection("sessions")
        assert sessions is not None
        assert book.document(sessions, str(before + 1)) is not None


def test_an_address_travels_whole_and_its_key_is_not_shown() -> None:
    address = StoreAddress(Path("x/gatebook.db"), "c2VjcmV0", Path("x/key"))
    store = msgspec.json.decode(msgspec.json.encode(Store.at(address)), type=Store)
    assert store.address == address
    assert "c2VjcmV0" not in repr(Work(store, "users"))
