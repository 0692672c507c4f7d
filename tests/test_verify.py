"""Whatever is changed in a store behind gatebook's back, opening it or `verify` says where."""

# ruff: noqa: S608 - the names of tables and columns come out of the schema

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import apsw
import msgspec
import pytest

from events import merkle
from events.catalogue import SessionSeen, UserLevelChanged
from events.errors import (
    BookError,
    CorruptStoreError,
    MasterKeyError,
    NewerStoreError,
    NotOurStoreError,
    SealBrokenError,
    UnreadableTextError,
)
from projections import digest
from projections.faults import Fault
from projections.projection import AnyProjection
from projections.sqlite_verify import SQLiteEvidence
from projections.store import Row
from projections.verify import Verification, verify
from projections.verify_entries import Versions
from service.book import Book, open_book, parse_address
from tests.books import NOON, small_book, tell
from tests.house import book_in

LOG, KEYS = "gatebook.db", "gatebook.keys.db"
LATER = NOON + timedelta(hours=3)


@cache
def pristine() -> dict[str, bytes]:
    """The files of a sound store in which every table has rows."""
    with TemporaryDirectory() as folder:
        with book_in(Path(folder)) as book:
            small_book(book)
            book.keyring.service_key("throttles", NOON)
        return {file.name: file.read_bytes() for file in Path(folder).iterdir()}


def put_store(folder: Path) -> None:
    for name, content in pristine().items():
        (folder / name).write_bytes(content)
        (folder / name).chmod(0o600)


@contextmanager
def behind_the_back(folder: Path, file: str = LOG) -> Iterator[apsw.Connection]:
    """The file as somebody has it who can write it: the triggers are away meanwhile, and back afterwards."""
    with closing(apsw.Connection(str(folder / file))) as connection:
        triggers = rows(connection, "SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")
        for name, _ in triggers:
            connection.execute(f"DROP TRIGGER {name}")
        yield connection
        for _, sql in triggers:
            connection.execute(sql)


def rows(connection: apsw.Connection, sql: str, *values: Any) -> list[Any]:
    found: list[Any] = connection.execute(sql, values).fetchall()
    return found


@contextmanager
def opened_book(folder: Path) -> Iterator[Book]:
    book = open_book(parse_address(f"sqlite:{folder}/{LOG}"))
    try:
        yield book
    finally:
        book.close()


def verified(folder: Path, *, keys: bool = True) -> Verification:
    with opened_book(folder) as book:
        evidence = SQLiteEvidence(book.log, book.read_models)
        return verify(evidence, book.projections, keyring=book.keyring if keys else None)


