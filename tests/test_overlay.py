"""The overlay: a batch writes what a fold event by event makes, with a number of reads that is fixed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from events.catalogue import Event, SessionSeen, ThrottlesForgotten, ThrottleStep, UserLevelChanged
from events.errors import FoldError
from events.log import EventLog
from events.memory import MemoryLog
from events.recorded import Recorded
from events.sqlite import SQLiteLog
from projections.catalogue import SESSIONS, THROTTLES, USERS, all_projections
from projections.memory import MemoryReadModels
from projections.names import Tagger
from projections.overlay import Overlay
from projections.projection import AnyProjection, IndexValue, encode_document
from projections.replay import Replay
from projections.sqlite import SQLiteReadModels
from projections.store import Change, ReadModels, ReadModelState, ReadModelTransaction
from tests.entries import START, closed, entry_of, failed, opened, record, registered
from tests.strategies import recorded_events

TAG = Tagger(bytes(32))
ALL = all_projections(TAG)


class Counting:
    """A read-model transaction that counts what is asked of it."""

    def __init__(self, inner: ReadModelTransaction) -> None:
        self.inner = inner
        self.loads: list[str] = []
        self.writes: list[str] = []

    def states(self) -> dict[str, ReadModelState]:
        return self.inner.states()

    def load(self, projection: AnyProjection, keys: Iterable[str]) -> dict[str, bytes]:
        self.loads.append(projection.name)
        return self.inner.load(projection, keys)

    def load_found(self, projection: AnyProjection, index: str, values: Iterable[IndexValue]) -> dict[str, bytes]:
        self.loads.append(f"{projection.name}.{index}")
        return self.inner.load_found(projection, index, values)

    def count_found(self, projection: AnyProjection, index: str, values: Iterable[IndexValue]) -> dict[IndexValue, int]:
        self.loads.append(f"count of {projection.name}.{index}")
        return self.inner.count_found(projection, index, values)

    def write(self, projection: AnyProjection, changes: Mapping[str, Change]) -> None:
        self.writes.append(projection.name)
        self.inner.write(projection, changes)

    def put_states(self, states: Mapping[str, ReadModelState]) -> None:
        self.writes.append("states")
        self.inner.put_states(states)


class Desk:
    """A log with read models, and an overlay over them that a test drives in the place of the writer."""

    def __init__(self, log: EventLog, models: ReadModels, projections: Iterable[AnyProjection] = ALL) -> None:
        self.log = log
        self.models = models
        self.projections = tuple(projections)

    def batch(self, *commands: list[Recorded]) -> Counting:
        """Folds and writes these commands' events as one batch."""
        with self.log.transaction() as transaction:
            counting = Counting(self.models.within(transaction))
            overlay = Overlay(counting, self.projections, transaction.head.position)
            for command in commands:
                overlay.apply([(recorded, recorded) for recorded in command])
            transaction.append([entry_of(recorded) for command in commands for recorded in command])
            overlay.write(counting.states(), transaction.head.position)
        return counting


def memory_desk() -> Desk:
    return Desk(MemoryLog(), MemoryReadModels(ALL))


@pytest.fixture
def desk() -> Desk:
    return memory_desk()


@pytest.fixture
def overlay(desk: Desk) -> Iterator[Overlay]:
    """An overlay over a book: user 1 has sessions 2 and 3, user 4 has session 5; a throttle counts one failure."""
    desk.batch(
        record(
            [
                ("user", registered("alice")),
                ("session", opened(1)),
                ("session", opened(1)),
                ("user", registered("bob", level=2)),
                ("session", opened(4)),
                ("service", failed(throttles=(ThrottleStep("a", 1),))),
            ]
        )
    )
    with desk.log.transaction() as transaction:
        yield Overlay(Counting(desk.models.within(transaction)), ALL, transaction.head.position)


def apply(overlay: Overlay, *told: tuple[str, Event], after: int = 6) -> None:
    overlay.apply([(recorded, recorded) for recorded in record(told, after=after, at=START)])


def counted(overlay: Overlay) -> list[str]:
    counting = overlay._store
    assert isinstance(counting, Counting)
    return counting.loads


def ids(documents: Iterable[Any]) -> set[int]:
    return {document.id for document in documents}


# It is a fold, whatever is loaded when.

actions = st.lists(
    st.tuples(st.sampled_from(["load", "get", "find", "count", "nothing"]), st.integers(1, 8)), max_size=8
)


HIGHEST_ID = 10
"""No id that the strategies give is higher, but for the one of the stream that stands beyond all."""
BEYOND_ALL = str(10**18)


