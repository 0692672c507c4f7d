"""The promises of `events.log`, as tests that every store runs: inherit from `LogContract`, and say how to open one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from events import merkle, upcasting
from events.catalogue import ThrottlesForgotten, UserReactivated
from events.errors import StoreError, UndecodableEntryError
from events.log import EventLog, Head, Query, pages
from events.recorded import decode, to_microseconds
from tests.entries import START, append, closed, entry_of, failed, opened, record, registered

Opening = Callable[[], EventLog]


class _Interrupted(BaseException):
    """What no `except Exception` catches."""


def positions(log: EventLog, query: Query) -> list[int]:
    return [recorded.position for recorded in log.read(query)]


class LogContract:
    """What every event log promises."""

    @pytest.fixture
    def opening(self) -> Opening:
        """Opens the log that the test is about once more: for a second reader or writer of the same log."""
        raise NotImplementedError

    @pytest.fixture
    def log(self, opening: Opening) -> Iterator[EventLog]:
        log = opening()
        yield log
        log.close()

    @pytest.fixture
    def other(self, opening: Opening, log: EventLog) -> Iterator[EventLog]:
        other = opening()
        yield other
        other.close()

    @pytest.fixture
    def filled(self, log: EventLog) -> EventLog:
        """Eight entries, an hour apart, in two transactions."""
        append(
            log, ("user", registered("alice")), ("session", opened(1)), ("service", failed()), step=timedelta(hours=1)
        )
        append(
            log,
            ("user", registered("bob")),
            ("session", opened(4)),
            ("session-2", closed(1)),
            ("user-1", UserReactivated()),
            ("service", failed()),
            at=START + timedelta(hours=3),
            step=timedelta(hours=1),
        )
        return log

    # The empty log.

    def test_an_empty_log_ends_before_its_first_position(self, log: EventLog) -> None:
        assert log.head() == Head()
        assert log.head().root == merkle.EMPTY_ROOT
        assert log.read(Query()) == []
        assert log.position_at(START) == 0
        assert len(log.book_id) == 32
        with log.transaction() as transaction:
            assert transaction.head == Head()
            assert transaction.versions(["user-1"]) == {}

    def test_each_view_is_of_the_same_book(self, log: EventLog, other: EventLog) -> None:
        assert log.book_id == other.book_id

    # Appending.

    def test_what_was_appended_is_read_as_it_was(self, log: EventLog, other: EventLog) -> None:
        told = append(log, ("user", registered(email="a@b.example")), ("session", opened(agent="☃ \x00")))
        assert log.read(Query()) == told
        assert other.read(Query()) == told
        assert other.entries(Query()) == [entry_of(one) for one in told]

    def test_the_head_follows_the_entries(self, log: EventLog, other: EventLog) -> None:
        told = append(
            log, ("user", registered()), ("session", opened()), ("service", failed()), step=timedelta(hours=1)
        )
        leaves = [merkle.leaf_hash(entry.data) for entry in log.entries(Query())]
        expected = Head(3, to_microseconds(told[-1].at), merkle.extend(0, (), leaves))
        assert log.head() == other.head() == expected
        append(log, ("service", failed()))
        leaves = [merkle.leaf_hash(entry.data) for entry in log.entries(Query())]
        assert other.head().frontier == merkle.extend(0, (), leaves)

    def test_the_head_moves_within_the_transaction_too(self, log: EventLog) -> None:
        first, second = (entry_of(one) for one in record([("service", failed()), ("service", failed())]))
        with log.transaction() as transaction:
            transaction.append([first])
            assert transaction.head == Head(1, first.at, (first.leaf,))
            assert transaction.versions(["service", "user-1"]) == {"service": 1}
            transaction.append([second])
            assert transaction.head.position == 2
            assert transaction.versions({"service"}) == {"service": 2}
        assert log.head() == transaction.head

    def test_appending_nothing_changes_nothing(self, filled: EventLog, other: EventLog) -> None:
        before = filled.head()
        with filled.transaction() as transaction:
            transaction.append([])
        assert filled.head() == other.head() == before

    def test_versions_are_those_of_the_streams_asked_for(self, filled: EventLog) -> None:
        with filled.transaction() as transaction:
            assert transaction.versions(["user-1", "session-2", "service", "user-9"]) == {
                "user-1": 2,
                "session-2": 2,
                "service": 2,
            }
            assert transaction.versions([]) == {}

    def test_more_entries_than_one_statement_takes(self, log: EventLog) -> None:
        told = append(log, *([("service", failed())] * 1_201))
        assert log.head().position == 1_201
        assert [one.version for one in told] == list(range(1, 1_202))
        assert positions(log, Query(limit=2_000)) == list(range(1, 1_202))

    @pytest.mark.parametrize(("position", "version"), [(4, 2), (2, 2), (1, 2), (0, 2), (3, 3), (3, 1), (3, 0)])
    def test_a_gap_is_refused_and_nothing_of_it_is_kept(self, log: EventLog, position: int, version: int) -> None:
        append(log, ("service", failed()), ("user", registered()))
        before = log.head()
        right = record([("service", failed())], after=2, versions={"service": 1})[0]
        wrong = entry_of(msgspec.structs.replace(right, position=position, version=version))
        with pytest.raises(StoreError, match="append-only"), log.transaction() as transaction:
            transaction.append([wrong])
        assert log.head() == before
        assert positions(log, Query()) == [1, 2]
        with log.transaction() as transaction:
            transaction.append([entry_of(right)])
        assert positions(log, Query()) == [1, 2, 3]

    @pytest.mark.parametrize("error", [ValueError, _Interrupted])
    def test_nothing_is_there_of_a_block_left_by_an_exception(
        self, filled: EventLog, other: EventLog, error: type[BaseException]
    ) -> None:
        before = filled.head()
        one = record([("service", failed())], after=8, versions={"service": 2})
        with suppress(error), filled.transaction() as transaction:
            transaction.append([entry_of(one[0])])
            raise error
        assert filled.head() == other.head() == before
        assert positions(other, Query(after=8)) == []
        append(filled, ("service", failed()))
        assert other.head().position == 9

    def test_a_reader_sees_nothing_before_the_block_is_left(self, filled: EventLog, other: EventLog) -> None:
        one = record([("service", failed())], after=8, versions={"service": 2})
        with filled.transaction() as transaction:
            transaction.append([entry_of(one[0])])
            assert other.head().position == 8
            assert positions(other, Query(after=7)) == [8]
        assert other.head().position == 9
        assert positions(other, Query(after=7)) == [8, 9]

    def test_writers_that_append_at_once_leave_no_gap(self, opening: Opening, log: EventLog) -> None:
        def write() -> None:
            mine = opening()
            try:
                for _ in range(25):
                    append(mine, ("service", failed()), ("session", opened()))
            except BaseException as error:  # noqa: BLE001 - a thread's error is the test's
                errors.append(error)
            finally:
                mine.close()

        errors: list[BaseException] = []
        threads = [threading.Thread(target=write) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        entries = log.entries(Query(limit=1_000))
        assert [entry.position for entry in entries] == list(range(1, 151))
        assert [entry.version for entry in entries if entry.stream == "service"] == list(range(1, 76))
        assert log.head().frontier == merkle.extend(0, (), [entry.leaf for entry in entries])

    # Reading.

    @pytest.mark.parametrize(
        ("query", "expected"),
        [
            (Query(), [1, 2, 3, 4, 5, 6, 7, 8]),
            (Query(after=5), [6, 7, 8]),
            (Query(after=8), []),
            (Query(after=99), []),
            (Query(until=2), [1, 2]),
            (Query(until=0), []),
            (Query(after=2, until=4), [3, 4]),
            (Query(stream="service"), [3, 8]),
            (Query(stream="session-2"), [2, 6]),
            (Query(stream="SERVICE"), []),
            (Query(user=1), [1, 2, 6, 7]),
            (Query(user=4), [4, 5]),
            (Query(user=3), []),
            (Query(type="session.opened"), [2, 5]),
            (Query(type="nothing.such"), []),
            (Query(command_id=f"{4:032x}"), [4]),
            (Query(since=START + timedelta(hours=6)), [7, 8]),
            (Query(since=START + timedelta(hours=5, microseconds=1)), [7, 8]),
            (Query(since=START - timedelta(hours=1)), [1, 2, 3, 4, 5, 6, 7, 8]),
            (Query(before=START + timedelta(hours=2)), [1, 2]),
            (Query(before=START + timedelta(hours=2, microseconds=1)), [1, 2, 3]),
            (Query(before=START), []),
            (Query(since=START + timedelta(hours=1), before=START + timedelta(hours=3)), [2, 3]),
            (Query(since=START + timedelta(days=1)), []),
            (Query(limit=3), [1, 2, 3]),
            (Query(limit=0), []),
            (Query(backwards=True), [8, 7, 6, 5, 4, 3, 2, 1]),
            (Query(backwards=True, limit=2), [8, 7]),
            (Query(backwards=True, until=6, limit=2), [6, 5]),
            (Query(backwards=True, after=6), [8, 7]),
            (Query(user=1, type="session.closed", after=1, until=7, since=START, backwards=True), [6]),
        ],
    )
    def test_what_a_query_finds(self, filled: EventLog, query: Query, expected: list[int]) -> None:
        assert positions(filled, query) == expected
        assert [entry.position for entry in filled.entries(query)] == expected

    @pytest.mark.parametrize("limit", [1, 2, 3, 8, 100])
    def test_pages_give_everything_once_and_in_order(self, filled: EventLog, limit: int) -> None:
        found = [[one.position for one in page] for page in pages(filled, Query(after=1, until=7, limit=limit))]
        assert [position for page in found for position in page] == [2, 3, 4, 5, 6, 7]
        assert all(len(page) == limit for page in found[:-1])
        assert [
            one.position for page in pages(filled, Query(user=1, limit=limit)) for one in page
        ] == [1, 2, 6, 7]  # fmt: skip

    def test_pages_keep_every_condition(self, filled: EventLog) -> None:
        query = Query(
            after=1,
            until=7,
            stream="session-2",
            user=1,
            type="session.closed",
            since=START + timedelta(hours=1),
            before=START + timedelta(hours=6),
            command_id=f"{6:032x}",
            limit=1,
        )
        assert [[one.position for one in page] for page in pages(filled, query)] == [[6]]
        for field in ("stream", "type", "command_id"):
            assert list(pages(filled, msgspec.structs.replace(query, **{field: "other"}))) == []

    def test_what_is_appended_between_two_pages_is_read_too(self, filled: EventLog, other: EventLog) -> None:
        reading = iter(pages(filled, Query(limit=5)))
        assert len(next(reading)) == 5
        append(other, ("service", failed()))
        assert [one.position for one in next(reading)] == [6, 7, 8, 9]

    @pytest.mark.parametrize(
        ("moment", "expected"),
        [
            (START - timedelta(microseconds=1), 0),
            (START, 1),
            (START + timedelta(minutes=59), 1),
            (START + timedelta(hours=4), 5),
            (START + timedelta(hours=7), 8),
            (datetime(9000, 1, 1, tzinfo=UTC), 8),
            (datetime(1, 1, 1, tzinfo=UTC), 0),
        ],
    )
    def test_the_position_at_a_moment(self, filled: EventLog, moment: datetime, expected: int) -> None:
        assert filled.position_at(moment) == expected

    def test_the_position_at_a_moment_that_several_share_is_the_last_of_them(self, log: EventLog) -> None:
        append(log, *([("service", failed())] * 5))
        append(log, ("service", failed()), at=START + timedelta(seconds=1))
        assert log.position_at(START) == 5
        assert positions(log, Query(since=START)) == [1, 2, 3, 4, 5, 6]
        assert positions(log, Query(before=START + timedelta(seconds=1))) == [1, 2, 3, 4, 5]

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            (b"forgotten", b"nevermore"),
            (b"tester", b"\xff\xfe"),
            (b"}", b""),
            (b'"position":2', b'"position":1'),
            (b'"position":2', b'"position":4'),
            (b'"x"', b'"x"],["x"'),
            (b"{", b"\x00{"),
        ],
    )
    def test_an_entry_that_cannot_be_decoded_is_named_and_the_others_are_read(
        self, log: EventLog, old: bytes, new: bytes
    ) -> None:
        told = record([("service", failed()), ("service", ThrottlesForgotten(("x",))), ("service", failed())])
        entries = [entry_of(one) for one in told]
        entries[1] = msgspec.structs.replace(entries[1], data=entries[1].data.replace(old, new, 1))
        with log.transaction() as transaction:
            transaction.append(entries)
        for query in (Query(), Query(backwards=True), Query(after=1, until=2)):
            with pytest.raises(UndecodableEntryError, match="position 2") as caught:
                log.read(query)
            assert caught.value.position == 2
        assert log.read(Query(after=2)) == told[2:]
        assert log.read(Query(until=1)) == told[:1]
        assert log.entries(Query()) == entries

    def test_an_entry_that_holds_two_is_named(self, log: EventLog) -> None:
        told = record([("service", failed())] * 3)
        entries = [entry_of(one) for one in told]
        # Put together with others in one array, these would be the very ones that were expected.
        entries[0] = msgspec.structs.replace(entries[0], data=entries[0].data + b"," + entries[1].data)
        entries[1] = msgspec.structs.replace(entries[1], data=entries[2].data)
        entries[2] = msgspec.structs.replace(entries[2], data=b"")
        with log.transaction() as transaction:
            transaction.append(entries)
        with pytest.raises(UndecodableEntryError, match="position 1"):
            log.read(Query())
        with pytest.raises(UndecodableEntryError, match="position 1"):
            log.read(Query(until=1))

    def test_an_entry_of_a_retired_shape_is_raised(self, log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
        retired: dict[str, upcasting.Upcaster] = {
            "throttles.gone": lambda event: event | {"type": "throttles.forgotten"}
        }
        monkeypatch.setattr(upcasting.upcast, "__defaults__", (retired,))
        told = record([("service", failed()), ("service", ThrottlesForgotten(("x",))), ("service", failed())])
        entries = [entry_of(one) for one in told]
        entries[1] = msgspec.structs.replace(entries[1], data=entries[1].data.replace(b"forgotten", b"gone"))
        with log.transaction() as transaction:
            transaction.append(entries)
        assert log.read(Query()) == told
        assert log.read(Query(backwards=True)) == told[::-1]

    # Being told of other writers.

    def test_its_state_is_another_after_any_commit_and_the_same_until_then(
        self, log: EventLog, other: EventLog
    ) -> None:
        states = [log.state(), log.state()]
        append(other, ("service", failed()))
        states += [log.state(), log.state()]
        append(log, ("service", failed()))
        states += [log.state(), log.state()]
        assert states[0::2] == states[1::2]
        assert len(set(states)) == 3
        assert None not in states

    def test_nothing_is_noticed_of_a_block_left_by_an_exception(self, log: EventLog, other: EventLog) -> None:
        state = log.state()
        with suppress(ValueError), other.transaction() as transaction:
            transaction.append([entry_of(record([("service", failed())])[0])])
            raise ValueError
        assert log.state() == state

    def test_entries_are_the_bytes_that_the_leaf_is_of(self, filled: EventLog) -> None:
        for entry in filled.entries(Query()):
            recorded = decode(entry.data, entry.position)
            assert entry == entry_of(recorded)