def described(folder: Path, file: str) -> dict[str, list[tuple[str, str, int]]]:
    """Every table of a file, with its columns: name, type, and place in the primary key."""
    with closing(apsw.Connection(str(folder / file))) as connection:
        tables = [name for (name,) in rows(connection, "SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {
            table: [(name, kind, key) for _, name, kind, _, _, key in rows(connection, f"PRAGMA table_info({table})")]
            for table in tables
        }


@cache
def tables() -> dict[tuple[str, str], list[tuple[str, str, int]]]:
    """The same of both files."""
    with TemporaryDirectory() as folder:
        put_store(Path(folder))
        return {
            (file, table): columns for file in (LOG, KEYS) for table, columns in described(Path(folder), file).items()
        }


def key_of(file: str, table: str) -> str:
    return next(name for name, _, key in tables()[file, table] if key)


COLUMNS = [(file, table, name) for (file, table), columns in tables().items() for name, _, _ in columns]
TEXT_COLUMNS = [
    (file, table, name) for (file, table), columns in tables().items() for name, kind, _ in columns if kind == "TEXT"
]
# What refuses to open a book at all, and says why.
REFUSED: dict[tuple[str, str], tuple[type[BookError], str]] = {
    ("book", "catalogue"): (NewerStoreError, "may hold user.registeredx"),
    ("book", "book_id"): (NotOurStoreError, "belongs to another book"),
    ("keys", "book_id"): (NotOurStoreError, "belongs to another book"),
    ("keys", "master_check"): (MasterKeyError, "is not the one that the key store"),
}


def other(value: Any, *, key: bool) -> Any:
    match value:
        case None:
            return 1
        case int():
            return value + (1_000_000 if key else 1_000)
        case str():
            return value + "x"
        case bytes():
            return bytes([value[0] ^ 1]) + value[1:]
        case _:
            raise AssertionError(value)


def test_every_table_is_known_and_has_rows(tmp_path: Path) -> None:
    put_store(tmp_path)
    assert {table for _, table in tables()} == {
        "book", "head", "log", "read_model", "read_users", "read_names", "read_sessions", "read_throttles",
        "read_activity", "keys", "subject_key", "service_key",
    }  # fmt: skip
    for file, table in tables():
        with behind_the_back(tmp_path, file) as connection:
            assert connection.execute(f"SELECT count(*) FROM {table}").get


@pytest.mark.parametrize("keys", [True, False])
def test_a_sound_store_is_sound(tmp_path: Path, keys: bool) -> None:
    put_store(tmp_path)
    found = verified(tmp_path, keys=keys)
    assert found.fault is None
    assert found.position == 15
    with opened_book(tmp_path) as book:
        assert found.root == book.log.head().root.hex()
    assert [told.name for told in found.read_models] == ["users", "names", "sessions", "throttles", "activity"]
    for told in found.read_models:
        assert told.documents
        assert told.maintained == told.recomputed
        assert told.replayed == (None if told.name == "names" and not keys else told.maintained)
    assert len(found.left_out) == (0 if keys else 2)
    assert keys or "names was not compared" in found.left_out[0]


def test_an_empty_store_is_sound(tmp_path: Path) -> None:
    with book_in(tmp_path):
        pass
    found = verified(tmp_path)
    assert found.fault is None
    assert (found.position, found.root) == (0, merkle.EMPTY_ROOT.hex())


@pytest.mark.parametrize(("file", "table", "column"), COLUMNS)
def test_an_edited_column_is_named(tmp_path: Path, file: str, table: str, column: str) -> None:
    put_store(tmp_path)
    key = key_of(file, table)
    with behind_the_back(tmp_path, file) as connection:
        all_rows = rows(connection, f"SELECT {key}, {column} FROM {table} ORDER BY 1")
        row, before = all_rows[len(all_rows) // 2]
        after = other(before, key=column == key)

        def edit() -> None:
            connection.execute(f"UPDATE {table} SET {column} = ? WHERE {key} = ?", (after, row))

        if column == "one":
            with pytest.raises(apsw.ConstraintError, match="CHECK"):
                edit()
            return
        edit()
    seen = look(tmp_path)
    if (table, column) in REFUSED:
        error, sentence = REFUSED[table, column]
        assert isinstance(seen, error)
        assert re.search(sentence, str(seen))
        return
    assert isinstance(seen, Fault)
    assert seen.table == table
    if table == "log":
        assert seen.position == row
        assert str(row) in seen.sentence
        # Bytes that were changed are no longer those of the leaf.
        assert seen.column == {"position": None, "entry": "leaf"}.get(column, column)
    elif table == "head":
        assert seen.column == column
        assert column in seen.sentence
    else:
        # Where a key was changed there is a row that should not be; only what should be in read_model is known.
        assert seen.row == str(after if column == key and table != "read_model" else row)
        assert seen.row in seen.sentence
        assert seen.column == (None if column == key or file == KEYS else column)


def look(folder: Path) -> Fault | BookError | None:
    """What is said about the store: the refusal to open it, or the first fault."""
    try:
        return verified(folder).fault
    except BookError as error:
        return error


@pytest.mark.parametrize(("file", "table", "column"), TEXT_COLUMNS)
def test_bytes_that_are_no_text_are_named(tmp_path: Path, file: str, table: str, column: str) -> None:
    put_store(tmp_path)
    key = key_of(file, table)
    with behind_the_back(tmp_path, file) as connection:
        last = rows(connection, f"SELECT {key} FROM {table} ORDER BY 1")[-1][0]
        connection.execute(f"UPDATE {table} SET {column} = CAST(x'ff' AS TEXT) WHERE {key} = ?", (last,))
    seen = look(tmp_path)
    if table in {"book", "keys"}:
        # No book is opened that cannot say which one it is.
        assert isinstance(seen, UnreadableTextError)
    else:
        assert isinstance(seen, Fault)
        assert seen.table == table


@pytest.mark.parametrize(("table", "column"), [(table, name) for _, table, name in COLUMNS if name.startswith("by_")])
def test_an_emptied_index_column_is_named(tmp_path: Path, table: str, column: str) -> None:
    put_store(tmp_path)
    with behind_the_back(tmp_path) as connection:
        row = rows(connection, f"SELECT key FROM {table} WHERE {column} IS NOT NULL LIMIT 1")[0][0]
        connection.execute(f"UPDATE {table} SET {column} = NULL WHERE key = ?", (row,))
    fault = verified(tmp_path).fault
    assert fault is not None
    assert (fault.kind, fault.table, fault.row, fault.column) == ("index", table, str(row), column)


def test_a_column_with_the_same_number_as_a_fraction_is_named(tmp_path: Path) -> None:
    put_store(tmp_path)
    with behind_the_back(tmp_path) as connection:
        connection.execute("UPDATE read_users SET by_level = 2.0 WHERE key = 1")
    fault = verified(tmp_path, keys=False).fault
    assert fault is not None
    assert (fault.kind, fault.row, fault.column) == ("index", "1", "by_level")


@pytest.mark.parametrize(("file", "table"), tables())
def test_a_deleted_row_is_named(tmp_path: Path, file: str, table: str) -> None:
    put_store(tmp_path)
    key = key_of(file, table)
    with behind_the_back(tmp_path, file) as connection:
        # Of the service's keys that is `names`; the others are made anew on their first use.
        row = rows(connection, f"SELECT {key} FROM {table} ORDER BY 1")[0][0]
        connection.execute(f"DELETE FROM {table} WHERE {key} = ?", (row,))
    seen = look(tmp_path)
    match table:
        case "book":
            assert isinstance(seen, CorruptStoreError)
            assert "no row that says which book it is" in str(seen)
        case "keys":
            assert isinstance(seen, NotOurStoreError)
        case "service_key":
            assert isinstance(seen, CorruptStoreError)
            assert "has lost the key of names" in str(seen)
        case "subject_key":
            assert isinstance(seen, Fault)
            assert seen.position == row
            assert f"no key for subject {row}" in seen.sentence
        case _:
            assert isinstance(seen, Fault)
            assert seen.table == table
            assert table == "head" or str(row) in seen.sentence


def test_entries_deleted_from_the_end_are_missed(tmp_path: Path) -> None:
    put_store(tmp_path)
    with behind_the_back(tmp_path) as connection:
        connection.execute("DELETE FROM log WHERE position > 10")
    fault = verified(tmp_path).fault
    assert fault is not None
    assert (fault.table, fault.column, fault.position) == ("head", "position", 10)


@pytest.mark.parametrize(("file", "table"), tables())
def test_an_added_row_is_named(tmp_path: Path, file: str, table: str) -> None:
    put_store(tmp_path)
    key = key_of(file, table)
    with behind_the_back(tmp_path, file) as connection:
        row = list(rows(connection, f"SELECT * FROM {table} ORDER BY {key} DESC")[0])
        place = next(place for place, (name, _, _) in enumerate(tables()[file, table]) if name == key)
        row[place] = other(row[place], key=False)
        if table == "log":
            row[2] += 1

        def add() -> None:
            connection.execute(f"INSERT INTO {table} VALUES ({','.join('?' * len(row))})", row)

        if key == "one":
            with pytest.raises(apsw.ConstraintError, match="CHECK"):
                add()
            return
        add()
    fault = verified(tmp_path).fault
    assert fault is not None
    assert fault.table == table
    assert str(row[place]) in fault.sentence


@pytest.mark.parametrize("position", [0, -1, -(2**63)])
def test_an_entry_before_the_first_is_named(tmp_path: Path, position: int) -> None:
    put_store(tmp_path)
    with behind_the_back(tmp_path) as connection:
        connection.execute(
            "INSERT INTO log SELECT ?, stream || 'x', version, at, type, user_id, command_id, entry, leaf"
            " FROM log WHERE position = 1",
            (position,),
        )
    fault = verified(tmp_path).fault
    assert fault is not None
    assert (fault.kind, fault.position) == ("gap", position)


@pytest.mark.parametrize("key", ["", "-1", "0"])
@pytest.mark.parametrize("table", ["read_users", "read_activity"])
def test_a_row_that_no_page_would_show_is_named(tmp_path: Path, table: str, key: str) -> None:
    put_store(tmp_path)
    if (table, key) == ("read_users", ""):
        key = str(-(2**63))
    with behind_the_back(tmp_path) as connection:
        columns = ", ".join(name for name, _, _ in tables()[LOG, table] if name != "key")
        connection.execute(f"INSERT INTO {table} SELECT ?, {columns} FROM {table} LIMIT 1", (key,))
    fault = verified(tmp_path).fault
    assert fault is not None
    assert (fault.kind, fault.table, fault.row) == ("row", table, key)


@pytest.mark.parametrize(("file", "table"), [place for place in tables() if place[1] not in {"book", "head", "keys"}])
def test_swapped_rows_are_named(tmp_path: Path, file: str, table: str) -> None:
    put_store(tmp_path)
    key = key_of(file, table)
    with behind_the_back(tmp_path, file) as connection:
        (one,), (two,), *_ = rows(connection, f"SELECT {key} FROM {table} ORDER BY 1")
        # By way of a key that nobody has.
        free = other(one, key=True)
        for before, after in ((one, free), (two, one), (free, two)):
            connection.execute(f"UPDATE {table} SET {key} = ? WHERE {key} = ?", (after, before))
    seen = look(tmp_path)
    if table == "service_key":
        assert isinstance(seen, SealBrokenError)
        assert "wrapped key of names" in str(seen)
    else:
        assert isinstance(seen, Fault)
        assert seen.table == table
        assert seen.row in {str(one), str(two)}


@pytest.mark.parametrize(
    ("sql", "table"),
    [
        ("DROP TABLE read_users", "read_users"),
        ("DROP TABLE read_names", "read_names"),
        ("DROP TABLE read_model", "read_model"),
        ("DROP INDEX read_users_by_level; ALTER TABLE read_users DROP COLUMN by_level", "read_users"),
    ],
)
def test_a_table_or_a_column_that_is_gone_is_named(tmp_path: Path, sql: str, table: str) -> None:
    put_store(tmp_path)
    with behind_the_back(tmp_path) as connection:
        connection.execute(sql)
    fault = verified(tmp_path).fault
    assert fault is not None
    assert fault.table == table


WEAKENED = (
    "DROP TRIGGER log_is_never_deleted; CREATE TRIGGER log_is_never_deleted BEFORE DELETE ON log BEGIN SELECT 1; END"
)


@pytest.mark.parametrize(
    ("sql", "named"),
    [
        ("DROP TRIGGER log_is_never_updated", "log_is_never_updated"),
        ("DROP INDEX log_stream", "log_stream"),
        ("CREATE TRIGGER helper AFTER INSERT ON log BEGIN DELETE FROM read_users; END", "helper"),
        ("CREATE VIEW spy AS SELECT * FROM log", "spy"),
        (WEAKENED, "log_is_never_deleted"),
    ],
)
def test_guards_of_the_book_that_were_changed_are_named(tmp_path: Path, sql: str, named: str) -> None:
    put_store(tmp_path)
    with closing(apsw.Connection(str(tmp_path / LOG))) as connection:
        connection.execute(sql)
    fault = verified(tmp_path).fault
    assert fault is not None
    assert fault.kind == "schema"
    assert named in fault.sentence


def rewrite(connection: apsw.Connection, position: int, change: Any, *, frontier: bool = True) -> None:
    """Changes an entry's JSON, with its leaf, and the whole tree when that is asked for."""
    (data,) = rows(connection, "SELECT entry FROM log WHERE position = ?", position)[0]
    entry = msgspec.json.decode(data)
    change(entry)
    data = msgspec.json.encode(entry)
    connection.execute(
        "UPDATE log SET entry = ?, leaf = ? WHERE position = ?", (data, merkle.leaf_hash(data), position)
    )
    if frontier:
        leaves = [leaf for (leaf,) in rows(connection, "SELECT leaf FROM log ORDER BY position")]
        connection.execute("UPDATE head SET frontier = ?", (merkle.pack(merkle.extend(0, (), leaves)),))


def make_admin(entry: Any) -> None:
    entry["event"]["level"] = 2


def test_a_rewritten_entry_is_found_by_the_tree(tmp_path: Path) -> None:
    put_store(tmp_path)
    with behind_the_back(tmp_path) as connection:
        rewrite(connection, 1, make_admin, frontier=False)
    fault = verified(tmp_path).fault
    assert fault is not None
    assert (fault.table, fault.column, fault.position) == ("head", "frontier", 15)


def test_a_rewritten_tree_is_found_by_the_read_models(tmp_path: Path) -> None:
    put_store(tmp_path)
    with behind_the_back(tmp_path) as connection:
        rewrite(connection, 2, make_admin)
    fault = verified(tmp_path, keys=False).fault
    assert fault is not None
    assert (fault.kind, fault.table, fault.row) == ("document", "read_users", "2")
    assert "'level'" in fault.sentence


def test_a_forged_document_is_found_though_its_digest_was_forged_too(tmp_path: Path) -> None:
    put_store(tmp_path)
    with behind_the_back(tmp_path) as connection:
        connection.execute(
            "UPDATE read_users SET by_level = 2, document = replace(document, '\"level\":1', '\"level\":2')"
        )
        documents = rows(connection, "SELECT key, document FROM read_users")
        forged = digest.to_text(digest.of_documents((str(key), document.encode()) for key, document in documents))
        connection.execute("UPDATE read_model SET digest = ? WHERE name = 'users'", (forged,))
    found = verified(tmp_path)
    users = found.read_models[0]
    assert users.maintained == users.recomputed == forged != users.replayed
    assert found.fault is not None
    assert (found.fault.kind, found.fault.row) == ("document", "2")
    assert "'level'" in found.fault.sentence


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda e: e["event"].update(username="ada"), "plain text"),
        (lambda e: e["event"].update(username=e["event"]["nickname"]), "another place"),
        (lambda e: e["event"]["username"].update(position=2), "another place"),
        (lambda e: e["event"]["username"].update(subject=2), "another place"),
        (lambda e: e["event"]["username"].update(box="AAAA"), "does not authenticate"),
        (lambda e: e["event"]["username"].update(box=e["event"]["nickname"]["box"]), "does not authenticate"),
    ],
)  # fmt: skip
def test_what_is_sealed_wrongly_is_found_where_it_stands(tmp_path: Path, change: Any, sentence: str) -> None:
    put_store(tmp_path)
    with behind_the_back(tmp_path) as connection:
        rewrite(connection, 1, change)
    fault = verified(tmp_path).fault
    assert fault is not None
    assert (fault.kind, fault.position) == ("seal", 1)
    assert sentence in fault.sentence


