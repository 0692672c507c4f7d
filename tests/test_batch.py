"""The batch runner: one transaction for many commands, where a fault of one is never its neighbours'."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import apsw
import pytest
from msgspec import Struct
from structlog.testing import capture_logs

from events.catalogue import (
    PasswordChanged,
    SessionOpened,
    SessionSeen,
    UserDeactivated,
    UserLevelChanged,
    UserRegistered,
)
from events.errors import DurabilityError, StoreError, StoreFullError
from events.keys_sqlite import SQLiteKeyStore
from events.log import Query
from events.sqlite import SQLiteLog
from service.batch import BatchRunner, raised
from service.decisions.administration import Deactivate, NoteAuditRead, SetLevel, SetPassword
from service.decisions.command import Command, Proposed, Reads, State
from service.decisions.sessions import EndSession, SeeSession
from service.errors import InternalError, InvalidFields, LastAdmin, Unavailable
from tests.desk import Desk, kinds, login, orders
from tests.house import Clock, book_in

AN_HOUR = timedelta(hours=1)
TOO_LONG = "x" * 70_000


class Faulty(Struct, frozen=True):
    """A command with a fault in its decision, or in what it declares."""

    proposes: tuple[Proposed, ...] = ()

    def reads(self) -> Reads:
        return Reads()

    def decide(self, state: State) -> Sequence[Proposed]:
        if self.proposes:
            return self.proposes
        raise KeyError("a fault in the decision")


@pytest.fixture(autouse=True)
def logged() -> Iterator[list[Any]]:
    with capture_logs() as lines:
        yield lines


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def open_desk(tmp_path: Path, clock: Clock) -> Iterator[Callable[[], Desk]]:
    """Opens the one store of the test, each time as another process would."""
    with ExitStack() as stack:
        yield lambda: Desk(stack.enter_context(book_in(tmp_path)), clock)


@pytest.fixture
def desk(open_desk: Callable[[], Desk]) -> Desk:
    return open_desk()


def statements(connection: apsw.Connection, log: list[str]) -> None:
    """Writes down every statement that the connection executes."""

    def trace(_cursor: apsw.Cursor, sql: str, _bindings: object) -> bool:
        log.append(sql)
        return True

    connection.exec_trace = trace


# One transaction


def test_each_command_decides_over_what_the_ones_before_it_left(desk: Desk) -> None:
    ada = desk.account("ada")
    outcomes = desk.run(desk.register("grace"), desk.register("Grace"), Deactivate(ada), login(ada), SetLevel(2, 2))
    assert kinds(outcomes) == ["ok", "InvalidFields", "ok", "BadCredentials", "ok"]
    desk.assert_replays()


def test_the_last_two_admins_do_not_leave_together(desk: Desk) -> None:
    first, second = desk.account("first", 2), desk.account("second", 2)
    outcomes = desk.run(SetLevel(first, 1), Deactivate(second))
    assert kinds(outcomes) == ["ok", "LastAdmin"]
    assert isinstance(outcomes[1], LastAdmin)


def test_what_is_answered_is_what_stands_in_the_book(desk: Desk) -> None:
    given = orders(desk.register("ada"), NoteAuditRead("users/1"), login(1))
    outcomes = [raised(one) for one in desk.runner.run(given)]
    assert [one.position for events in outcomes for one in events] == [1, 2, 3]
    for one, events in zip(given, outcomes, strict=True):
        for recorded in events:
            assert desk.told(recorded.position) == recorded
            assert (recorded.command_id, recorded.actor, recorded.door) == (one.command_id, "operator", "test")


def test_streams_count_on_from_one_batch_to_the_next(desk: Desk) -> None:
    ada = desk.account("ada")
    desk.run(SetLevel(ada, 2), SetLevel(ada, 2), SetPassword(ada, "h"))
    desk.run(SetPassword(ada, "i"))
    stream = desk.book.log.entries(Query(stream="user-1"))
    assert [(one.position, one.version) for one in stream] == [(1, 1), (2, 2), (3, 3), (4, 4)]
    assert desk.runner.strays == 0


def test_a_refused_command_leaves_no_trace(desk: Desk) -> None:
    desk.account("ada")
    before = desk.head(), desk.book.read_models.states()
    outcomes = desk.run(desk.register("ada"), login(77), Deactivate(99))
    assert kinds(outcomes) == ["InvalidFields", "BadCredentials", "NotFound"]
    assert (desk.head(), desk.book.read_models.states()) == before


def test_two_processes_write_in_turn_each_over_what_the_other_left(open_desk: Callable[[], Desk]) -> None:
    service, operator = open_desk(), open_desk()
    ada = service.account("ada")
    operator.one(SetPassword(ada, "hash by the operator"))
    service.one(Deactivate(ada, "a reason"))
    grace = operator.account("grace")
    assert kinds(service.run(service.register("grace"), Deactivate(grace, "another"))) == ["InvalidFields", "ok"]
    assert operator.told(5).event == UserDeactivated("another")
    service.assert_replays()
    operator.assert_replays()


# A fault in one command


class CannotSay(Faulty, frozen=True):
    """A command with a fault in what it says that it will read."""

    def reads(self) -> Reads:
        raise KeyError("a fault in the declaration")


def test_a_fault_in_what_a_command_will_read_refuses_that_command_alone(desk: Desk) -> None:
    outcomes = desk.run(desk.register("ada"), CannotSay(), desk.register("grace"))
    assert kinds(outcomes) == ["ok", "InternalError", "ok"]
    assert desk.head() == 2


def test_a_fault_in_a_decision_refuses_that_command_alone(desk: Desk) -> None:
    outcomes = desk.run(desk.register("ada"), Faulty(), desk.register("grace"))
    assert kinds(outcomes) == ["ok", "InternalError", "ok"]
    assert desk.head() == 2
    desk.assert_replays()


def test_an_entry_too_large_refuses_its_command_alone_and_wholly(desk: Desk) -> None:
    ada = desk.account("ada")
    # The session's end, which comes with it, is not written either.
    desk.session(ada)
    outcomes = desk.run(SetLevel(ada, 2), desk.register("grace", 2), Deactivate(ada, TOO_LONG), SetPassword(ada, "h"))
    assert kinds(outcomes) == ["ok", "ok", "InternalError", "ok"]
    written = desk.book.log.read(Query(after=2))
    assert [one.position for one in written] == [3, 4, 5, 6]
    assert [type(one.event) for one in written[:3]] == [UserLevelChanged, UserRegistered, PasswordChanged]
    desk.assert_replays()


def test_a_personal_value_that_nobodys_key_could_seal_refuses_its_command_alone(desk: Desk) -> None:
    nobody = Faulty((Proposed("service", UserDeactivated("a reason")),))
    assert kinds(desk.run(desk.register("ada"), nobody, desk.register("grace"))) == ["ok", "InternalError", "ok"]
    desk.assert_replays()


def test_a_fold_that_fails_at_once_refuses_its_command_alone(desk: Desk) -> None:
    ada, grace = desk.account("ada"), desk.account("grace")
    desk.break_("users", lambda one: type(one.event) is PasswordChanged and one.stream == f"user-{ada}")
    outcomes = desk.run(SetPassword(grace, "h"), SetPassword(ada, "h"), SetLevel(ada, 2), desk.register("eve"))
    assert kinds(outcomes) == ["ok", "InternalError", "ok", "ok"]
    assert [one.stream for one in desk.book.log.read(Query(after=2))] == ["user-2", "user-1", "user-5"]
    desk.assert_replays()


def test_a_fold_that_fails_when_the_batch_is_written_refuses_its_command_alone(desk: Desk, clock: Clock) -> None:
    ada, grace = desk.account("ada"), desk.account("grace")
    mine, hers = desk.session(ada), desk.session(grace)
    clock.pass_by(hours=2)
    # Nobody in the batch reads the account, so it is folded at the end, when neighbours have been decided already.
    desk.break_("users", lambda one: type(one.event) is SessionSeen and one.event.user_id == ada)
    outcomes = desk.run(desk.register("eve"), SeeSession(mine, AN_HOUR), SeeSession(hers, AN_HOUR))
    assert kinds(outcomes) == ["ok", "InternalError", "ok"]
    assert [one.stream for one in desk.book.log.read(Query(after=4))] == ["user-5", f"session-{hers}"]
    desk.assert_replays()


def test_a_fold_that_fails_while_a_neighbour_looks_is_not_the_neighbours_fault(desk: Desk, clock: Clock) -> None:
    admin, other = desk.account("admin", 2), desk.account("other", 2)
    ada = desk.account("ada")
    mine = desk.session(ada)
    clock.pass_by(hours=2)
    desk.break_("users", lambda one: type(one.event) is SessionSeen)
    # To find the admins, the second command makes the overlay fold what the first one left for later.
    outcomes = desk.run(SeeSession(mine, AN_HOUR), SetLevel(admin, 1), SetLevel(other, 1))
    assert kinds(outcomes) == ["InternalError", "ok", "LastAdmin"]
    assert [one.stream for one in desk.book.log.read(Query(after=4))] == [f"user-{admin}"]
    desk.assert_replays()


def test_a_fault_is_told_to_the_log_and_not_to_the_caller(desk: Desk, logged: list[Any]) -> None:
    faulty = orders(Faulty())
    outcome = desk.runner.run(faulty)[0]
    assert isinstance(outcome, InternalError)
    assert "fault in the decision" not in str(outcome)
    assert [(line["event"], line["command_id"]) for line in logged] == [("command_failed", faulty[0].command_id)]


# A store that refuses


def test_when_the_batch_cannot_be_committed_nothing_of_it_is_there(desk: Desk) -> None:
    desk.account("ada")
    before = desk.head(), desk.book.read_models.states()
    desk.refuse_commits()
    with pytest.raises(StoreError):
        desk.run(desk.register("grace"), SetLevel(1, 2))
    assert (desk.head(), desk.book.read_models.states()) == before
    desk.allow_commits()
    assert desk.account("grace") == 2
    desk.assert_replays()


def test_keys_of_a_batch_that_was_not_committed_are_forgotten(open_desk: Callable[[], Desk]) -> None:
    service, operator = open_desk(), open_desk()
    service.refuse_commits()
    with pytest.raises(StoreError):
        service.run(service.register("ada"))
    service.allow_commits()
    # Another process takes the position, with a key of its own for it. What is sealed from here on must open with that.
    grace = operator.account("grace")
    service.one(Deactivate(grace, "a reason"))
    assert open_desk().told(2).event == UserDeactivated("a reason")


def test_keys_of_a_batch_that_failed_while_writing_are_forgotten(
    open_desk: Callable[[], Desk], monkeypatch: pytest.MonkeyPatch
) -> None:
    service, operator = open_desk(), open_desk()

    def full(_entries: object) -> None:
        raise StoreFullError("there is no room left")

    with monkeypatch.context() as patched:
        patched.setattr("events.sqlite.SQLiteTransaction.append", lambda _self, entries: full(entries))
        with pytest.raises(StoreFullError):
            service.run(service.register("ada"))
    grace = operator.account("grace")
    service.one(Deactivate(grace, "a reason"))
    assert open_desk().told(2).event == UserDeactivated("a reason")


def test_the_key_of_a_registration_that_a_fault_refused_is_forgotten(open_desk: Callable[[], Desk]) -> None:
    service, operator = open_desk(), open_desk()
    service.break_("names", lambda _: True)
    assert kinds(service.run(service.register("ada"))) == ["InternalError"]
    service.mend()
    grace = operator.account("grace")
    service.one(Deactivate(grace, "a reason"))
    assert open_desk().told(2).event == UserDeactivated("a reason")


def test_where_commands_are_tried_alone_the_written_ones_are_not_told_that_they_were_not(
    desk: Desk, clock: Clock
) -> None:
    ada = desk.account("ada")
    mine = desk.session(ada)
    clock.pass_by(hours=2)
    desk.break_("users", lambda one: type(one.event) is SessionSeen)
    desk.refuse_commits(allowed=1)
    # The second one's fault makes each be tried alone; then the store takes the first, and no more.
    outcomes = desk.run(desk.register("grace"), SeeSession(mine, AN_HOUR), desk.register("eve"), desk.register("joan"))
    assert kinds(outcomes) == ["ok", "InternalError", "Unavailable", "Unavailable"]
    desk.allow_commits()
    assert [one.stream for one in desk.book.log.read(Query(after=2))] == ["user-3"]
    desk.assert_replays()


def test_where_nothing_was_written_the_stores_error_is_raised(desk: Desk, clock: Clock) -> None:
    mine = desk.session(desk.account("ada"))
    clock.pass_by(hours=2)
    desk.break_("users", lambda one: type(one.event) is SessionSeen)
    desk.refuse_commits()
    with pytest.raises(StoreError):
        desk.run(SeeSession(mine, AN_HOUR), desk.register("eve"))


def test_what_nobody_knows_is_raised_even_after_something_was_written(
    desk: Desk, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = desk.session(desk.account("ada"))
    clock.pass_by(hours=2)
    desk.break_("users", lambda one: type(one.event) is SessionSeen)
    commit, commits = SQLiteLog._commit, 0

    def fails_to_sync(log: SQLiteLog) -> None:
        nonlocal commits
        commits += 1
        if commits == 2:
            log._roll_back()
            raise DurabilityError("a sync failed")
        commit(log)

    monkeypatch.setattr(SQLiteLog, "_commit", fails_to_sync)
    with pytest.raises(DurabilityError):
        desk.run(desk.register("grace"), SeeSession(mine, AN_HOUR), desk.register("eve"))


def test_a_subjects_key_is_durable_before_the_first_entry_sealed_under_it(desk: Desk, tmp_path: Path) -> None:
    assert isinstance(desk.book.log, SQLiteLog)
    assert isinstance(desk.book.keys, SQLiteKeyStore)
    found: list[list[int]] = []

    def when_the_log_commits() -> bool:
        # Another connection sees what is committed, and nothing else.
        other = apsw.Connection(str(tmp_path / "gatebook.keys.db"), flags=apsw.SQLITE_OPEN_READONLY)
        found.append([subject for (subject,) in other.execute("SELECT subject FROM subject_key ORDER BY subject")])
        other.close()
        return False

    desk.book.log.connection.set_commit_hook(when_the_log_commits)
    desk.run(desk.register("ada"), desk.register("grace"))
    desk.run(desk.register("eve"))
    assert found == [[1, 2], [1, 2, 3]]
    assert desk.book.keys._connection.pragma("synchronous") == 2


# The clock


def test_a_clock_behind_the_book_by_more_than_the_skew_makes_everything_wait(desk: Desk, clock: Clock) -> None:
    desk.account("ada")
    clock.pass_by(seconds=-5.000001)
    outcomes = desk.run(desk.register("grace"), SetLevel(1, 2))
    assert kinds(outcomes) == ["Unavailable", "Unavailable"]
    assert isinstance(outcomes[0], Unavailable)
    assert outcomes[0].reason == "the clock is 5 s behind the last entry of the book"
    assert desk.head() == 1
    clock.pass_by(seconds=0.000001)
    assert kinds(desk.run(desk.register("grace"))) == ["ok"]


def test_at_never_goes_back(desk: Desk, clock: Clock) -> None:
    desk.account("ada")
    first = clock.now
    clock.pass_by(seconds=-3)
    assert desk.one(SetLevel(1, 2))[0].at == first
    clock.pass_by(seconds=4)
    assert desk.one(SetPassword(1, "h"))[0].at == first + timedelta(seconds=1)


def test_lifetimes_are_judged_by_the_clock_not_by_the_book(desk: Desk, clock: Clock) -> None:
    desk.account("ada")
    clock.pass_by(seconds=-3)
    opened = desk.one(login(1))[0]
    assert isinstance(opened.event, SessionOpened)
    assert opened.event.expires_at == clock.now + timedelta(days=1)


def test_the_clock_of_the_service_is_utc() -> None:
    assert BatchRunner(None)._clock().tzinfo is UTC  # type: ignore[arg-type]  # no book is needed to tell the time
    assert datetime.now(UTC) - BatchRunner(None)._clock() < timedelta(minutes=1)  # type: ignore[arg-type]  # as above


# How much a batch costs


def count(desk: Desk, *commands: Command) -> tuple[list[str], list[str]]:
    """The statements that the batch executes on the book and on the keys."""
    book: list[str] = []
    keys: list[str] = []
    assert isinstance(desk.book.log, SQLiteLog)
    assert isinstance(desk.book.keys, SQLiteKeyStore)
    statements(desk.book.log.connection, book)
    statements(desk.book.keys._connection, keys)
    try:
        assert set(kinds(desk.run(*commands))) == {"ok"}
    finally:
        desk.book.log.connection.exec_trace = None
        desk.book.keys._connection.exec_trace = None
    return [_shape(sql) for sql in book], [_shape(sql) for sql in keys]


def _shape(sql: str) -> str:
    """The statement without its rows of placeholders: of these there may be as many as there are rows."""
    return sql.partition(" VALUES ")[0]


@pytest.mark.parametrize("kind", ["registrations", "logins", "log-outs", "passwords", "deactivations", "mixed"])
def test_a_batch_of_fifty_executes_as_many_statements_as_a_batch_of_one(
    kind: str, desk: Desk, open_desk: Callable[[], Desk]
) -> None:
    users = [raised(one)[0].position for one in desk.run(*[desk.register(f"user {n}") for n in range(102)])]
    sessions = {user: raised(one)[-1].position for user, one in zip(users, desk.run(*map(login, users)), strict=True)}
    batches: dict[str, Callable[[int], list[Command]]] = {
        "registrations": lambda n: [desk.register(f"name {n}")],
        "logins": lambda n: [login(users[n])],
        "log-outs": lambda n: [EndSession(sessions[users[n]], users[n])],
        "passwords": lambda n: [SetPassword(users[n], "another hash")],
        "deactivations": lambda n: [Deactivate(users[n], "a reason")],
        "mixed": lambda n: [
            desk.register(f"name {n}"),
            login(users[n]),
            EndSession(sessions[users[n]], users[n]),
            Deactivate(users[n], "a reason"),
            SetLevel(users[n], 2),
        ],
    }
    make = batches[kind]
    # Desks of their own: as cold, as a process that has just started.
    of_one = count(open_desk(), *make(100))
    of_fifty = count(open_desk(), *[command for n in range(50) for command in make(n)])
    assert of_fifty == of_one
    assert len(of_one[0]) <= 25
    assert len(of_one[1]) <= 5
    desk.assert_replays()


def test_what_decisions_read_was_declared(desk: Desk) -> None:
    users = [desk.account(f"user {n}", 2) for n in range(3)]
    sessions = [desk.session(user) for user in users]
    desk.run(
        Deactivate(users[0]), SetLevel(users[1], 1), SetPassword(users[2], "h"), EndSession(sessions[1], users[1]),
        SeeSession(sessions[2], timedelta()), login(users[1]), desk.register("ada"), NoteAuditRead("x"),
    )  # fmt: skip
    assert desk.runner.strays == 0


def test_what_was_not_declared_is_found_and_counted(desk: Desk) -> None:
    users = [desk.account(f"user {n}") for n in range(2)]
    one = Faulty((Proposed(f"user-{users[0]}", UserLevelChanged(2)),))
    assert kinds(desk.run(one)) == ["ok"]
    assert desk.runner.strays == 1
    assert [entry.version for entry in desk.book.log.entries(Query(stream="user-1"))] == [1, 2]
    desk.assert_replays()


def test_an_empty_batch_is_no_batch(desk: Desk) -> None:
    assert desk.runner.run([]) == []
    assert desk.head() == 0


def test_a_probe_writes_nothing_that_anybody_sees(desk: Desk) -> None:
    desk.account("ada")
    before = desk.head(), desk.book.read_models.states()
    desk.runner.probe()
    assert (desk.head(), desk.book.read_models.states()) == before
    desk.refuse_commits()
    with pytest.raises(StoreError):
        desk.runner.probe()


def test_an_outcome_is_raised_or_returned() -> None:
    assert raised(()) == ()
    with pytest.raises(InvalidFields):
        raised(InvalidFields())
