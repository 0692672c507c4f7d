"""The folds: what each event makes of each document, in order, over any sequence of events at all."""

from __future__ import annotations

import hmac
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.catalogue import (
    EVENT_TYPES,
    AuditRead,
    Event,
    LoginFailed,
    LoginThrottled,
    PasswordChanged,
    PasswordRehashed,
    ProfileChanged,
    Sealed,
    SessionClosed,
    SessionSeen,
    ThrottlesForgotten,
    ThrottleStep,
    UserDeactivated,
    UserLevelChanged,
    UserReactivated,
    is_position,
)
from events.errors import FoldError
from events.recorded import Recorded
from projections import digest
from projections.activity import Activity
from projections.catalogue import ACTIVITY, SESSIONS, THROTTLES, USERS, all_projections
from projections.names import Name, Names, Tagger
from projections.projection import AnyProjection, encode_document
from projections.replay import Replay
from projections.sessions import Session
from projections.throttles import Throttle
from projections.users import User
from tests.entries import START, Told, closed, failed, opened, record, registered
from tests.strategies import recorded_events

TAG = Tagger(b"a key of the test's")
NAMES = Names(TAG)
ALL = all_projections(TAG)
MINUTE = timedelta(minutes=1)


def folded(projection: AnyProjection, *told: Told) -> dict[str, Any]:
    """The documents after these events, a minute apart."""
    replay = Replay([projection], lambda recorded: recorded)
    replay.fold(record(told, step=MINUTE))
    return replay.documents[projection.name]


def at(position: int) -> datetime:
    return START + (position - 1) * MINUTE


# Users.

ALICE = User(
    id=1,
    username="alice",
    nickname="Alice",
    nickname_prepared="alice",
    password_hash="$argon2id$…",
    password_version=1,
    profile_version=1,
    level=1,
    created_at=START,
    last_contact=START,
)


def test_a_registration_makes_an_account() -> None:
    assert folded(USERS, ("user", registered())) == {"1": ALICE}
    sealed = Sealed(1, "user-1", 1, "email", "AA==")
    documents = folded(USERS, ("user", registered(email=sealed, email_prepared=sealed, level=2, agent="not kept")))
    assert documents == {"1": msgspec.structs.replace(ALICE, email=sealed, email_prepared=sealed, level=2)}


@pytest.mark.parametrize(
    ("stream", "event", "changes"),
    [
        ("session", opened(1), {"last_contact": at(2), "open_sessions": 1}),
        ("session", opened(2), {}),
        ("session-9", SessionSeen(1), {"last_contact": at(2)}),
        ("session-9", closed(1), {}),
        ("user-1", failed(user_id=1, reason="wrong_password"), {}),
        ("user-1", PasswordChanged("new"), {"password_hash": "new", "password_version": 2}),
        ("user-1", PasswordRehashed("new"), {"password_hash": "new"}),
        ("user-1", UserLevelChanged(2), {"level": 2}),
        ("user-1", UserDeactivated("why"), {"active": False}),
        ("user-1", UserReactivated(), {}),
        ("user-1", ProfileChanged(), {"profile_version": 2}),
        (
            "user-1",
            ProfileChanged(nickname="Al", nickname_prepared="al", nickname_released="alice"),
            {"profile_version": 2, "nickname": "Al", "nickname_prepared": "al"},
        ),
        (
            "user-1",
            ProfileChanged(email="A@b.example", email_prepared="a@b.example"),
            {"profile_version": 2, "email": "A@b.example", "email_prepared": "a@b.example"},
        ),
        ("user-1", ProfileChanged(email_removed=True), {"profile_version": 2}),
        ("user-2", UserDeactivated(), {}),
        ("service", AuditRead("users/1"), {}),
    ],
)
def test_what_an_event_makes_of_an_account(stream: str, event: Event, changes: dict[str, Any]) -> None:
    documents = folded(USERS, ("user", registered()), (stream, event))
    assert documents == {"1": msgspec.structs.replace(ALICE, **changes)}


