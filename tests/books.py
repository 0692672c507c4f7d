"""Books with any events in them, written through the real batch runner."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from random import Random

from msgspec import Struct

from events.catalogue import (
    AuditRead,
    Event,
    GuestCreated,
    GuestLinked,
    LoginFailed,
    LoginThrottled,
    PasswordChanged,
    PasswordRehashed,
    ProfileChanged,
    SessionClosed,
    SessionOpened,
    SessionSeen,
    ThrottlesForgotten,
    ThrottleStep,
    UserDeactivated,
    UserLevelChanged,
    UserReactivated,
    UserRegistered,
)
from events.recorded import Recorded
from service.batch import BatchRunner, order, raised
from service.book import Book
from service.decisions.command import Proposed, Reads, State
from tests.house import Clock

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


class Tell(Struct, frozen=True):
    """A command that says what it was made with."""

    proposed: tuple[Proposed, ...]

    def reads(self) -> Reads:
        return Reads()

    def decide(self, state: State) -> Sequence[Proposed]:
        return self.proposed


def tell(book: Book, at: datetime, *events: tuple[str, Event]) -> tuple[Recorded, ...]:
    """Writes these events, as one command of one batch."""
    command = Tell(tuple(Proposed(stream, event) for stream, event in events))
    runner = BatchRunner(book, clock=Clock(at))
    return raised(runner.run([order(command, actor="operator", door="test")])[0])


def registered(name: str) -> UserRegistered:
    """A registration of that name."""
    return UserRegistered(
        username=name,
        username_prepared=name,
        nickname=f"{name}'s nickname",
        nickname_prepared=f"{name}'s nickname",
        password_hash=f"the hash of {name}",
        level=1,
        email=f"{name}@example.org",
        email_prepared=f"{name}@example.org",
        address="192.0.2.1",
    )


def opened(user_id: int, at: datetime, cleared: tuple[str, ...] = ()) -> SessionOpened:
    """A session of that user's."""
    return SessionOpened(
        user_id=user_id,
        token_digest="0" * 64,
        expires_at=at + timedelta(days=1),
        address="192.0.2.1",
        agent="a browser",
        cleared=cleared,
    )


def guest(at: datetime, origin: str | None = None) -> GuestCreated:
    """A guest."""
    return GuestCreated("1" * 64, at + timedelta(days=1), origin)


def small_book(book: Book) -> None:
    """Some of everything: every table of the store has rows, every index column a value."""
    ada, bob, carol = tell(book, NOON, *(("user", registered(name)) for name in ("ada", "bob", "carol")))
    one, two, _ = tell(
        book,
        NOON + timedelta(minutes=50),
        ("session", opened(ada.position, NOON)),
        ("session", opened(bob.position, NOON)),
        ("session", opened(bob.position, NOON)),
    )
    at = NOON + timedelta(minutes=70)
    failure = LoginFailed(
        "wrong_password", carol.position, (ThrottleStep("account:1", 1), ThrottleStep("address:1", 1)), "192.0.2.9"
    )
    tell(book, at, (carol.stream, failure), ("service", LoginFailed("unknown_account")))
    tell(book, at, ("service", LoginThrottled("address:1", at + timedelta(hours=1))))
    tell(book, at, (one.stream, SessionSeen(ada.position)), (two.stream, SessionClosed(bob.position, "logout")))
    renamed = ProfileChanged(nickname="Bobby", nickname_prepared="bobby", nickname_released="bob's nickname")
    tell(book, at, (bob.stream, renamed), (ada.stream, UserLevelChanged(2)))
    tell(book, at, ("service", AuditRead("users")))
    tell(book, at, ("session", guest(at, "guests:1")))


def random_events(seed: int, book: Book, steps: int) -> None:
    """A life of users, sessions and throttles, made at random, some of it impossible: folds are total."""
    random = Random(seed)  # noqa: S311 - the same life each time
    users: list[int] = []
    sessions: list[tuple[int, int]] = []
    throttles = [f"account:{number}" for number in range(5)]
    at = NOON + timedelta(hours=2)
    for step in range(steps):
        at += timedelta(minutes=random.randint(0, 40))
        user = random.choice(users or [0])
        session, owner = random.choice(sessions or [(0, 0)])
        key = random.choice(throttles)
        name = f"name{random.randint(0, steps)}"
        about_users: list[tuple[str, Event]] = [
            (f"user-{user}", ProfileChanged(nickname=name, nickname_prepared=name, nickname_released=f"name{step}")),
            (f"user-{user}", ProfileChanged(email_removed=True, email_released=f"{name}@example.org")),
            (f"user-{user}", PasswordChanged("another hash")),
            (f"user-{user}", PasswordRehashed("a stronger hash")),
            (f"user-{user}", UserLevelChanged(random.choice((1, 2)))),
            (f"user-{user}", UserDeactivated("a reason")),
            (f"user-{user}", UserReactivated()),
            (f"user-{user}", LoginFailed("wrong_password", user, (ThrottleStep(key, step),))),
            ("session", opened(user, at, (key,) if random.random() < 0.3 else ())),
            ("session", opened(user, at)),
        ]
        about_sessions: list[tuple[str, Event]] = [
            (f"session-{session}", SessionSeen(owner)),
            (f"session-{session}", SessionClosed(owner, "logout")),
            (f"session-{session}", GuestLinked(user)),
        ]
        events: list[tuple[str, Event]] = [
            ("user", registered(name)),
            ("service", LoginFailed("unknown_account", None, (ThrottleStep(key, step, at),))),
            ("service", LoginThrottled(key, at)),
            ("session", guest(at, random.choice((None, "guests:1", "guests:2")))),
            ("service", ThrottlesForgotten((key, random.choice(throttles)))),
            *(about_users if users else []),
            *(about_sessions if sessions else []),
        ]
        for recorded in tell(book, at, *random.sample(events, random.randint(1, 3))):
            if isinstance(recorded.event, UserRegistered):
                users.append(recorded.position)
            if isinstance(recorded.event, SessionOpened):
                sessions.append((recorded.position, recorded.event.user_id))
            if isinstance(recorded.event, GuestCreated):
                sessions.append((recorded.position, recorded.position))
