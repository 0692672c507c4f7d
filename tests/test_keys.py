"""Keys: the master key and its file, the key stores, and what a replaced key leaves behind."""

from __future__ import annotations

import os
import threading
import traceback
from base64 import b64encode
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import apsw
import pytest

from events.errors import MasterKeyError, NotOurStoreError, SealBrokenError, StoreBusyError, SubjectKeyMissingError
from events.keys import Keyring, MasterKey, ServiceKey
from events.keys_sqlite import SQLiteKeyStore
from events.memory import MemoryKeyStore
from service.book import open_book, parse_address
from tests.entries import START, append, failed
from tests.key_store_contract import KeyStoreContract, Opening, service_key

SECRET = bytes(range(32))
MASTER = MasterKey(SECRET)
BOOK = "a book"


class TestMemoryKeyStore(KeyStoreContract):
    @pytest.fixture
    def opening(self) -> Opening:
        keys = MemoryKeyStore(BOOK)
        return lambda: keys


class TestSQLiteKeyStore(KeyStoreContract):
    @pytest.fixture
    def opening(self, tmp_path: Path) -> Opening:
        return lambda: SQLiteKeyStore(tmp_path / "keys.db", BOOK, MASTER)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gatebook.keys.db"


@pytest.fixture
def keys(path: Path) -> Iterator[SQLiteKeyStore]:
    keys = SQLiteKeyStore(path, BOOK, MASTER)
    yield keys
    keys.close()


# The master key.


def test_a_master_key_shows_nothing_of_itself() -> None:
    assert repr(MASTER) == "MasterKey(…)"
    assert f"{MASTER}" == "MasterKey(…)"
    assert SECRET.hex() not in MASTER.check
    assert MASTER.check == MasterKey(SECRET).check
    assert MASTER.check != MasterKey(bytes(32)).check


@pytest.mark.parametrize("length", [0, 16, 31, 33])
def test_a_master_key_has_32_bytes(length: int) -> None:
    with pytest.raises(MasterKeyError, match="32 bytes"):
        MasterKey(bytes(length))
    with pytest.raises(MasterKeyError, match="32 bytes"):
        MasterKey.from_text(b64encode(bytes(length)).decode())


@pytest.mark.parametrize("text", ["hunter2-hunter2", "é" * 44, b64encode(SECRET).decode()[:-1], "=" * 44, "\0"])
def test_a_master_key_that_is_no_base64_is_refused_without_being_shown(text: str) -> None:
    with pytest.raises(MasterKeyError, match="base64 of 32 bytes") as caught:
        MasterKey.from_text(text)
    assert text not in "".join(traceback.format_exception(caught.value))


def test_a_key_is_wrapped_for_one_purpose() -> None:
    wrapped = MASTER.wrap(b"k" * 32, "subject 17")
    assert MASTER.unwrap(wrapped, "subject 17") == b"k" * 32
    assert MASTER.wrap(b"k" * 32, "subject 17") != wrapped, "nonces are random"
    for master, box, purpose in [
        (MASTER, wrapped, "subject 18"),
        (MasterKey(bytes(32)), wrapped, "subject 17"),
        (MASTER, wrapped[:-1], "subject 17"),
        (MASTER, wrapped[:-1] + bytes([wrapped[-1] ^ 1]), "subject 17"),
        (MASTER, bytes([wrapped[0] ^ 1]) + wrapped[1:], "subject 17"),
        (MASTER, wrapped[:11], "subject 17"),
        (MASTER, b"", "subject 17"),
    ]:
        with pytest.raises(SealBrokenError, match=r"subject 1[78] does not authenticate"):
            master.unwrap(box, purpose)


# Its file.


def test_a_master_key_file_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    file = tmp_path / "master-key"
    before = os.umask(0)
    try:
        made = MasterKey.create_file(file)
    finally:
        os.umask(before)
    assert file.stat().st_mode & 0o777 == 0o600
    assert MasterKey.from_file(file).check == made.check
    content = file.read_bytes()
    with pytest.raises(FileExistsError):
        MasterKey.create_file(file)
    assert file.read_bytes() == content
    assert list(tmp_path.iterdir()) == [file], "something was left beside it"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o610, 0o777])