@pytest.mark.parametrize(
    ("change", "column", "kind"),
    [
        (lambda e: e.update(at="2026-11-21T11:00:00Z"), "at", "time"),
        (lambda e: e.update(version=7), "version", "version"),
        (lambda e: e.update(stream="user-05"), "stream", "version"),
        (lambda e: e.update(stream="user-x"), "stream", "version"),
        (lambda e: e.update(at="2026-11-21T13:00:00"), "at", "undecodable"),
        (lambda e: e.update(position=3), None, "undecodable"),
        (lambda e: e.update(actor="x" * 70_000), None, "too_large"),
        (lambda e: e["event"].update(type="no.such"), None, "undecodable"),
    ],
)  # fmt: skip
def test_entries_that_break_a_rule_with_their_columns_are_found(
    tmp_path: Path, change: Any, column: str | None, kind: str
) -> None:
    put_store(tmp_path)
    with behind_the_back(tmp_path) as connection:
        entry: dict[str, Any] = {"event": {}}
        rewrite(connection, 13, change)
        change(entry)
        if column is not None:
            value = entry[column] if column != "at" else 1_795_258_800_000_000
            connection.execute(f"UPDATE log SET {column} = ? WHERE position = 13", (value,))
        if column == "stream":
            connection.execute("UPDATE log SET user_id = NULL WHERE position = 13")
    found = verified(tmp_path)
    assert found.fault is not None
    assert (found.fault.kind, found.fault.position) == (kind, 13)
    assert found.position == 12