def test_what_was_changed_is_changed_back() -> None:
    [user] = folded(
        USERS,
        ("user", registered(email="a@b.example", email_prepared="a@b.example")),
        ("user-1", UserDeactivated()),
        ("user-1", UserReactivated()),
        ("session", opened(1)),
        ("session", opened(1)),
        ("session-4", closed(1)),
        ("user-1", ProfileChanged(email_removed=True, email_released="a@b.example")),
    ).values()
    assert user == msgspec.structs.replace(ALICE, open_sessions=1, last_contact=at(5), profile_version=7)


def test_no_account_has_less_than_no_session() -> None:
    [user] = folded(USERS, ("user", registered()), ("session-9", closed(1)), ("session", opened(1))).values()
    assert user.open_sessions == 1


def test_what_is_about_no_account_makes_none() -> None:
    told: list[Told] = [("session", opened(7)), ("user-7", UserReactivated()), ("session", registered())]
    for stream, event in told:
        assert folded(USERS, (stream, event)) == {}


# Sessions.


def test_the_life_of_a_session() -> None:
    told: list[Told] = [
        ("session", opened(4, address="192.0.2.1", agent="Lynx", cleared=("account:1",))),
        ("session", opened(4)),
        ("session-1", SessionSeen(4)),
        ("session-2", closed(4)),
    ]
    first = Session(1, 4, "5c" * 32, START, START, START + timedelta(days=1), "test", "192.0.2.1", "Lynx")
    second = Session(2, 4, "5c" * 32, at(2), at(2), START + timedelta(days=1), "test")
    assert folded(SESSIONS, *told[:2]) == {"1": first, "2": second}
    assert folded(SESSIONS, *told[:3]) == {"1": msgspec.structs.replace(first, seen_at=at(3)), "2": second}
    assert folded(SESSIONS, *told) == {"1": msgspec.structs.replace(first, seen_at=at(3))}


@pytest.mark.parametrize("event", [SessionSeen(4), SessionClosed(4, "expired")])
def test_what_is_about_no_open_session_makes_none(event: Event) -> None:
    assert folded(SESSIONS, ("session-9", event)) == {}
    assert folded(SESSIONS, ("session", opened(4)), ("session-1", closed(4)), ("session-1", event)) == {}


# Throttles.

UNTIL = START + timedelta(hours=1)


def step(key: str, failures: int, until: datetime | None = None) -> ThrottleStep:
    return ThrottleStep(key, failures, until)


def failure(*steps: ThrottleStep) -> LoginFailed:
    return failed(throttles=steps)


A, B = step("a", 1), step("b", 1)


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ([failure()], {}),
        ([failure(A)], {"a": Throttle(1, START)}),
        ([failure(A, step("b", 5, UNTIL))], {"a": Throttle(1, START), "b": Throttle(5, START, UNTIL)}),
        ([failure(A), failure(step("a", 2, UNTIL))], {"a": Throttle(2, at(2), UNTIL)}),
        ([failure(A, step("a", 2))], {"a": Throttle(2, START)}),
        ([failure(step("a", 2, UNTIL)), LoginThrottled("a", UNTIL)], {"a": Throttle(2, START, UNTIL, UNTIL)}),
        (
            [failure(step("a", 2, UNTIL)), LoginThrottled("a", UNTIL), failure(step("a", 3))],
            {"a": Throttle(3, at(3), None, UNTIL)},
        ),
        ([LoginThrottled("a", UNTIL)], {}),
        ([failure(A, B), opened(cleared=("a", "c", "a"))], {"b": Throttle(1, START)}),
        ([failure(A), opened()], {"a": Throttle(1, START)}),
        ([failure(A, B), ThrottlesForgotten(("b", "b"))], {"a": Throttle(1, START)}),
        ([failure(A), ThrottlesForgotten(("a",)), failure(A)], {"a": Throttle(1, at(3))}),
    ],
)
def test_what_events_make_of_throttles(told: list[Event], expected: dict[str, Throttle]) -> None:
    assert folded(THROTTLES, *(("service", event) for event in told)) == expected


# Activity.


