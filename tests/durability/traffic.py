"""Commands as people give them, drawn by chance, batch by batch, over one book."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from events.catalogue import GuestCreated, SessionClosed, SessionOpened, UserRegistered
from events.recorded import Recorded
from projections.names import NameKind
from projections.users import User
from service.batch import BatchRunner, Order, order
from service.book import Book
from service.decisions.command import Command
from service.decisions.guests import CreateGuest
from service.decisions.login import LogIn, RecordFailure
from service.decisions.profile import ChangeProfile, NewPassword, Renaming
from service.decisions.registration import Register, Taking
from service.decisions.sessions import EndSession, SeeSession
from service.decisions.throttling import Limit

A_DAY = timedelta(days=1)
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


class Traffic:
    """Draws batches for a book and runs them; `answered` is every event that was given back, in plain text.

    Its clock begins at `start`: beside a service, at the present moment.
    """

    def __init__(self, book: Book, seed: int, start: datetime = NOON) -> None:
        self._book = book
        self._chance = random.Random(seed)  # noqa: S311 - drawn again from the same seed
        self._runner = BatchRunner(book, clock=self._clock)
        self._now = start
        self._people: list[int] = []
        self._open: dict[int, int] = {}
        self._guests: set[int] = set()
        self.answered: list[Recorded] = []

    def batch(self, most: int = 8) -> list[Recorded]:
        """One batch of one to `most` commands: what was answered."""
        orders = [self._order() for _ in range(self._chance.randint(1, most))]
        return self.run(orders)

    def run(self, orders: Sequence[Order]) -> list[Recorded]:
        """What was answered to these orders."""
        recorded = [one for outcome in self._runner.run(orders) if isinstance(outcome, tuple) for one in outcome]
        self.answered += recorded
        for one in recorded:
            self._learn(one)
        return recorded

    def registration(self) -> Order:
        """Somebody new."""
        name = f"p{self._chance.getrandbits(64):016x}"
        return self._given(
            Register(
                self._taking("username", name), self._taking("nickname", f"{name} the Great"), None,
                f"hash of {name}", 1, "203.0.113.7", "a browser",
            )
        )  # fmt: skip

    def _order(self) -> Order:
        if not self._people or self._chance.random() < 0.3:
            return self.registration()
        user = self._user(self._chance.choice(self._people))
        digest = f"{self._chance.getrandbits(256):064x}"
        if self._chance.random() < 0.1:
            return self._given(CreateGuest(digest, A_DAY, f"guests:{self._chance.randrange(3)}", 5))
        if not self._open or self._chance.random() < 0.4:
            guest = self._chance.choice([None, *sorted(self._guests)])
            return self._given(LogIn(user.id, user.password_version, digest, A_DAY, 3, guest=guest))
        session_id, owner = self._chance.choice(list(self._open.items()))
        return self._given(self._of_session(session_id, self._user(owner)))

    def _of_session(self, session_id: int, user: User) -> Command:
        match self._chance.randrange(5):
            case 0:
                return EndSession(session_id, user.id)
            case 1:
                nickname = self._taking("nickname", f"n{self._chance.getrandbits(64):016x}")
                return ChangeProfile(user.id, session_id, user.profile_version, Renaming(nickname, None))
            case 2:
                password = NewPassword(f"hash {self._chance.random()}", user.password_version)
                return ChangeProfile(user.id, session_id, user.profile_version, password=password)
            case 3:
                limit = Limit(f"account:{user.id}", 5, timedelta(minutes=15))
                return RecordFailure("wrong_password", user.id, (limit,), "203.0.113.8", "another browser")
            case _:
                return SeeSession(session_id, timedelta(0))

    def _given(self, command: Command) -> Order:
        return order(command, actor="somebody", door="a-door")

    def _taking(self, kind: NameKind, typed: str) -> Taking:
        return Taking(typed, typed.lower(), self._book.tag(kind, typed.lower()))

    def _user(self, user_id: int) -> User:
        projection = self._book.projection("users")
        assert projection is not None
        found: User = self._book.document(projection, str(user_id))
        return found

    def _learn(self, one: Recorded) -> None:
        match one.event:
            case UserRegistered():
                self._people.append(one.position)
            case SessionOpened(user_id=user_id):
                self._open[one.position] = user_id
            case GuestCreated():
                self._guests.add(one.position)
            case SessionClosed():
                session_id = int(one.stream.removeprefix("session-"))
                self._open.pop(session_id, None)
                self._guests.discard(session_id)

    def _clock(self) -> datetime:
        self._now += timedelta(milliseconds=self._chance.randrange(1, 1_000))
        return self._now
