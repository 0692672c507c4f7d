"""What is refused when a store is opened or written to: one clear sentence, the right error, and nothing changed."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw
import pytest

from events.errors import (
    CorruptStoreError,
    NewerStoreError,
    NotOurStoreError,
    StoreError,
    StoreFullError,
    StoreUnavailableError,
)
from events.keys import MasterKey
from events.keys_sqlite import SQLiteKeyStore
from events.log import Query
from events.sqlite import SQLiteLog
from tests.entries import append, failed, opened, registered

Opening = Callable[[Path, bool], SQLiteLog | SQLiteKeyStore]
MASTER = MasterKey(bytes(32))
NOBODY = 65_534


def open_log(path: Path, create: bool) -> SQLiteLog:
    return SQLiteLog(path, create=create)


def open_keys(path: Path, create: bool) -> SQLiteKeyStore:
    return SQLiteKeyStore(path, "a book", MASTER, create=create)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gatebook.db"


@pytest.fixture(params=[open_log, open_keys])
def opening(request: pytest.FixtureRequest) -> Opening:
    chosen: Opening = request.param
    return chosen


@pytest.fixture
def filled(path: Path) -> Path:
    """A closed store of 400 entries in one file."""
    log = SQLiteLog(path)
    append(log, ("user", registered()), *([("session", opened())] * 399))
    log.close()
    return path


def files_of(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def raw(path: Path, *statements: str) -> None:
    connection = apsw.Connection(str(path))
    for statement in statements:
        connection.execute(statement)
    connection.close()


def refused(opening: Opening, path: Path, error: type[StoreError], *, create: bool = True) -> str:
    """What is said when the store is opened; nothing of it changes."""
    before = files_of(path.parent) if path.parent.is_dir() else {}
    with pytest.raises(error) as caught:
        opening(path, create)
    if path.parent.is_dir():
        assert {name: data for name, data in files_of(path.parent).items() if name in before} == before
        assert not path.exists() or path.name in before, "a refusal made a file"
    said = str(caught.value)
    assert str(path.name) in said or str(path.parent) in said
    assert said.endswith((".", "one.", "is.", "backup."))
    assert "\n" not in said
    return said


# Where there is no store.


def test_a_store_that_is_not_there(opening: Opening, path: Path) -> None:
    assert "`gatebook serve` makes one" in refused(opening, path, StoreUnavailableError, create=False)


@pytest.mark.parametrize("create", [True, False])
def test_a_folder_that_is_not_there(opening: Opening, tmp_path: Path, create: bool) -> None:
    refused(opening, tmp_path / "nowhere" / "gatebook.db", StoreUnavailableError, create=create)
    assert not (tmp_path / "nowhere").exists()


def test_a_folder_in_the_place_of_the_store(opening: Opening, tmp_path: Path) -> None:
    (tmp_path / "gatebook.db").mkdir()
    with pytest.raises(StoreUnavailableError, match="cannot be used"):
        opening(tmp_path / "gatebook.db", True)


def test_a_file_in_the_place_of_the_folder(opening: Opening, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreUnavailableError, match="folder"):
        opening(tmp_path / "file" / "gatebook.db", True)


@contextmanager
def unwritable(store: Callable[[Path], object] | None = None) -> Iterator[Path]:
    """A folder that this process may read and not write, also when the tests run as root."""
    with tempfile.TemporaryDirectory() as name:
        folder, user = Path(name), os.geteuid()
        if store is not None:
            store(folder / "gatebook.db")
            (folder / "gatebook.db").chmod(0o644)
        folder.chmod(0o555)
        try:
            if user == 0:
                os.seteuid(NOBODY)
            yield folder
        finally:
            os.seteuid(user)
            folder.chmod(0o755)


def test_a_folder_that_cannot_be_written_to(opening: Opening) -> None:
    with unwritable() as folder:
        with pytest.raises(StoreUnavailableError, match=r"cannot be found or made: Permission denied\.$"):
            opening(folder / "gatebook.db", True)
        assert list(folder.iterdir()) == []


def test_a_store_in_a_folder_that_cannot_be_written_to(opening: Opening) -> None:
    with unwritable(lambda path: opening(path, True).close()) as folder:
        for create in (True, False):
            with pytest.raises(StoreUnavailableError, match=r"gatebook\.db cannot be"):
                opening(folder / "gatebook.db", create)


def test_a_lock_that_cannot_be_opened(filled: Path) -> None:
    lock = filled.with_name("gatebook.db-lock")
    lock.unlink()
    lock.mkdir()
    with pytest.raises(StoreUnavailableError, match="lock of"):
        SQLiteLog(filled)


def test_a_file_that_cannot_be_made(opening: Opening, tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailableError, match="cannot be found or made"):
        opening(tmp_path / ("x" * 300), True)


# What is not ours.


@pytest.mark.parametrize(
    "content", [b"xy", b"no database, but text of some length\n" * 40, b"SQLite format 3\x00", bytes(5000)]
)
@pytest.mark.parametrize("create", [True, False])
def test_a_file_that_is_no_database(opening: Opening, path: Path, content: bytes, create: bool) -> None:
    path.write_bytes(content)
    said = refused(opening, path, NotOurStoreError, create=create)
    assert "left as it is" in said or "was left as it is" in said


@pytest.mark.parametrize(
    "statements",
    [
        ("CREATE TABLE theirs (x)",),
        ("CREATE TABLE theirs (x)", "PRAGMA application_id = 7"),
        ("PRAGMA application_id = 7",),
        ("CREATE TABLE book (x)", "PRAGMA user_version = 9"),
    ],
)
@pytest.mark.parametrize("create", [True, False])
def test_a_database_of_another_application(
    opening: Opening, path: Path, statements: tuple[str, ...], create: bool
) -> None:
    raw(path, *statements)
    assert "another application" in refused(opening, path, NotOurStoreError, create=create)


def test_a_key_store_is_no_store_and_a_store_no_key_store(tmp_path: Path) -> None:
    log, keys = tmp_path / "gatebook.db", tmp_path / "gatebook.keys.db"
    open_log(log, create=True).close()
    open_keys(keys, create=True).close()
    refused(open_keys, log, NotOurStoreError)
    refused(open_log, keys, NotOurStoreError)


def test_an_empty_file_is_made_a_store_only_where_one_may_be_made(opening: Opening, path: Path) -> None:
    path.touch()
    assert "is empty" in refused(opening, path, StoreUnavailableError, create=False)
    assert path.read_bytes() == b""
    assert sorted(files_of(path.parent)) == ["gatebook.db"]
    opening(path, True).close()
    opening(path, False).close()


# What is newer than we are.


def test_a_store_of_a_newer_schema(opening: Opening, path: Path) -> None:
    opening(path, True).close()
    raw(path, "PRAGMA user_version = 2")
    assert "newer gatebook (schema 2, this one knows 1)" in refused(opening, path, NewerStoreError, create=False)
    assert "newer gatebook" in refused(opening, path, NewerStoreError)


def test_a_store_of_a_newer_catalogue(filled: Path) -> None:
    raw(filled, "UPDATE book SET catalogue = catalogue || ',moon.landed,user.doubled'")
    assert "newer gatebook: it may hold moon.landed, user.doubled;" in refused(open_log, filled, NewerStoreError)


def test_a_catalogue_that_became_newer_while_we_run(path: Path) -> None:
    log = SQLiteLog(path)
    append(log, ("service", failed()))
    raw(path, "UPDATE book SET catalogue = catalogue || ',user.erased'")
    with pytest.raises(NewerStoreError, match="this one writes no more"):
        append(log, ("service", failed()))
    assert [one.position for one in log.read(Query())] == [1]
    assert log.head().position == 1
    log.close()


def test_an_older_catalogue_is_raised_by_the_first_write(path: Path) -> None:
    log = SQLiteLog(path)
    raw(path, "UPDATE book SET catalogue = 'user.registered,session.opened'")
    SQLiteLog(path).close()
    append(log, ("service", failed()))
    known = log.connection.execute("SELECT catalogue FROM book").get
    assert "audit.read" in known.split(",")
    log.close()


# What is damaged.


def test_a_damaged_page_is_told_of(filled: Path) -> None:
    size = 4096
    whole = filled.read_bytes()
    outcomes = set()
    for page in range(1, len(whole) // size):
        # The first bytes of a page are its header.
        filled.write_bytes(whole[: page * size] + b"\xee" * 16 + whole[page * size + 16 :])
        try:
            log = SQLiteLog(filled)
        except CorruptStoreError:
            outcomes.add("opening")
            continue
        try:
            log.head()
            log.entries(Query())
            log.entries(Query(stream="user-1"))
            outcomes.add("an index that was not read")
        except CorruptStoreError as error:
            outcomes.add("reading" if "damaged" in str(error) and "backup" in str(error) else str(error))
        log.close()
    assert outcomes == {"opening", "reading", "an index that was not read"}


def test_bytes_flipped_anywhere_raise_our_errors_or_none(filled: Path) -> None:
    whole = filled.read_bytes()
    chance = random.Random(20)  # noqa: S311 - the same places in every run
    for _ in range(60):
        damaged = bytearray(whole)
        for _ in range(20):
            damaged[chance.randrange(100, len(whole))] ^= chance.randrange(1, 256)
        filled.write_bytes(damaged)
        try:
            log = SQLiteLog(filled)
        except StoreError:
            continue
        try:
            log.head()
            log.entries(Query())
        except StoreError:
            pass
        finally:
            log.close()


def test_a_store_cut_short(filled: Path) -> None:
    whole = filled.read_bytes()
    filled.write_bytes(whole[: len(whole) // 8192 * 4096])
    with pytest.raises(CorruptStoreError, match="damaged"):
        SQLiteLog(filled).entries(Query())


@pytest.mark.parametrize("table", ["book", "head"])
def test_a_row_that_is_missing(filled: Path, table: str) -> None:
    raw(filled, f"DELETE FROM {table}")  # noqa: S608 - a table named above
    with pytest.raises(CorruptStoreError):
        SQLiteLog(filled).head()


def test_a_frontier_that_is_none(filled: Path) -> None:
    raw(filled, "UPDATE head SET frontier = x'00'")
    log = SQLiteLog(filled)
    with pytest.raises(CorruptStoreError, match="head"):
        log.head()
    with pytest.raises(CorruptStoreError), log.transaction():
        pytest.fail("nothing can be appended to it")
    log.close()


# Opening at once.


def test_two_that_start_at_once_make_one_store(opening: Opening, path: Path) -> None:
    def start() -> None:
        barrier.wait()
        try:
            made.append(opening(path, True))
        except BaseException as error:  # noqa: BLE001 - a thread's error is the test's
            errors.append(error)

    for _ in range(10):
        barrier = threading.Barrier(4)
        made: list[SQLiteLog | SQLiteKeyStore] = []
        errors: list[BaseException] = []
        threads = [threading.Thread(target=start) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        assert len({one.book_id for one in made}) == 1
        for one in made:
            one.close()
        for file in path.parent.iterdir():
            file.unlink()


WRITER = """
import sys
from pathlib import Path
from events.sqlite import SQLiteLog
from tests.entries import append, failed, opened

