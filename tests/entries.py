"""Recorded events and entries for tests, numbered as the writer numbers them: `append(log, ("user", registered()))`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from events import merkle
from events.catalogue import Event, GuestCreated, LoginFailed, SessionClosed, SessionOpened, UserRegistered
from events.log import EventLog
from events.recorded import Entry, Recorded, encode, from_microseconds, searchable

START = datetime(2026, 11, 21, 12, tzinfo=UTC)
OPEN_ENDED = {"user", "session"}
DIGEST = "5c" * 32

Told = tuple[str, Event]
"""A stream and an event; the streams `user` and `session` stand for a new one, named after the event's position."""


def registered(username: str = "alice", **changes: Any) -> UserRegistered:
    """A registration, in plain text."""
    said: dict[str, Any] = {
        "username": username,
        "username_prepared": username.lower(),
        "nickname": username.title(),
        "nickname_prepared": username.lower(),
        "password_hash": "$argon2id$…",
        "level": 1,
    }
    return UserRegistered(**said | changes)


def opened(user_id: int = 1, **changes: Any) -> SessionOpened:
    """A login."""
    return SessionOpened(
        **{"user_id": user_id, "token_digest": DIGEST, "expires_at": START + timedelta(days=1), **changes}
    )


def guest(**changes: Any) -> GuestCreated:
    """A guest."""
    return GuestCreated(**{"token_digest": DIGEST, "expires_at": START + timedelta(days=1), **changes})


def closed(user_id: int = 1) -> SessionClosed:
    """A logout."""
    return SessionClosed(user_id, "logout")


def failed(**changes: Any) -> LoginFailed:
    """A login that nobody's account was meant by."""
    return LoginFailed(**{"reason": "unknown_account", **changes})


def record(
    told: Iterable[Told],
    *,
    after: int = 0,
    versions: Mapping[str, int] | None = None,
    at: datetime = START,
    step: timedelta = timedelta(seconds=1),
) -> list[Recorded]:
    """The events as they would stand in the book after position `after`, one `step` apart."""
    counts = defaultdict(int, versions or {})
    found: list[Recorded] = []
    for position, (named, event) in enumerate(told, after + 1):
        stream = f"{named}-{position}" if named in OPEN_ENDED else named
        counts[stream] += 1
        moment = at + step * (position - after - 1)
        found.append(Recorded(position, stream, counts[stream], moment, "tester", "test", f"{position:032x}", event))
    return found


def entry_of(recorded: Recorded) -> Entry:
    """The entry of a recorded event, as the writer makes it."""
    data = encode(recorded)
    return searchable(recorded, data, merkle.leaf_hash(data))


def append(log: EventLog, *told: Told, at: datetime | None = None, step: timedelta = timedelta(0)) -> list[Recorded]:
    """Appends the events in one transaction, at `at` or at the moment of the head."""
    told_streams = {stream for stream, _ in told}
    with log.transaction() as transaction:
        head = transaction.head
        moment = at or (from_microseconds(head.at) if head.position else START)
        found = record(told, after=head.position, versions=transaction.versions(told_streams), at=moment, step=step)
        transaction.append([entry_of(one) for one in found])
    return found
