"""Hypothesis strategies: any sequence of recorded events at all, and ones that might have happened."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from hypothesis import strategies as st

from events.catalogue import (
    EVENT_TYPES,
    PERSONAL_FIELDS,
    AuditRead,
    Event,
    GuestCreated,
    GuestLinked,
    KeyRotated,
    LoginFailed,
    LoginThrottled,
    NameRefused,
    PasswordChanged,
    PasswordRehashed,
    ProfileChanged,
    ProjectionRebuildAsked,
    Sealed,
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
from tests.entries import START, Told, record

MOST_EVENTS: Final = 30

ids = st.integers(1, 6)
"""Few, so that events meet."""
moments = st.datetimes(datetime(1990, 1, 1), datetime(2090, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - the zone comes from the strategy
texts = st.text(st.characters(codec="utf-8"), max_size=8)
names = st.sampled_from(["alice", "bob", "carol", "zoë"])
throttle_keys = st.sampled_from(["account:1", "account:2", "address:1", "ß"])
digests = st.integers(0, 9).map(lambda digit: f"{digit}" * 64)
boxes = st.builds(Sealed, ids, st.builds("user-{}".format, ids), ids, st.sampled_from(["email", "nickname"]), texts)
personal = names | texts | boxes
maybe = st.none() | personal
levels: st.SearchStrategy[Any] = st.sampled_from([0, 1, 2])
steps = st.builds(ThrottleStep, throttle_keys, st.integers(0, 9), st.none() | moments)

_OF_TYPE: Final[dict[type[Any], st.SearchStrategy[Any]]] = {
    UserRegistered: st.builds(
        UserRegistered,
        personal,
        personal,
        personal,
        personal,
        personal,
        levels,
        maybe,
        maybe,
        maybe,
        maybe,
        st.lists(steps, max_size=2).map(tuple),
    ),
    SessionOpened: st.builds(
        SessionOpened, ids, digests, moments, maybe, maybe, st.lists(throttle_keys, max_size=3).map(tuple)
    ),
    SessionSeen: st.builds(SessionSeen, ids),
    SessionClosed: st.builds(SessionClosed, ids, st.sampled_from(["logout", "expired", "replaced", "revoked"])),
    LoginFailed: st.builds(
        LoginFailed,
        st.sampled_from(["unknown_account", "wrong_password", "deactivated"]),
        st.none() | ids,
        st.lists(steps, max_size=3).map(tuple),
        maybe,
        maybe,
    ),
    LoginThrottled: st.builds(LoginThrottled, throttle_keys, moments),
    NameRefused: st.builds(NameRefused, st.lists(steps, max_size=3).map(tuple)),
    ThrottlesForgotten: st.builds(ThrottlesForgotten, st.lists(throttle_keys, max_size=3).map(tuple)),
    ProfileChanged: st.builds(ProfileChanged, maybe, maybe, maybe, maybe, maybe, maybe, st.booleans()),
    PasswordChanged: st.builds(PasswordChanged, personal),
    PasswordRehashed: st.builds(PasswordRehashed, personal),
    UserLevelChanged: st.builds(UserLevelChanged, levels),
    UserDeactivated: st.builds(UserDeactivated, maybe),
    UserReactivated: st.just(UserReactivated()),
    AuditRead: st.builds(AuditRead, texts),
    GuestCreated: st.builds(GuestCreated, digests, moments, st.none() | st.sampled_from(["guests:1", "guests:2", ""])),
    GuestLinked: st.builds(GuestLinked, ids),
    ProjectionRebuildAsked: st.builds(ProjectionRebuildAsked, texts),
    KeyRotated: st.builds(KeyRotated, st.just("access_tokens"), st.booleans()),
}


def events() -> st.SearchStrategy[Event]:
    """Any event of any type of the catalogue; a type without a strategy is a KeyError."""
    return st.one_of([_OF_TYPE[kind] for kind in EVENT_TYPES])


streams = st.one_of(
    st.builds("user-{}".format, ids),
    st.builds("session-{}".format, ids),
    # New ones, named after the event's own position.
    st.sampled_from(["user", "session"]),
    # Ones that no writer of ours names.
    st.sampled_from(
        ["service", "", "user-", "session-", "user-x", "session-007", "session-0", f"user-{10**18}", "x-1"]
    ),
)


@st.composite
def recorded_events(draw: st.DrawFn) -> list[Recorded]:
    """Any events in any streams, numbered without gaps, as no writer would ever decide them."""
    told: list[Told] = draw(st.lists(st.tuples(streams, events()), max_size=MOST_EVENTS))
    at = draw(st.just(START) | moments)
    step = draw(st.sampled_from([timedelta(0), timedelta(microseconds=1), timedelta(minutes=25), timedelta(days=1)]))
    return record(told, at=at, step=step)


def _plain(event: Event) -> bool:
    return not any(isinstance(getattr(event, name), Sealed) for name in PERSONAL_FIELDS[type(event)])


@st.composite
def personal_events(draw: st.DrawFn) -> Recorded:
    """One event in plain text, in the stream of a user."""
    event = draw(events().filter(_plain))
    return record([(draw(st.builds("user-{}".format, ids)), event)], after=draw(ids))[0]