def after_others(told: list[Recorded]) -> list[Recorded]:
    """The events after as many others as make every id in them a position that has been.

    An id is the position of a first event, so no book names one beyond its head (`verify` holds it to that), and the
    overlay relies on it: what is keyed beyond the head is not looked up. Sequences of any kind at all do not know that.
    """
    assume(not any(BEYOND_ALL in recorded.stream for recorded in told))
    others = record([("others", failed())] * HIGHEST_ID, at=START, step=timedelta(0))
    return others + [replace(recorded, position=recorded.position + HIGHEST_ID) for recorded in told]


def run_in_batches(desk: Desk, told: list[Recorded], cuts: list[int], looks: list[tuple[str, int]]) -> None:
    """The events as batches of commands of one or two events, with looks at documents in between."""
    bounds = sorted({0, len(told), *(min(cut, len(told)) for cut in cuts)})
    looking = iter(looks)
    for start, stop in pairwise(bounds):
        with desk.log.transaction() as transaction:
            store = desk.models.within(transaction)
            overlay = Overlay(store, ALL, transaction.head.position)
            for at in range(start, stop, 2):
                look_at_something(overlay, *next(looking, ("nothing", 0)))
                overlay.apply([(recorded, recorded) for recorded in told[at : min(at + 2, stop)]])
                look_at_something(overlay, *next(looking, ("nothing", 0)))
            transaction.append([entry_of(recorded) for recorded in told[start:stop]])
            overlay.write(store.states(), transaction.head.position)


def look_at_something(overlay: Overlay, how: str, number: int) -> None:
    match how:
        case "load":
            overlay.load("users", [str(number), str(number + 1)])
            overlay.load("throttles", ["account:1", f"address:{number}"])
            overlay.load_found("sessions", "user", [number])
        case "get":
            overlay.get("users", str(number))
            overlay.get("throttles", "account:1")
        case "find":
            overlay.find("sessions", "user", number)
            overlay.find("users", "active_admin", 1)
        case "count":
            guests = overlay.count("sessions", "origin", "guests:1")
            sessions = overlay.count("sessions", "user", number)
            assert guests == len(overlay.find("sessions", "origin", "guests:1"))
            assert sessions == len(overlay.find("sessions", "user", number))


def equals_replay(desk: Desk, told: list[Recorded]) -> None:
    replay = Replay(ALL, lambda recorded: recorded)
    replay.fold(told)
    states = desk.models.states()
    for projection in ALL:
        documents = replay.documents[projection.name]
        assert states[projection.name].documents == len(documents)
        assert states[projection.name].digest == replay.digest(projection.name)
        assert {row.key: (row.document, row.indexed) for row in desk.models.scan(projection)} == {
            key: (encode_document(doc), {index.name: index.value(doc) for index in projection.indexes})
            for key, doc in documents.items()
        }


@given(recorded_events(), st.lists(st.integers(0, 30), max_size=4), actions)
def test_batches_make_what_one_fold_makes(told: list[Recorded], cuts: list[int], looks: list[tuple[str, int]]) -> None:
    desk = memory_desk()
    told = after_others(told)
    run_in_batches(desk, told, cuts, looks)
    equals_replay(desk, told)


@settings(max_examples=15)
@given(
    recorded_events(),
    st.lists(st.integers(0, 30), max_size=3),
    actions,
)
def test_batches_make_it_in_sqlite_too(
    tmp_path_factory: pytest.TempPathFactory, told: list[Recorded], cuts: list[int], looks: list[tuple[str, int]]
) -> None:
    path = tmp_path_factory.mktemp("book") / "gatebook.db"
    log = SQLiteLog(path)
    models = SQLiteReadModels(log.connection, path, ALL)
    with log.transaction():
        models.create()
    desk = Desk(log, models)
    told = after_others(told)
    run_in_batches(desk, told, cuts, looks)
    equals_replay(desk, told)
    log.close()


@given(recorded_events(), actions)
def test_what_is_looked_at_is_what_the_events_so_far_have_made(
    told: list[Recorded], looks: list[tuple[str, int]]
) -> None:
    desk = memory_desk()
    told = after_others(told)
    half = HIGHEST_ID + (len(told) - HIGHEST_ID) // 2
    desk.batch(told[:half])
    replay = Replay(ALL, lambda recorded: recorded)
    replay.fold(told[:half])
    with desk.log.transaction() as transaction:
        overlay = Overlay(desk.models.within(transaction), ALL, transaction.head.position)
        for recorded, (how, number) in zip(told[half:], looks, strict=False):
            overlay.apply([(recorded, recorded)])
            replay.fold([recorded])
            if how == "find":
                expected = [one for one in replay.documents["sessions"].values() if one.user_id == number]
                assert ids(overlay.find("sessions", "user", number)) == ids(expected)
            else:
                assert overlay.get("users", f"{number}") == replay.documents["users"].get(f"{number}")
                assert overlay.get("throttles", "account:1") == replay.documents["throttles"].get("account:1")