def test_a_catalogue_that_leaves_out_a_type_of_the_book_is_found(tmp_path: Path) -> None:
    put_store(tmp_path)
    with behind_the_back(tmp_path) as connection:
        connection.execute("UPDATE book SET catalogue = replace(catalogue, 'audit.read,', '')")
    fault = verified(tmp_path).fault
    assert fault is not None
    assert (fault.kind, fault.position) == ("catalogue", 14)
    assert "audit.read" in fault.sentence


def test_a_catalogue_of_an_older_gatebook_is_no_fault_where_it_names_all_that_is_there(tmp_path: Path) -> None:
    put_store(tmp_path)
    with behind_the_back(tmp_path) as connection:
        connection.execute("UPDATE book SET catalogue = replace(catalogue, ',user.reactivated', '')")
    assert verified(tmp_path).fault is None


def test_no_fault_repeats_what_could_steer_a_terminal(tmp_path: Path) -> None:
    put_store(tmp_path)
    with behind_the_back(tmp_path) as connection:
        connection.execute("UPDATE read_activity SET key = ? || key", ("\x1b[2J" * 100,))
    fault = verified(tmp_path).fault
    assert fault is not None
    assert "\x1b" not in fault.sentence
    assert len(fault.sentence) < 200


class Interrupted(SQLiteEvidence):
    """Somebody writes between the head and the rows."""

    def __init__(self, book: Book, write: Any) -> None:
        super().__init__(book.log, book.read_models)
        self._write = write

    def rows(self, projection: AnyProjection) -> Iterator[Row]:
        self._write()
        return super().rows(projection)


