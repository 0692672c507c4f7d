"""What every command is: it says what it will read, and decides over that."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from msgspec import Struct

from events.catalogue import Event
from projections.names import Name
from projections.sessions import Session
from projections.throttles import Throttle
from projections.users import User


class Reads(Struct, frozen=True):
    """What a decision will look at, so that a batch can load it all in a fixed number of reads."""

    users: tuple[int, ...] = ()
    names: tuple[str, ...] = ()
    sessions: tuple[int, ...] = ()
    sessions_of: tuple[int, ...] = ()
    throttles: tuple[str, ...] = ()
    guests_of: tuple[str, ...] = ()
    active_admins: bool = False


class State(Protocol):
    """What is known at the moment of deciding, the commands decided just before included."""

    now: datetime

    def user(self, user_id: int) -> User | None:
        """The account of that id."""

    def name(self, tag: str) -> Name | None:
        """Who has the name of that tag."""

    def session(self, session_id: int) -> Session | None:
        """The open session of that id."""

    def sessions_of(self, user_id: int) -> list[Session]:
        """The user's open sessions, in no particular order."""

    def guests_of(self, origin: str) -> int:
        """How many guests are there whose address has that tag."""

    def throttle(self, key: str) -> Throttle | None:
        """The failures counted under that key."""

    def active_admins(self) -> list[User]:
        """The active accounts of level 2."""


class Proposed(Struct, frozen=True):
    """A plain event and the stream that it goes to. `user` or `session` alone names a stream that begins with it."""

    stream: str
    event: Event


class Command(Protocol):
    """Something that somebody asks for."""

    def reads(self) -> Reads:
        """What `decide` will look at."""

    def decide(self, state: State) -> Sequence[Proposed]:
        """The events that follow; none where nothing is to be said. Raises an error of `service.errors` to refuse."""


def user_stream(user_id: int) -> str:
    """The stream of one user's events."""
    return f"user-{user_id}"


def session_stream(session_id: int) -> str:
    """The stream of one session's events."""
    return f"session-{session_id}"