def test_every_hour_has_its_counts() -> None:
    told: list[Told] = [
        ("user", registered()),
        ("session", opened(1)),
        ("session", opened(1)),
        ("user-1", failed()),
        ("service", failed()),
        ("service", LoginThrottled("a", UNTIL)),
        ("session-2", closed(1)),
        ("session-2", SessionSeen(1)),
        ("user-1", UserReactivated()),
    ]
    assert folded(ACTIVITY, *told) == {"2026-11-21T12": Activity("2026-11-21T12", 1, 2, 2, 1, 1)}


@pytest.mark.parametrize(
    ("moment", "hour"),
    [
        (datetime(2026, 1, 2, 3, 59, 59, 999_999, tzinfo=UTC), "2026-01-02T03"),
        (datetime(2026, 1, 2, 4, tzinfo=UTC), "2026-01-02T04"),
        (datetime(2025, 12, 31, 23, 59, tzinfo=UTC), "2025-12-31T23"),
        (datetime(987, 6, 5, tzinfo=UTC), "0987-06-05T00"),
    ],
)
def test_the_hour_is_the_one_it_was_recorded_in(moment: datetime, hour: str) -> None:
    [recorded] = record([("service", failed())], at=moment)
    assert ACTIVITY.keys(recorded) == (hour,)


# Names.


def tags(*names: tuple[str, str]) -> set[str]:
    return {TAG(kind, prepared) for kind, prepared in names}  # type: ignore[arg-type]  # kinds are literals below


def test_a_registration_takes_its_names() -> None:
    documents = folded(
        NAMES,
        ("user", registered("Alice")),
        ("user", registered("bob", email="B@b.example", email_prepared="b@b.example")),
    )
    assert documents == {
        TAG("username", "alice"): Name("username", 1),
        TAG("nickname", "alice"): Name("nickname", 1),
        TAG("username", "bob"): Name("username", 2),
        TAG("nickname", "bob"): Name("nickname", 2),
        TAG("email", "b@b.example"): Name("email", 2),
    }


def test_a_change_takes_and_frees_names() -> None:
    documents = folded(
        NAMES,
        ("user", registered("alice", email="a@b.example", email_prepared="a@b.example")),
        ("user-1", ProfileChanged(nickname="Al", nickname_prepared="al", nickname_released="alice")),
        ("user-1", ProfileChanged(email_removed=True, email_released="a@b.example")),
        ("user", registered("bob", nickname_prepared="alice")),
    )
    assert documents.keys() == tags(
        ("username", "alice"), ("nickname", "al"), ("username", "bob"), ("nickname", "alice")
    )
    assert documents[TAG("nickname", "alice")].user_id == 4


def test_a_name_that_is_both_freed_and_taken_stays_taken() -> None:
    documents = folded(
        NAMES,
        ("user", registered("alice")),
        ("user-1", ProfileChanged(nickname="ALICE", nickname_prepared="alice", nickname_released="alice")),
    )
    assert documents[TAG("nickname", "alice")] == Name("nickname", 1)


def test_only_the_holder_frees_a_name() -> None:
    documents = folded(
        NAMES,
        ("user", registered("alice")),
        ("user", registered("bob")),
        ("user-2", ProfileChanged(nickname="b", nickname_prepared="b", nickname_released="alice")),
        ("service", ProfileChanged(nickname_released="alice")),
    )
    assert documents[TAG("nickname", "alice")] == Name("nickname", 1)


def test_a_name_that_cannot_be_opened_is_nobodys() -> None:
    sealed = Sealed(1, "user-1", 1, "username_prepared", "AA==")
    documents = folded(NAMES, ("user", registered("alice", username_prepared=sealed)))
    assert documents.keys() == tags(("nickname", "alice"))