def test_verify_works_while_the_service_writes(tmp_path: Path) -> None:
    put_store(tmp_path)
    written: list[int] = []
    with opened_book(tmp_path) as book, opened_book(tmp_path) as service:

        def write(*_: int) -> None:
            moment = LATER + timedelta(minutes=len(written))
            recorded = tell(service, moment, ("user-1", UserLevelChanged(1)), ("session-4", SessionSeen(1)))
            written.append(recorded[-1].position)

        told: list[tuple[int, int]] = []

        def progress(done: int, total: int) -> None:
            told.append((done, total))
            if len(told) < 3:
                write()

        found = verify(Interrupted(book, write), book.projections, keyring=book.keyring, progress=progress)
        assert found.fault is None
        # Two writes came while the log was read, and five while the read models were.
        assert written == [17, 19, 21, 23, 25, 27, 29]
        assert found.position == 19
        assert [done for done, _ in told] == sorted({done for done, _ in told})
        assert all(done <= total for done, total in told)
        assert told[-1] == (19, 19)
        again = verify(SQLiteEvidence(book.log, book.read_models), book.projections, keyring=book.keyring)
        assert (again.fault, again.position) == (None, 29)


def test_versions_follow_each_stream_on_its_own() -> None:
    versions = Versions()
    told = [
        ("user-1", 1, 1, None),
        ("session-2", 1, 2, None),
        ("service", 1, 3, None),
        ("user-2", 1, 4, "not named for position 4"),
        ("user-4", 1, 4, None),
        ("user-1", 2, 5, None),
        ("user-2", 2, 6, "1 is the next"),
        ("session-2", 2, 6, None),
        ("session-2", 2, 7, "3 is the next"),
        ("service", 3, 7, "2 is the next"),
        ("user-9", 1, 8, "no position up to here"),
        ("user-01", 3, 8, "no position up to here"),
        ("user-", 1, 8, "no position up to here"),
        ("user-٣", 1, 8, "no position up to here"),
        ("user-0", 1, 8, "no position up to here"),
    ]
    for stream, version, position, wrong in told:
        said = versions.follow(stream, version, position)
        assert (said is None) == (wrong is None), (stream, said)
        assert wrong is None or (said is not None and wrong in said)
