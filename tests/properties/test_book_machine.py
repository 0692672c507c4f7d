"""Whatever is asked, in whatever order and however much at once: what always holds of the book.

Batches of commands, each made up from what stood in the book before the batch, go through the batch runners of two
processes over one SQLite store. Beside them runs a model: the same decisions, one after another, over a plain fold in
memory. Commits fail, folds fail, clocks are set back, processes start again.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Final

import pytest
from hypothesis import event, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from msgspec import Struct
from structlog.testing import capture_logs

from events.catalogue import (
    ADMIN,
    PERSONAL_FIELDS,
    USER,
    AuditRead,
    GuestCreated,
    GuestLinked,
    Level,
    LoginFailed,
    PasswordChanged,
    SessionClosed,
    SessionOpened,
    SessionSeen,
    UserRegistered,
)
from events.errors import StoreError
from events.log import Query
from events.recorded import MAX_ENTRY_BYTES, Recorded
from events.sealing import open_event
from projections.digest import of_documents, to_text
from projections.names import NameKind
from projections.replay import Replay, catch_up, replay
from projections.sessions import Session
from projections.users import User
from service.batch import Outcome
from service.book import open_book, parse_address
from service.decisions.administration import (
    AskRebuild,
    Deactivate,
    NoteAuditRead,
    Reactivate,
    RevokeSession,
    RevokeSessionsOf,
    SetLevel,
    SetPassword,
)
from service.decisions.command import Command, Proposed
from service.decisions.guests import CreateGuest
from service.decisions.login import LogIn, RecordFailure
from service.decisions.profile import ChangeProfile, NewPassword, Renaming
from service.decisions.registration import RecordNameTaken, Register, Taking
from service.decisions.sessions import EndOtherSessions, EndOwnSession, EndSession, ExpireSessions, SeeSession
from service.decisions.throttling import ForgetThrottles, Limit, NoteThrottled
from service.errors import InternalError, InvalidFields, Refused, Unavailable
from tests import given
from tests.desk import Desk, orders
from tests.house import Clock

NAMES: Final = ("Zaphod", "Trillian", "Marvin", "Arthur", "Fenchurch")
MOST_SESSIONS: Final = 3
MOST_GUESTS: Final = 1
LIFETIME: Final = timedelta(hours=1)
NOBODY: Final = 1_000_000
REGISTRATIONS: Final = Limit("registration:0", 3, timedelta(minutes=1), outlives_success=True)
SKEW: Final = timedelta(seconds=5)
COMMITS_FAIL: Final = "commits fail"
# A fold that is done as the command is decided, and one that is left for the end of the batch.
FOLDS_THAT_FAIL: Final = (
    ("users", PasswordChanged),
    ("users", SessionSeen),
    ("users", SessionClosed),
    ("activity", SessionOpened),
    ("throttles", LoginFailed),
    ("names", UserRegistered),
    ("sessions", GuestCreated),
)


class Asked(Struct, frozen=True):
    """What somebody asks for: a kind of command, and three numbers that it is made up from."""

    kind: str
    who: int
    what: int
    how: int

    def __repr__(self) -> str:
        return f"Asked({self.kind!r}, {self.who}, {self.what}, {self.how})"


Made = Callable[["BookMachine", Asked], Command]
KINDS: dict[str, Made] = {}


def kind(make: Made) -> Made:
    KINDS[make.__name__] = make
    return make


@kind
def register(book: BookMachine, asked: Asked) -> Command:
    email = book.taking("email", asked.how) if asked.how % 2 else None
    level: Level = ADMIN if asked.who % 3 == 0 else USER
    return Register(
        book.taking("username", asked.who), book.taking("nickname", asked.what), email, "hash", level,
        limits=() if asked.how else (REGISTRATIONS,),
    )  # fmt: skip


@kind
def want_what_is_taken(book: BookMachine, asked: Asked) -> Command:
    return RecordNameTaken((REGISTRATIONS,)[: asked.how])


def throttles(asked: Asked) -> tuple[Limit, ...]:
    account = Limit(f"account:{asked.what % 2}", 2, timedelta(minutes=1))
    return account, Limit("address:0", 4, timedelta(minutes=1), outlives_success=True)


@kind
def log_in(book: BookMachine, asked: Asked) -> Command:
    user, held = book.user(asked.who), book.session(asked.what)
    return LogIn(
        user_id=user.id if user else NOBODY,
        password_version=user.password_version if user else 1,
        token_digest="d" * 64,
        lifetime=LIFETIME,
        most_sessions=MOST_SESSIONS,
        replaces=held.id if held and asked.how % 3 == 0 else None,
        rehashed="hash, stronger" if asked.how == 1 else None,
        limits=throttles(asked),
        agent=NAMES[0],
        guest=None if asked.how != 4 else held.id if held else NOBODY,
    )


@kind
def come(book: BookMachine, asked: Asked) -> Command:
    return CreateGuest("e" * 64, LIFETIME, (None, "guests:0", "guests:1")[asked.who % 3], MOST_GUESTS)


@kind
def revoke(book: BookMachine, asked: Asked) -> Command:
    session = book.session(asked.who)
    return RevokeSession(session.id if session else NOBODY)


@kind
def revoke_all(book: BookMachine, asked: Asked) -> Command:
    return RevokeSessionsOf(book.user_id(asked.who))


@kind
def end_others(book: BookMachine, asked: Asked) -> Command:
    present, other = book.session(asked.who), book.session(asked.what)
    asking, owner = (present.id, present.user_id) if present else (NOBODY, NOBODY)
    if asked.how % 2:
        return EndOtherSessions(owner, asking)
    return EndOwnSession(other.id if other else NOBODY, owner, asking)


@kind
def fail(book: BookMachine, asked: Asked) -> Command:
    user = book.user(asked.who)
    limits = throttles(asked)
    reason = "wrong_password" if user else "unknown_account"
    return RecordFailure(reason, user.id if user else None, limits[: asked.how % 3], agent=NAMES[1])  # type: ignore[arg-type]  # the words are FailureReasons


@kind
def log_out(book: BookMachine, asked: Asked) -> Command:
    session, user = book.session(asked.who), book.user(asked.what)
    owner = session.user_id if session and asked.how else user.id if user else NOBODY
    return EndSession(session.id if session else NOBODY, owner)


@kind
def see(book: BookMachine, asked: Asked) -> Command:
    session = book.session(asked.who)
    return SeeSession(session.id if session else NOBODY, timedelta(minutes=(0, 1, 30)[asked.how % 3]))


@kind
def expire(book: BookMachine, asked: Asked) -> Command:
    return ExpireSessions(tuple(session.id for session in book.sessions()[asked.who % 2 :]))


@kind
def rename(book: BookMachine, asked: Asked) -> Command:
    session = book.session(asked.who)
    user = book.model.user(session.user_id) if session else None
    if session is None or user is None:
        return ChangeProfile(NOBODY, NOBODY, 1, nickname=Renaming(book.taking("nickname", asked.what), None))
    prepared, email = user.nickname_prepared, user.email_prepared
    assert isinstance(prepared, str)
    nickname = Renaming(book.taking("nickname", asked.what), prepared) if asked.how in {0, 1, 2} else None
    if asked.how in {1, 3}:
        moved = Renaming(book.taking("email", asked.what), email if email is None else str(email))
        return ChangeProfile(user.id, session.id, user.profile_version, nickname, moved)
    removed = str(email) if email is not None and asked.how in {2, 4} else None
    return ChangeProfile(user.id, session.id, user.profile_version, nickname, None, removed)


@kind
def change_password(book: BookMachine, asked: Asked) -> Command:
    session = book.session(asked.who)
    user = book.model.user(session.user_id) if session else None
    if session is None or user is None:
        return ChangeProfile(NOBODY, NOBODY, 1, password=NewPassword("another hash", 1))
    return ChangeProfile(
        user.id, session.id, user.profile_version, password=NewPassword("another hash", user.password_version)
    )


@kind
def set_password(book: BookMachine, asked: Asked) -> Command:
    return SetPassword(book.user_id(asked.who), "hash that was set")


@kind
def set_level(book: BookMachine, asked: Asked) -> Command:
    return SetLevel(book.user_id(asked.who), (USER, ADMIN)[asked.what % 2])


@kind
def deactivate(book: BookMachine, asked: Asked) -> Command:
    return Deactivate(book.user_id(asked.who), (None, "Zaphod knows why", "x" * 70_000)[min(asked.how, 2)])


@kind
def reactivate(book: BookMachine, asked: Asked) -> Command:
    return Reactivate(book.user_id(asked.who))


@kind
def note_throttled(book: BookMachine, asked: Asked) -> Command:
    return NoteThrottled(("account:0", "account:1", "address:0")[asked.who % 3])


@kind
def forget_throttles(book: BookMachine, asked: Asked) -> Command:
    return ForgetThrottles(("account:0", "account:1", "address:0", "address:9"))


@kind
def look(book: BookMachine, asked: Asked) -> Command:
    return NoteAuditRead("x" * (70_000 if asked.how == 5 else 7))


@kind
def ask_rebuild(book: BookMachine, asked: Asked) -> Command:
    return AskRebuild("users")


NUMBER: Final = st.integers(0, 5)
ONE: Final = st.builds(
    Asked,
    st.sampled_from(
        [*KINDS, "register", "register", "log_in", "log_in", "log_in", "come", "rename", "deactivate", "set_level"]
    ),
    NUMBER,
    NUMBER,
    NUMBER,
)
TROUBLE: Final = st.sampled_from([COMMITS_FAIL, *FOLDS_THAT_FAIL])
DESK: Final = st.sampled_from([0, 1])
# Windows close, sessions expire, failures are forgotten.
SPAN: Final = st.sampled_from([0, 0, 0, 0, 0, 0, 1, 60, 3_600, 86_400]).map(lambda seconds: timedelta(seconds=seconds))


class BookMachine(RuleBasedStateMachine):
    """See the module."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(mkdtemp())
        self.address = parse_address(f"sqlite:{self.folder}/gatebook.db")
        self.clock = Clock(given.START)
        self.desks = [self.open_desk(), self.open_desk()]
        self.model = given.Book(self.desks[0].book.tag)
        self.folded = Replay(self.desks[0].book.projections, opener=self.opener(0))
        self.versions: dict[str, int] = {}
        self.had_admin = False

    def teardown(self) -> None:
        try:
            self.check_the_whole_book()
        finally:
            for desk in self.desks:
                desk.book.close()
            shutil.rmtree(self.folder)

    # What commands are made up from

    def user(self, number: int) -> User | None:
        users = list(self.model.documents("users").values())
        return users[number % len(users)] if users else None

    def user_id(self, number: int) -> int:
        user = self.user(number)
        return user.id if user and number < 5 else NOBODY

    def sessions(self) -> list[Session]:
        return list(self.model.documents("sessions").values())

    def session(self, number: int) -> Session | None:
        sessions = self.sessions()
        return sessions[number % len(sessions)] if sessions else None

    def taking(self, kind: NameKind, number: int) -> Taking:
        """One of the names of a kind; there is one that is written in two ways."""
        name = NAMES[number % len(NAMES)] + ("@example.org" if kind == "email" else "")
        typed = name.upper() if number >= len(NAMES) else name
        return Taking(typed, typed.lower(), self.desks[0].book.tag(kind, typed.lower()))

    def open_desk(self) -> Desk:
        return Desk(open_book(self.address, create=True), self.clock)

    def opener(self, desk: int) -> Callable[[Recorded], Recorded]:
        return lambda one: open_event(one, self.desks[desk].book.keyring)

    # What happens

    @initialize()
    def begin(self) -> None:
        """Most of what can happen needs somebody to happen to."""
        self.ask([Asked("register", 0, 0, 1), Asked("register", 1, 1, 0)], 0, None)
        self.ask([Asked("log_in", 0, 0, 2), Asked("log_in", 1, 0, 2)], 1, None)

    @rule(asked=st.lists(ONE, min_size=1, max_size=8), desk=DESK, span=SPAN)
    def ask_at_once(self, asked: Sequence[Asked], desk: int, span: timedelta) -> None:
        """Several commands, as one batch, at one of the two processes."""
        self.clock.now += span
        self.ask(asked, desk, None)

    @rule(asked=st.lists(ONE, min_size=2, max_size=8), who=NUMBER, desk=DESK, span=SPAN)
    def ask_about_one(self, asked: Sequence[Asked], who: int, desk: int, span: timedelta) -> None:
        """Several commands that get into each other's way."""
        self.clock.now += span
        self.ask([Asked(one.kind, who, one.what, one.how) for one in asked], desk, None)

    @rule(asked=st.lists(ONE, min_size=1, max_size=6), desk=DESK, span=SPAN, trouble=TROUBLE)
    def ask_in_trouble(self, asked: Sequence[Asked], desk: int, span: timedelta, trouble: Any) -> None:
        """A batch while a fold or the store has a fault."""
        self.clock.now += span
        self.ask(asked, desk, trouble)

    @rule(who=NUMBER, desk=DESK, trouble=st.sampled_from([COMMITS_FAIL, ("names", UserRegistered)]))
    def register_in_vain_and_elsewhere(self, who: int, desk: int, trouble: Any) -> None:
        """A registration that fails at one process, and takes the same position at the other."""
        asked = [Asked("register", who, who, 0)]
        self.ask(asked, desk, trouble)
        self.ask(asked, 1 - desk, None)

    @rule(who=NUMBER, admin=NUMBER, desk=DESK)
    def look_for_admins_while_a_fold_waits(self, who: int, admin: int, desk: int) -> None:
        """A neighbour's look makes a fold happen, and fail, that had been left for later."""
        asked = [Asked("see", who, 0, 0), Asked("set_level", admin, 0, 0)]
        self.ask(asked, desk, ("users", SessionSeen))

    def ask(self, asked: Sequence[Asked], desk: int, trouble: Any) -> None:
        commands = [KINDS[one.kind](self, one) for one in asked]
        given_orders = orders(*commands)
        strays = self.desks[desk].runner.strays
        outcomes = self.run(desk, given_orders, trouble)
        if outcomes is None:
            self.check_the_log([])
            return
        undeclared: list[str] = []
        for one, command, outcome in zip(asked, commands, outcomes, strict=True):
            expected = self.expected(command, trouble)
            self.compare(command, outcome, expected)
            undeclared += self.model.undeclared
            name = "carried out" if isinstance(outcome, tuple) else type(outcome).__name__
            event(f"{one.kind}: {name}")
            if isinstance(outcome, tuple):
                for recorded in outcome:
                    self.model.fold(recorded)
        assert all(what.startswith("sessions of ") for what in undeclared)
        if not undeclared and trouble is None:
            assert self.desks[desk].runner.strays == strays
        self.check_the_log([one for outcome in outcomes if isinstance(outcome, tuple) for one in outcome])
        written = {one.command_id for one, outcome in zip(given_orders, outcomes, strict=True) if outcome == ()}
        assert written.isdisjoint(one.command_id for one in self.model.told)
        self.check_what_always_holds()

    @rule(span=st.sampled_from([timedelta(seconds=2), timedelta(seconds=5), timedelta(seconds=9)]))
    def set_the_clock_back(self, span: timedelta) -> None:
        """As far as is put up with, or further."""
        self.clock.now -= span

    @rule(desk=DESK)
    def start_again(self, desk: int) -> None:
        """One of the two processes ends and starts again."""
        self.desks[desk].book.close()
        self.desks[desk] = self.open_desk()

    @rule(part=st.floats(0, 1))
    def replay_to_a_position_and_on(self, part: float) -> None:
        """Replaying to a position and on from there is the same as replaying once."""
        book = self.desks[0].book
        until = int(part * book.log.head().position)
        halfway = replay(book.log, book.projections, until=until, opener=self.opener(0))
        assert halfway.position == until
        catch_up(halfway, book.log)
        assert halfway.documents == self.folded.documents

    # What is expected

    def run(self, desk: int, given_orders: Any, trouble: Any) -> list[Outcome] | None:
        """The outcomes; None when the store's error told everybody that nothing was written."""
        at = self.desks[desk]
        with capture_logs():
            if trouble == COMMITS_FAIL:
                at.refuse_commits()
                try:
                    with pytest.raises(StoreError):
                        at.runner.run(given_orders)
                finally:
                    at.allow_commits()
                return None
            if trouble is not None:
                name, kind = trouble
                at.break_(name, lambda one: type(one.event) is kind)
            try:
                return at.runner.run(given_orders)
            finally:
                at.mend()

    def expected(self, command: Command, trouble: Any) -> Refused | list[Proposed]:
        """What the decision says over the model, which knows nothing of batches."""
        self.model.now = self.clock.now
        if self.model.told and self.model.told[-1].at - self.clock.now > SKEW:
            self.model.undeclared = []
            return Unavailable("")
        self.model.watch(command.reads())
        try:
            proposed = list(command.decide(self.model))
        except Refused as refusal:
            return refusal
        finally:
            self.model.watch_no_more()
        if any(_too_large(one) for one in proposed):
            return InternalError()
        if trouble is not None and any(
            type(one.event) is trouble[1] and self._folds(trouble[0], one) for one in proposed
        ):  # fmt: skip
            return InternalError()
        return proposed

    def _folds(self, name: str, proposed: Proposed) -> bool:
        """Whether the projection of that name has a document to fold the event into."""
        if name == "throttles":
            return isinstance(proposed.event, LoginFailed) and bool(proposed.event.throttles)
        return True

    def compare(self, command: Command, outcome: Outcome, expected: Refused | list[Proposed]) -> None:
        if isinstance(expected, Refused):
            assert type(outcome) is type(expected), (command, outcome, expected)
            if isinstance(expected, InvalidFields):
                assert isinstance(outcome, InvalidFields)
                assert outcome.errors == expected.errors
            return
        assert isinstance(outcome, tuple), (command, outcome, expected)
        assert [one.event for one in outcome] == [one.event for one in expected]
        for recorded, proposed in zip(outcome, expected, strict=True):
            begins = proposed.stream in given.OPEN_ENDED
            assert recorded.stream == (f"{proposed.stream}-{recorded.position}" if begins else proposed.stream)

    # What always holds

    def check_the_log(self, expected: list[Recorded]) -> None:
        """What was answered stands in the log, and nothing else does; both processes can open it."""
        book = self.desks[0].book
        before = self.folded.position
        fresh = book.log.read(Query(after=before))
        assert [one.position for one in fresh] == list(range(before + 1, before + len(fresh) + 1))
        for desk in (0, 1):
            assert list(map(self.opener(desk), fresh)) == expected
        for one in fresh:
            assert one.version == self.versions.get(one.stream, 0) + 1
            self.versions[one.stream] = one.version
        moments = [one.at for one in book.log.read(Query(after=max(0, before - 1)))]
        assert moments == sorted(moments)
        assert book.log.head().position == before + len(fresh)
        catch_up(self.folded, book.log)
        for name, state in book.read_models.states().items():
            assert (state.position, state.digest) == (self.folded.position, self.folded.digest(name)), name
            assert state.documents == len(self.folded.documents[name])

    def check_what_always_holds(self) -> None:
        users: list[User] = list(self.model.documents("users").values())
        sessions = Counter(session.user_id for session in self.sessions())
        assert {user.id: user.open_sessions for user in users} == {user.id: sessions[user.id] for user in users}
        assert not [user for user in users if user.open_sessions > MOST_SESSIONS]
        assert not [user for user in users if user.open_sessions and not user.active]
        self.had_admin = self.had_admin or bool(self.model.active_admins())
        assert bool(self.model.active_admins()) == self.had_admin
        self.check_names(users)
        self.check_guests({user.id for user in users})

    def check_guests(self, users: set[int]) -> None:
        """A guest is a session and no account; no address has too many; who was linked is gone."""
        guests = [session for session in self.sessions() if session.guest]
        assert all(guest.id == guest.user_id and guest.address is None for guest in guests)
        assert users.isdisjoint(guest.id for guest in guests)
        here = Counter(guest.origin for guest in guests if guest.origin)
        assert not [origin for origin, count in here.items() if count > MOST_GUESTS]
        linked = {one.stream for one in self.model.told if isinstance(one.event, GuestLinked)}
        assert linked.isdisjoint(f"session-{session.id}" for session in self.sessions())

    def check_names(self, users: list[User]) -> None:
        """Nobody has a name that another has, and the names that are taken are those that somebody has."""
        tag = self.desks[0].book.tag
        had: list[tuple[str, int]] = []
        registered = {one.position: one.event for one in self.model.told if isinstance(one.event, UserRegistered)}
        for user in users:
            username = registered[user.id].username_prepared
            assert isinstance(username, str)
            assert isinstance(user.nickname_prepared, str)
            had += [(tag("username", username), user.id), (tag("nickname", user.nickname_prepared), user.id)]
            if isinstance(user.email_prepared, str):
                had.append((tag("email", user.email_prepared), user.id))
        assert len(dict(had)) == len(had)
        assert {key: name.user_id for key, name in self.model.documents("names").items()} == dict(had)

    def check_the_whole_book(self) -> None:
        """One replay from the beginning, the rows as they are stored, and no name in plain text."""
        book = self.desks[1].book
        once = replay(book.log, book.projections, opener=self.opener(1))
        states = book.read_models.states()
        for projection in book.projections:
            rows = book.read_models.scan(projection)
            stored = to_text(of_documents((row.key, row.document) for row in rows))
            assert states[projection.name].digest == stored == once.digest(projection.name)
            for row in rows:
                document = book.decode(projection, row.document)
                assert row.indexed == {index.name: index.value(document) for index in projection.indexes}
        for entry in book.log.entries(Query(limit=10_000)):
            assert not [name for name in NAMES if name.lower().encode() in entry.data.lower()]
            assert len(entry.data) <= MAX_ENTRY_BYTES


def _too_large(proposed: Proposed) -> bool:
    values = [proposed.event.target] if isinstance(proposed.event, AuditRead) else [
        getattr(proposed.event, name) for name in PERSONAL_FIELDS[type(proposed.event)]
    ]  # fmt: skip
    return any(isinstance(value, str) and len(value) > 60_000 for value in values)


TestBook = BookMachine.TestCase
TestBook.settings = settings(max_examples=settings().max_examples // 2)
