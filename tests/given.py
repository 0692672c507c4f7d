"""Given these events, when this command is decided, then these events follow, or it is refused.

    given([registered("ada"), opened(user=1)]).when(Deactivate(1)).then(
        [on("user-1", UserDeactivated()), on("session-2", SessionClosed(1, "deactivated"))]
    )

What was given is folded by the real projections, in memory and without a store. A time span among the events lets that
much time pass. A decision that looks at what its `reads` did not declare fails the test.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from difflib import unified_diff
from pprint import pformat
from typing import Any, TypeVar

from events.catalogue import Event, GuestCreated, Level, SessionOpened, UserRegistered
from events.recorded import Recorded
from projections.catalogue import all_projections
from projections.names import Name, NameKind, Tagger
from projections.replay import Replay
from projections.sessions import Session
from projections.throttles import Throttle
from projections.users import User
from service.decisions.command import Command, Proposed, Reads
from service.decisions.registration import Taking
from service.errors import Refused

START = datetime(2026, 11, 21, 12, tzinfo=UTC)
"""When the first given event is recorded."""

A_DAY = timedelta(days=1)
TAGGER = Tagger(bytes(32))
OPEN_ENDED = ("user", "session")

Given = Event | Proposed | timedelta
R = TypeVar("R", bound=Refused)

on = Proposed
"""`on("user-1", UserDeactivated())`: an event and the stream that it goes to."""


def taking(kind: NameKind, typed: str) -> Taking:
    """A name as somebody takes it; compared without regard to case."""
    return Taking(typed, typed.lower(), TAGGER(kind, typed.lower()))


def registered(name: str, *, level: Level = 1, email: str | None = None) -> UserRegistered:
    """An account `name` with the nickname `Name the Great`."""
    nickname = f"{name.title()} the Great"
    return UserRegistered(
        name, name.lower(), nickname, nickname.lower(), f"hash of {name}", level,
        email, None if email is None else email.lower(),
    )  # fmt: skip


def opened(*, user: int, until: datetime = START + A_DAY, cleared: Sequence[str] = ()) -> SessionOpened:
    """A session of that user."""
    return SessionOpened(user, "d" * 64, until, cleared=tuple(cleared))


def guest(*, until: datetime = START + A_DAY, origin: str | None = None) -> GuestCreated:
    """A guest."""
    return GuestCreated("d" * 64, until, origin)


class Book:
    """The events so far, folded; the `State` that a command decides over."""

    def __init__(self, tagger: Tagger = TAGGER) -> None:
        self.now = START
        self.told: list[Recorded] = []
        self._versions: dict[str, int] = {}
        self._folded = Replay(all_projections(tagger), opener=lambda plain: plain)
        self._declared: Reads | None = None
        self.undeclared: list[str] = []

    def tell(self, what: Given) -> None:
        """Records one event, or lets time pass."""
        if isinstance(what, timedelta):
            self.now += what
            return
        position = len(self.told) + 1
        stream, event = (what.stream, what.event) if isinstance(what, Proposed) else (_stream_of(what), what)
        if stream in OPEN_ENDED:
            stream = f"{stream}-{position}"
        version = self._versions[stream] = self._versions.get(stream, 0) + 1
        recorded = Recorded(position, stream, version, self.now, "somebody", "a-door", "0" * 32, event)
        self.fold(recorded)

    def fold(self, recorded: Recorded) -> None:
        """Takes in what was recorded, in plain text."""
        self._folded.fold([recorded])
        self.told.append(recorded)

    def watch(self, declared: Reads) -> None:
        """From here on, notes every look at what these reads do not declare."""
        self._declared = declared
        self.undeclared = []

    def watch_no_more(self) -> None:
        """What was looked at, undeclared, stays in `undeclared`."""
        self._declared = None

    def documents(self, projection: str) -> dict[str, Any]:
        """All documents of a projection, by key."""
        return self._folded.documents[projection]

    def user(self, user_id: int) -> User | None:
        self._look(f"user {user_id}", lambda reads: user_id in reads.users)
        found: User | None = self.documents("users").get(str(user_id))
        return found

    def name(self, tag: str) -> Name | None:
        self._look(f"name {tag}", lambda reads: tag in reads.names)
        found: Name | None = self.documents("names").get(tag)
        return found

    def session(self, session_id: int) -> Session | None:
        self._look(f"session {session_id}", lambda reads: session_id in reads.sessions)
        found: Session | None = self.documents("sessions").get(str(session_id))
        return found

    def sessions_of(self, user_id: int) -> list[Session]:
        self._look(f"sessions of {user_id}", lambda reads: user_id in reads.sessions_of)
        # Newest first: whoever wants them in another order sorts them.
        return [one for one in reversed(self.documents("sessions").values()) if one.user_id == user_id]

    def guests_of(self, origin: str) -> int:
        self._look(f"guests of {origin}", lambda reads: origin in reads.guests_of)
        return sum(one.origin == origin for one in self.documents("sessions").values())

    def throttle(self, key: str) -> Throttle | None:
        self._look(f"throttle {key}", lambda reads: key in reads.throttles)
        found: Throttle | None = self.documents("throttles").get(key)
        return found

    def active_admins(self) -> list[User]:
        self._look("active admins", lambda reads: reads.active_admins)
        return [user for user in self.documents("users").values() if user.level == 2 and user.active]

    def _look(self, what: str, declared: Any) -> None:
        if self._declared is not None and not declared(self._declared):
            self.undeclared.append(what)


class Decided:
    """What came of a command."""

    def __init__(self, given: Sequence[Given], book: Book, command: Command) -> None:
        self._given = given
        self._book = book
        self._command = command
        self._proposed: list[Proposed] = []
        self._refusal: Refused | None = None
        book.watch(command.reads())
        try:
            self._proposed = list(command.decide(book))
        except Refused as refusal:
            self._refusal = refusal
        self._undeclared = book.undeclared
        book.watch_no_more()

    def then(self, expected: Iterable[Proposed], *, looking_also_at: Sequence[str] = ()) -> Book:
        """Exactly these events follow; gives the book with them in it.

        `looking_also_at` is what the decision may look at without having declared it.
        """
        wanted = list(expected)
        if self._refusal is not None:
            raise AssertionError(self._story(f"{_lines(wanted)} were expected, but it was refused: {self._refusal!r}"))
        if self._proposed != wanted:
            raise AssertionError(self._story("other events were expected:\n" + _difference(wanted, self._proposed)))
        self._hold_to_its_reads(looking_also_at)
        for event in self._proposed:
            self._book.tell(event)
        return self._book

    def refused(self, expected: type[R]) -> R:
        """It is refused, with just this type of error; gives the error."""
        if self._refusal is None:
            raise AssertionError(self._story(f"{expected.__name__} was expected, but it gave {_lines(self._proposed)}"))
        if type(self._refusal) is not expected:
            raise AssertionError(self._story(f"{expected.__name__} was expected, but it was {self._refusal!r}"))
        self._hold_to_its_reads(())
        return self._refusal

    def _hold_to_its_reads(self, allowed: Sequence[str]) -> None:
        if self._undeclared != list(allowed):
            raise AssertionError(self._story(f"it looked, undeclared, at {self._undeclared}; allowed: {list(allowed)}"))

    def _story(self, ending: str) -> str:
        return f"\ngiven {_lines(self._given)}\nwhen {pformat(self._command)}\nthen {ending}"


class Situation:
    """What was given, before anything is asked."""

    def __init__(self, given: Sequence[Given]) -> None:
        self._given = given
        self.book = Book()
        for what in given:
            self.book.tell(what)

    def when(self, command: Command) -> Decided:
        """The command is decided over what was given."""
        return Decided(self._given, self.book, command)


def given(events: Sequence[Given] = ()) -> Situation:
    """The book holds these events. One without a stream goes to the one that it begins, or to `service`."""
    return Situation(events)


def _stream_of(event: Event) -> str:
    if isinstance(event, UserRegistered):
        return "user"
    return "session" if isinstance(event, SessionOpened | GuestCreated) else "service"


def _lines(items: Sequence[object]) -> str:
    return pformat(list(items), width=110) if items else "nothing"


def _difference(wanted: Sequence[Proposed], got: Sequence[Proposed]) -> str:
    before, after = (pformat(list(items), width=110).splitlines() for items in (wanted, got))
    return "\n".join(unified_diff(before, after, "expected", "decided", lineterm="", n=20))