log = SQLiteLog(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
for _ in range(40):
    append(log, ("service", failed()), ("session", opened()))
log.close()
"""


def test_processes_that_append_at_once_leave_no_gap(path: Path) -> None:
    log, onlooker = SQLiteLog(path), SQLiteLog(path)
    state = onlooker.state()
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)],
            cwd=Path(__file__).parent.parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    for _ in range(40):
        append(log, ("service", failed()), ("session", opened()))
    for writer in writers:
        writer.communicate(timeout=30)
        assert writer.returncode == 0
    assert onlooker.state() != state
    onlooker.close()
    assert [one.position for one in log.read(Query())] == list(range(1, 241))
    assert [one.version for one in log.read(Query(stream="service"))] == list(range(1, 121))
    assert log.head().position == 240
    log.close()


# No room.


@contextmanager
def tiny_disk(folder: Path, size: str) -> Iterator[None]:
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("a small disk cannot be mounted here; the bound on pages below stands for it")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], capture_output=True, check=True)


def fill_up(log: SQLiteLog) -> int:
    """Appends until there is no room; the last position that was answered."""
    for _ in range(2_000):
        try:
            append(log, ("service", failed()), ("user", registered("x" * 5_000)))
        except StoreFullError as error:
            assert "no room" in str(error)  # noqa: PT017 - the error ends the loop
            return log.head().position
    return pytest.fail("it never filled up")


def test_a_full_disk_refuses_writes_and_loses_nothing(tmp_path: Path) -> None:
    with tiny_disk(tmp_path, "1m"):
        path, ballast = tmp_path / "gatebook.db", tmp_path / "ballast"
        ballast.write_bytes(bytes(300_000))
        log = SQLiteLog(path)
        head = fill_up(log)
        reader = SQLiteLog(path)
        assert reader.head().position == log.head().position == head > 2
        assert [one.position for one in reader.read(Query())] == list(range(1, head + 1))
        reader.close()
        with pytest.raises(StoreFullError):
            append(log, *([("user", registered("x" * 5_000))] * 10))
        assert log.head().position == head
        ballast.unlink()
        append(log, ("user", registered("x" * 5_000)))
        assert log.head().position == head + 1
        assert log.connection.execute("PRAGMA integrity_check").get == "ok"
        log.close()


def test_a_full_disk_refuses_a_new_store(opening: Opening, tmp_path: Path) -> None:
    with tiny_disk(tmp_path, "16k"):
        (tmp_path / "ballast").write_bytes(bytes(12_000))
        with pytest.raises(StoreError):
            opening(tmp_path / "gatebook.db", True)
        (tmp_path / "ballast").unlink()
        subprocess.run(["mount", "-o", "remount,size=2m", str(tmp_path)], capture_output=True, check=True)
        opening(tmp_path / "gatebook.db", True).close()


def test_a_bound_on_pages_refuses_writes_and_loses_nothing(path: Path) -> None:
    log = SQLiteLog(path)
    log.connection.pragma("max_page_count", 40)
    head = fill_up(log)
    assert [one.position for one in log.read(Query())] == list(range(1, head + 1))
    log.connection.pragma("max_page_count", 4_000)
    append(log, ("service", failed()))
    assert log.head().position == head + 1
    log.close()