# Loading.


def test_what_was_loaded_is_not_read_again(overlay: Overlay) -> None:
    overlay.load("users", ["1", "4"])
    overlay.load("users", ["1", "4"])
    overlay.load_found("sessions", "user", [1])
    overlay.load_found("sessions", "user", [1])
    assert overlay.get("users", "1").username == "alice"
    assert ids(overlay.find("sessions", "user", 1)) == {2, 3}
    assert counted(overlay) == ["users", "sessions.user"]
    assert overlay.strays == 0


def test_what_is_known_to_be_absent_is_not_read_again(overlay: Overlay) -> None:
    overlay.load("throttles", ["nobody"])
    assert overlay.get("throttles", "nobody") is None
    assert overlay.find("sessions", "user", 99) == []
    assert overlay.find("sessions", "user", 99) == []
    assert counted(overlay) == ["throttles", "sessions.user"]
    assert overlay.strays == 1, "only the user's sessions were not declared"


def test_what_lies_beyond_the_head_is_in_no_store(overlay: Overlay) -> None:
    overlay.load("users", ["7", "8"])
    assert overlay.get("users", "7") is None
    assert counted(overlay) == []
    apply(overlay, ("user", registered("carol")), ("session", opened(7)))
    assert overlay.get("users", "7").open_sessions == 1
    assert overlay.get("sessions", "8").user_id == 7
    assert counted(overlay) == []
    assert overlay.strays == 0


def test_what_nobody_declared_is_read_when_it_is_asked_for_and_counted(overlay: Overlay) -> None:
    assert overlay.get("users", "1").username == "alice"
    assert ids(overlay.find("users", "active_admin", 1)) == {4}
    assert overlay.strays == 2


# Finding.


def test_what_is_found_follows_the_events(overlay: Overlay) -> None:
    overlay.load_found("sessions", "user", [1, 4])
    apply(overlay, ("session", opened(1)), ("session-2", closed(1)), ("session", opened(5)))
    assert ids(overlay.find("sessions", "user", 1)) == {3, 7}
    assert ids(overlay.find("sessions", "user", 4)) == {5}
    assert ids(overlay.find("sessions", "user", 5)) == {9}


def test_an_index_value_that_changes_moves_the_document(overlay: Overlay) -> None:
    overlay.load("users", ["1", "4"])
    overlay.load_found("users", "active_admin", [1])
    overlay.load_found("users", "level", [1, 2])
    apply(overlay, ("user-1", UserLevelChanged(2)), ("user-4", UserLevelChanged(1)))
    assert ids(overlay.find("users", "active_admin", 1)) == ids(overlay.find("users", "level", 2)) == {1}
    assert ids(overlay.find("users", "level", 1)) == {4}


def test_what_is_asked_for_late_is_found_as_it_has_become(overlay: Overlay) -> None:
    # The store still has user 4 as the only admin, and session 2 open.
    apply(overlay, ("user-1", UserLevelChanged(2)), ("user-4", UserLevelChanged(1)), ("session-2", closed(1)))
    assert ids(overlay.find("users", "active_admin", 1)) == {1}
    assert ids(overlay.find("sessions", "user", 1)) == {3}


def test_the_store_does_not_bring_back_what_has_changed(overlay: Overlay) -> None:
    overlay.load("users", ["1", "4"])
    apply(overlay, ("user-1", UserLevelChanged(2)), ("user-4", UserLevelChanged(1)))
    assert ids(overlay.find("users", "active_admin", 1)) == {1}
    overlay.load("sessions", ["2"])
    apply(overlay, ("session-2", closed(1)), after=8)
    assert ids(overlay.find("sessions", "user", 1)) == {3}


# Documents that nobody reads.


def test_documents_that_nobody_reads_wait_and_are_loaded_together(desk: Desk, overlay: Overlay) -> None:
    apply(
        overlay, ("session", opened(1)), ("session", opened(4)), ("service", failed(throttles=(ThrottleStep("a", 2),)))
    )
    assert counted(overlay) == []
    changes = overlay.changes()
    assert sorted(counted(overlay)) == ["activity", "throttles", "users"]
    assert set(changes["users"]) == {"1", "4"}
    assert changes["throttles"]["a"].before == desk.models.get(THROTTLES, "a")


def test_a_late_document_is_folded_in_order(overlay: Overlay) -> None:
    apply(overlay, ("service", failed(throttles=(ThrottleStep("a", 2),))))
    apply(overlay, ("service", ThrottlesForgotten(("a",))), after=7)
    overlay.load("throttles", ["a"])
    apply(overlay, ("service", failed(throttles=(ThrottleStep("a", 1),))), after=8)
    assert overlay.get("throttles", "a").failures == 1
    assert overlay.get("throttles", "a").failed_at == START