def test_a_master_key_file_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "master-key"
    MasterKey.create_file(file)
    file.chmod(mode)
    with pytest.raises(MasterKeyError, match=f"mode 0{mode:o}.*chmod it to 0600"):
        MasterKey.from_file(file)


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_master_key_file_that_its_owner_alone_may_read_is_taken(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "master-key"
    file.write_bytes(b64encode(SECRET) + b"\r\n")
    file.chmod(mode)
    assert MasterKey.from_file(file).check == MASTER.check


@pytest.mark.parametrize("content", [b"", b"swordfish", b"\xff\xfe\xfd", b64encode(bytes(31))])
def test_a_master_key_file_with_something_else_is_refused_without_showing_it(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "master-key"
    file.touch(0o600)
    file.write_bytes(content)
    with pytest.raises(MasterKeyError, match="32 bytes") as caught:
        MasterKey.from_file(file)
    said = "".join(traceback.format_exception(caught.value))
    assert "swordfish" not in said
    assert "xff" not in said


def test_a_master_key_file_that_cannot_be_read_or_made(tmp_path: Path) -> None:
    with pytest.raises(MasterKeyError, match="cannot be read: No such file"):
        MasterKey.from_file(tmp_path / "missing")
    with pytest.raises(MasterKeyError, match="cannot be written: No such file"):
        MasterKey.create_file(tmp_path / "nowhere" / "master-key")


def test_what_an_earlier_process_left_is_in_nobodys_way(tmp_path: Path) -> None:
    file = tmp_path / "master-key"
    # A crash before the link, in a container where every process has the same number.
    file.with_name(f"{file.name}.{os.getpid()}.new").touch()
    made = MasterKey.create_file(file)
    assert MasterKey.from_file(file).check == made.check


def test_of_those_that_make_a_master_key_at_once_one_does(tmp_path: Path) -> None:
    def make() -> None:
        barrier.wait()
        try:
            checks.append(MasterKey.create_file(file).check)
        except FileExistsError:
            checks.append(MasterKey.from_file(file).check)

    for number in range(20):
        file = tmp_path / f"{number}" / "master-key"
        file.parent.mkdir()
        barrier = threading.Barrier(4)
        checks: list[str] = []
        threads = [threading.Thread(target=make) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(checks) == 4
        assert len(set(checks)) == 1
        assert list(file.parent.iterdir()) == [file]


def test_those_that_open_a_new_book_at_once_have_the_same_keys(tmp_path: Path) -> None:
    address = parse_address(f"sqlite:{tmp_path}/gatebook.db")

    def start() -> None:
        barrier.wait()
        try:
            book = open_book(address, create=True)
            tags.append(book.tag("username", "alice"))
            book.close()
        except BaseException as error:  # noqa: BLE001 - a thread's error is the test's
            errors.append(error)

    for _ in range(5):
        barrier = threading.Barrier(3)
        tags: list[str] = []
        errors: list[BaseException] = []
        threads = [threading.Thread(target=start) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        assert len(set(tags)) == 1
        for file in tmp_path.iterdir():
            file.unlink()


# A book and its keys.


def test_a_book_with_entries_never_gets_new_keys(tmp_path: Path) -> None:
    address = parse_address(f"sqlite:{tmp_path}/gatebook.db")
    said: list[str] = []
    book = open_book(address, create=True, said=said.append)
    append(book.log, ("service", failed()))
    book.close()
    assert len(said) == 1
    assert "made a master key in" in said[0]
    assert "0600" in said[0]
    away = tmp_path / "away"
    address.master_path.rename(away)
    with pytest.raises(MasterKeyError, match="missing, and this book has entries"):
        open_book(address, create=True)
    assert not address.master_path.exists()
    MasterKey.create_file(address.master_path)
    with pytest.raises(MasterKeyError, match="not the one that the key store"):
        open_book(address, create=True)
    address.master_path.unlink()
    away.rename(address.master_path)
    address.keys_path.rename(away)
    with pytest.raises(Exception, match="There is no gatebook key store at"):
        open_book(address, create=True)
    assert not address.keys_path.exists()
    away.rename(address.keys_path)
    open_book(address).close()


def test_a_key_store_belongs_to_one_book_and_one_master_key(path: Path, keys: SQLiteKeyStore) -> None:
    with pytest.raises(NotOurStoreError, match="belongs to another book"):
        SQLiteKeyStore(path, "another book", MASTER)
    with pytest.raises(MasterKeyError, match="not the one that the key store") as caught:
        SQLiteKeyStore(path, BOOK, MasterKey(bytes(32)))
    assert MASTER.check not in str(caught.value)
    SQLiteKeyStore(path, BOOK, MASTER, create=False).close()


# What is on disk.


def on_disk(path: Path, sought: bytes) -> list[str]:
    """The files of the store in which those bytes stand."""
    return [file.name for file in path.parent.iterdir() if sought in file.read_bytes()]


def test_a_replaced_key_is_in_no_file(path: Path, keys: SQLiteKeyStore) -> None:
    ring = Keyring(MASTER, keys)
    key = ring.service_key("throttles", START)
    first = keys.service_key("throttles")
    assert first is not None
    assert on_disk(path, first.wrapped), "the test looks in the wrong place"
    for _ in range(50):
        keys.put_subject_keys({subject: os.urandom(60) for subject in range(20)})
    # The older key now stands in the database itself, the newer one in the write-ahead log.
    apsw.Connection(str(path)).execute("PRAGMA wal_checkpoint(PASSIVE)")
    assert ring.rotate_service_key("throttles", START + timedelta(days=30), START + timedelta(seconds=1))
    assert on_disk(path, first.wrapped) == []
    assert on_disk(path, first.wrapped[12:40]) == []
    second = keys.service_key("throttles")
    assert second is not None
    assert on_disk(path, second.wrapped)
    assert ring.service_key("throttles", START) != key


def test_a_key_replaced_by_a_shorter_one_leaves_no_rest(path: Path, keys: SQLiteKeyStore) -> None:
    old = bytes(range(1, 200))
    for name in ("before", "throttles", "after"):
        keys.put_service_key(service_key(name, name.encode() + old), replacing=None)
    assert keys.put_service_key(service_key("throttles", b"new"), replacing=b"throttles" + old)
    assert on_disk(path, b"throttles" + old[:8]) == []
    assert on_disk(path, b"before" + old[:8]) == [path.name]


def test_no_key_is_on_disk_as_it_is(path: Path, keys: SQLiteKeyStore) -> None:
    ring = Keyring(MASTER, keys)
    key = ring.service_key("names", START)
    assert on_disk(path, key) == []
    assert on_disk(path, SECRET) == []
    assert on_disk(path, b64encode(SECRET)) == []


def test_a_replaced_key_that_somebody_still_reads_is_destroyed_after_that(
    path: Path, keys: SQLiteKeyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SQLiteKeyStore._sweep, "__defaults__", (0.02,))
    keys.put_service_key(service_key("throttles", b"old and wrapped"), replacing=None)
    reader = apsw.Connection(str(path))
    reader.execute("BEGIN").execute("SELECT * FROM service_key").fetchall()
    with pytest.raises(StoreBusyError, match="The replaced key throttles may still stand"):
        keys.put_service_key(service_key("throttles", b"new and wrapped"), replacing=b"old and wrapped")
    assert on_disk(path, b"old and wrapped"), "nothing was in its way"
    assert keys.service_key("throttles") == service_key("throttles", b"new and wrapped")
    reader.close()
    keys.service_key("throttles")
    assert on_disk(path, b"old and wrapped") == []


def test_a_destroyed_key_is_in_no_file(path: Path, keys: SQLiteKeyStore) -> None:
    rest = bytes(range(1, 200))
    for name in ("before", "cookies-1", "after"):
        keys.put_service_key(service_key(name, name.encode() + rest), replacing=None)
    # It stands in the database itself, and in the write-ahead log.
    apsw.Connection(str(path)).execute("PRAGMA wal_checkpoint(PASSIVE)")
    assert len(on_disk(path, b"cookies-1" + rest[:8])) == 2, "the test looks in the wrong place"
    assert keys.destroy_service_key("cookies-1")
    assert on_disk(path, b"cookies-1" + rest[:8]) == []
    assert on_disk(path, b"before" + rest[:8]) == [path.name]


def test_a_key_that_somebody_reads_is_destroyed_when_they_are_done(
    path: Path, keys: SQLiteKeyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SQLiteKeyStore._sweep, "__defaults__", (0.02,))
    keys.put_service_key(service_key("cookies-1", b"old and wrapped"), replacing=None)
    reader = apsw.Connection(str(path))
    reader.execute("BEGIN").execute("SELECT * FROM service_key").fetchall()
    with pytest.raises(StoreBusyError, match="The destroyed key cookies-1 may still stand"):
        keys.destroy_service_key("cookies-1")
    assert on_disk(path, b"old and wrapped"), "nothing was in its way"
    assert keys.service_keys() == []
    reader.close()
    keys.service_key("throttles")
    assert on_disk(path, b"old and wrapped") == []


def test_a_replacement_that_was_cut_short_is_finished_by_the_next_start(
    path: Path, keys: SQLiteKeyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys.put_service_key(service_key("throttles", b"old and wrapped"), replacing=None)
    with monkeypatch.context() as patch:
        patch.setattr(SQLiteKeyStore, "_sweep", lambda self: None)
        assert keys.put_service_key(service_key("throttles", b"new and wrapped"), replacing=b"old and wrapped")
    assert on_disk(path, b"old and wrapped")
    SQLiteKeyStore(path, BOOK, MASTER).close()
    assert on_disk(path, b"old and wrapped") == []


def test_only_the_owner_reads_the_keys(path: Path, keys: SQLiteKeyStore) -> None:
    keys.put_subject_keys({1: b"one"})
    for file in path.parent.iterdir():
        assert file.stat().st_mode & 0o777 == 0o600, file.name


# The keyring.


class _Counting(MemoryKeyStore):
    reads = 0

    def subject_keys(self, subjects: object) -> dict[int, bytes]:
        self.reads += 1
        return super().subject_keys(subjects)  # type: ignore[arg-type]  # handed on


def test_a_subject_without_a_key_is_named() -> None:
    with pytest.raises(SubjectKeyMissingError, match="subject 17") as caught:
        Keyring(MASTER, MemoryKeyStore(BOOK))(17)
    assert caught.value.subject == 17


def test_created_keys_are_at_hand_at_once_and_for_others_when_kept() -> None:
    store = _Counting(BOOK)
    ring, other = Keyring(MASTER, store), Keyring(MASTER, store)
    wrapped = ring.create([1, 2])
    box = ring(1).encrypt(bytes(12), b"text", b"")
    with pytest.raises(SubjectKeyMissingError):
        other(1)
    ring.keep(wrapped)
    assert other(1).decrypt(bytes(12), box, b"") == b"text"
    assert ring(1).encrypt(bytes(12), b"text", b"") != ring(2).encrypt(bytes(12), b"text", b"")


def test_keys_are_brought_to_hand_in_one_read() -> None:
    store = _Counting(BOOK)
    Keyring(MASTER, store).keep(Keyring(MASTER, store).create(range(1, 6)))
    ring = Keyring(MASTER, store)
    ring.prepare([1, 2, 3, 99])
    ring.prepare([1, 2])
    for subject in (1, 2, 3):
        ring(subject)
    assert store.reads == 1


def test_keys_that_are_forgotten_are_read_anew() -> None:
    store = MemoryKeyStore(BOOK)
    ring, other = Keyring(MASTER, store), Keyring(MASTER, store)
    ring.create([1])
    ring.forget([1, 2])
    other.keep(other.create([1]))
    assert ring(1).decrypt(bytes(12), other(1).encrypt(bytes(12), b"text", b""), b"") == b"text"


def test_no_more_keys_are_at_hand_than_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("events.keys.MAX_CACHED_KEYS", 3)
    store = MemoryKeyStore(BOOK)
    ring = Keyring(MASTER, store)
    ring.keep(ring.create(range(1, 9)))
    ring = Keyring(MASTER, store)
    for subject in range(1, 9):
        ring(subject)
    assert list(ring._ciphers) == [6, 7, 8]


def test_created_keys_are_bounded_too_once_they_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer that only ever meets accounts which it has just made looks for no key in the store."""
    monkeypatch.setattr("events.keys.MAX_CACHED_KEYS", 3)
    ring = Keyring(MASTER, MemoryKeyStore(BOOK))
    for subject in range(1, 9):
        ring.keep(ring.create([subject]))
    assert list(ring._ciphers) == [6, 7, 8]
    ring.keep(ring.create(range(9, 14)))
    assert [ring(subject) is not None for subject in range(9, 14)] == [True] * 5


def test_a_subjects_key_in_anothers_place_is_not_believed() -> None:
    store = MemoryKeyStore(BOOK)
    wrapped = Keyring(MASTER, store).create([1])
    store.put_subject_keys({2: wrapped[1]})
    ring = Keyring(MASTER, store)
    with pytest.raises(SealBrokenError, match="subject 2"):
        ring(2)
    assert [(broken.table, broken.row) for broken in ring.broken()] == [("subject_key", "2")]


def test_a_service_key_is_made_on_first_use_and_the_same_ever_after() -> None:
    store = MemoryKeyStore(BOOK)
    made = Keyring(MASTER, store).dated_service_key("names", START)
    later = START + timedelta(days=400)
    assert Keyring(MASTER, store).dated_service_key("names", later) == made
    assert made[0] == START
    assert len(made[1]) == 32
    assert Keyring(MASTER, store).service_key("throttles", START) != made[1]


def test_a_service_key_is_replaced_when_it_is_old_and_not_before() -> None:
    ring = Keyring(MASTER, MemoryKeyStore(BOOK))
    limit = timedelta(days=30)
    assert not ring.rotate_service_key("throttles", START, START - limit), "there is nothing to replace"
    first = ring.service_key("throttles", START)
    assert not ring.rotate_service_key("throttles", START + limit, START)
    assert ring.service_key("throttles", START) == first
    later = START + limit + timedelta(seconds=1)
    assert ring.rotate_service_key("throttles", later, later - limit)
    assert ring.dated_service_key("throttles", later)[0] == later
    assert ring.service_key("throttles", later) != first


def test_a_keyring_opens_the_keys_whose_names_begin_so() -> None:
    store = MemoryKeyStore(BOOK)
    ring = Keyring(MASTER, store)
    made = {name: ring.service_key(name, START) for name in ("cookies-1", "cookies-2", "throttles")}
    del made["throttles"]
    assert Keyring(MASTER, store).service_keys("cookies-") == made
    assert len(set(made.values())) == 2
    assert ring.destroy_service_key("cookies-1")
    assert not ring.destroy_service_key("cookies-1")
    assert list(ring.service_keys("cookies-")) == ["cookies-2"]
    assert ring.service_key("cookies-1", START) != made["cookies-1"]
    store._service["cookies-2"] = ServiceKey("cookies-2", START, MASTER.wrap(bytes(32), "another"))
    with pytest.raises(SealBrokenError, match="cookies-2"):
        ring.service_keys("cookies-")
    assert ring.service_key_names("cookies-") == ["cookies-1", "cookies-2"]


def test_a_service_key_cannot_be_made_to_look_younger() -> None:
    store = MemoryKeyStore(BOOK)
    ring = Keyring(MASTER, store)
    ring.service_key("throttles", START)
    kept = store.service_key("throttles")
    assert kept is not None
    store._service["throttles"] = ServiceKey("throttles", START + timedelta(days=30), kept.wrapped)
    with pytest.raises(SealBrokenError, match="throttles"):
        ring.service_key("throttles", START)
    assert [(broken.table, broken.row) for broken in ring.broken()] == [("service_key", "throttles")]