def test_a_tag_tells_nothing_but_sameness() -> None:
    assert TAG("username", "alice") == Tagger(b"a key of the test's")("username", "alice")
    assert (
        len({TAG("username", "alice"), TAG("nickname", "alice"), TAG("email", "alice"), Tagger(b"x")("email", "alice")})
        == 4
    )
    kind, _, digits = TAG("username", "alice").partition(":")
    assert kind == "username"
    # RFC 2104, over the kind too: the same address as a nickname has another tag.
    assert bytes.fromhex(digits) == hmac.digest(b"a key of the test's", b"username:alice", "sha256")
    assert repr(TAG) == "Tagger(…)"
    TAG("username", "\ud800")


# What holds of all of them.


def test_the_projections_have_names_and_revisions_of_their_own() -> None:
    assert [projection.name for projection in ALL] == ["users", "names", "sessions", "throttles", "activity"]
    assert [projection.name for projection in ALL if projection.opened] == ["names"]
    for projection in ALL:
        assert projection.revision >= 1
        assert projection.handles <= set(EVENT_TYPES)
        names = [index.name for index in projection.indexes]
        assert len(set(names)) == len(names)


@given(recorded_events())
def test_every_fold_is_total_over_any_events(told: list[Recorded]) -> None:
    replay = Replay(ALL, lambda recorded: recorded)
    replay.fold(told)
    for projection in ALL:
        for key, doc in replay.documents[projection.name].items():
            assert key
            assert "\0" not in key
            assert msgspec.json.decode(encode_document(doc), type=projection.document) == doc
            if projection.keyed_by_position:
                assert key == str(doc.id)
                assert is_position(key)
            for index in projection.indexes:
                assert isinstance(index.value(doc), int | str | None)


@given(recorded_events(), st.data())
def test_a_fold_keeps_to_its_keys(told: list[Recorded], data: st.DataObject) -> None:
    """A document is what the events with its key make of it, and no other event."""
    for projection in ALL:
        whole = Replay([projection], lambda recorded: recorded)
        whole.fold(told)
        keys = sorted({key for one in told if type(one.event) in projection.handles for key in projection.keys(one)})
        if not keys:
            continue
        key = data.draw(st.sampled_from(keys))
        doc = None
        for one in told:
            if type(one.event) in projection.handles and key in projection.keys(one):
                doc = projection.evolve(key, doc, one)
        assert whole.documents[projection.name].get(key) == doc


def test_a_fold_that_fails_is_named_with_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(key: str, doc: object, recorded: Recorded) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(type(SESSIONS), "evolve", staticmethod(failing))
    replay = Replay(ALL, lambda recorded: recorded)
    with pytest.raises(FoldError, match="sessions failed on position 2: ZeroDivisionError") as caught:
        replay.fold(record([("user", registered()), ("session", opened(1)), ("session-2", closed(1))]))
    assert (caught.value.projection, caught.value.position) == ("sessions", 2)
    assert replay.position == 1


# The digest.


@given(st.dictionaries(st.text(max_size=3), st.binary(max_size=3)), st.randoms(use_true_random=False))
def test_the_digest_is_of_all_documents_in_any_order(documents: dict[str, bytes], chance: Any) -> None:
    rows = list(documents.items())
    whole = digest.of_documents(rows)
    chance.shuffle(rows)
    kept = digest.EMPTY
    for key, document in rows:
        kept = digest.moved(kept, key, None, b"something else")
        kept = digest.moved(kept, key, b"something else", document)
    assert kept == digest.of_documents(rows) == whole
    for key, document in rows:
        kept = digest.moved(kept, key, document, None)
    assert kept == digest.EMPTY


def test_the_digest_tells_documents_apart() -> None:
    digests = [
        digest.of_documents(rows)
        for rows in (
            [],
            [("a", b"b")],
            [("a", b"c")],
            [("ab", b"")],
            [("b", b"b")],
            [("a", b"b"), ("b", b"b")],
            [("", b"")],
        )
    ]
    assert len(set(digests)) == len(digests)
    assert digest.of_documents([("a", b"b"), ("a", b"b")]) != digest.EMPTY


@given(st.integers(0, (1 << 256) - 1))
def test_the_digest_is_64_hex_digits(number: int) -> None:
    assert len(digest.to_text(number)) == 64
    assert digest.from_text(digest.to_text(number)) == number