def test_a_late_event_is_folded_once(overlay: Overlay) -> None:
    apply(overlay, ("session", opened(1)))
    assert overlay.get("users", "1").open_sessions == 3
    assert overlay.get("users", "1").open_sessions == 3
    apply(overlay, ("session", opened(1)), after=7)
    assert overlay.get("users", "1").open_sessions == 4
    document = overlay.changes()["users"]["1"].after
    assert document is not None
    assert b'"open_sessions":4' in document


# Refusing.


def fail_on(kind: type, projection: AnyProjection, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes a projection fail on one type of event, as a fault of ours would."""
    evolve = type(projection).evolve

    def failing(self: AnyProjection, key: str, doc: Any, recorded: Recorded) -> Any:
        if type(recorded.event) is kind:
            raise ZeroDivisionError
        return evolve(self, key, doc, recorded)

    monkeypatch.setattr(type(projection), "evolve", failing)


def test_a_command_whose_fold_fails_leaves_nothing(overlay: Overlay, monkeypatch: pytest.MonkeyPatch) -> None:
    overlay.load("users", ["1"])
    overlay.load_found("sessions", "user", [1])
    apply(overlay, ("session", opened(1)))
    before = overlay.get("users", "1")
    fail_on(SessionSeen, SESSIONS, monkeypatch)
    with pytest.raises(FoldError, match="sessions failed on position 9") as caught:
        apply(overlay, ("session", opened(1)), ("session-7", SessionSeen(1)), after=7)
    assert (caught.value.projection, caught.value.position) == ("sessions", 9)
    assert overlay.get("users", "1") == before
    assert ids(overlay.find("sessions", "user", 1)) == {2, 3, 7}
    assert overlay.get("sessions", "8") is None
    changes = overlay.changes()
    assert set(changes["sessions"]) == {"7"}
    [hour] = changes["activity"].values()
    assert hour.after is not None
    assert b'"logins":4' in hour.after, "three were in the book, and one command succeeded"


def test_a_late_event_whose_fold_fails_is_never_passed_over(overlay: Overlay, monkeypatch: pytest.MonkeyPatch) -> None:
    apply(overlay, ("service", failed(throttles=(ThrottleStep("a", 2),))))
    apply(overlay, ("service", ThrottlesForgotten(("a",))), after=7)
    fail_on(ThrottlesForgotten, THROTTLES, monkeypatch)
    # Whoever looks, and looks again, meets the failure; and nothing can be written.
    for _ in range(2):
        with pytest.raises(FoldError, match="throttles failed on position 8"):
            overlay.get("throttles", "a")
    with pytest.raises(FoldError, match="throttles failed on position 8"):
        overlay.changes()


def test_a_projection_whose_keys_fail_is_named(overlay: Overlay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(USERS), "keys", lambda self, recorded: 1 // 0)
    with pytest.raises(FoldError, match="users failed on position 7"):
        apply(overlay, ("user", registered()))


# Writing.


def test_what_came_to_nothing_is_not_written(overlay: Overlay) -> None:
    overlay.load("sessions", ["2"])
    apply(overlay, ("session", opened(1)), ("session-7", closed(1)))
    apply(overlay, ("user-4", UserLevelChanged(2)), after=8)
    changes = overlay.changes()
    assert changes["sessions"] == {}
    assert set(changes["users"]) == {"1"}, "its last contact moved, and the other had that level already"


def test_a_removed_document_says_what_it_was(desk: Desk, overlay: Overlay) -> None:
    apply(overlay, ("session-2", closed(1)))
    assert overlay.changes()["sessions"] == {"2": Change(desk.models.get(SESSIONS, "2"), None)}


@pytest.mark.parametrize("commands", [1, 10, 100])
def test_the_number_of_reads_and_writes_does_not_depend_on_the_number_of_commands(commands: int) -> None:
    desk = memory_desk()
    desk.batch(record([("user", registered(f"user{number}")) for number in range(100)]))
    told = record(
        [("session", opened(number + 1, cleared=(f"account:{number}",))) for number in range(commands)], after=100
    )
    counting = desk.batch(*([one] for one in told))
    assert sorted(counting.loads) == ["activity", "throttles", "users"]
    assert counting.writes == ["users", "sessions", "activity", "states"]


def test_states_move_for_every_projection(desk: Desk) -> None:
    desk.batch(record([("user", registered())]))
    desk.batch(record([("service", failed())], after=1))
    assert {state.position for state in desk.models.states().values()} == {2}
    assert desk.models.states()["users"].documents == 1
    assert desk.models.states()["sessions"] == ReadModelState(SESSIONS.revision, 2)
