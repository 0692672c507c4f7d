"""Entries: their canonical bytes, their limit, what upcasting makes of retired ones, and what cannot be decoded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from events import merkle, upcasting
from events.catalogue import (
    EVENT_TYPES,
    GuestLinked,
    PasswordChanged,
    Sealed,
    SessionClosed,
    UserReactivated,
    user_of,
    wire_name,
)
from events.errors import EntryTooLargeError, UndecodableEntryError
from events.recorded import (
    MAX_ENTRY_BYTES,
    Recorded,
    decode,
    encode,
    from_microseconds,
    searchable,
    to_microseconds,
)
from tests.entries import START, closed, failed, guest, opened, record, registered
from tests.strategies import recorded_events

ONE = Recorded(7, "user-1", 2, START, "user-1", "test", "ab" * 16, UserReactivated())
BYTES = (
    b'{"position":7,"stream":"user-1","version":2,"at":"2026-11-21T12:00:00Z","actor":"user-1","door":"test",'
    b'"command_id":"abababababababababababababababab","event":{"type":"user.reactivated"}}'
)


def test_an_entry_is_one_json_object_in_the_order_of_the_envelope() -> None:
    assert encode(ONE) == BYTES
    assert decode(BYTES, 7) == ONE


def test_what_is_absent_is_not_written() -> None:
    [session] = record([("session", opened())])
    event = json.loads(encode(session))["event"]
    assert event == {
        "type": "session.opened",
        "user_id": 1,
        "token_digest": "5c" * 32,
        "expires_at": "2026-11-22T12:00:00Z",
    }


def test_text_beyond_ascii_is_written_as_itself() -> None:
    [user] = record([("user", registered("zoë☃"))])
    assert "zoë☃".encode() in encode(user)
    assert decode(encode(user), 1) == user


def test_a_moment_keeps_its_microseconds() -> None:
    precise = msgspec.structs.replace(ONE, at=START + timedelta(microseconds=1))
    assert b'"at":"2026-11-21T12:00:00.000001Z"' in encode(precise)
    assert decode(encode(precise), 7).at == precise.at


@given(recorded_events())
def test_every_entry_is_decoded_to_what_it_was_and_encoded_to_the_same_bytes(told: list[Recorded]) -> None:
    for recorded in told:
        data = encode(recorded)
        assert decode(data, recorded.position) == recorded
        assert encode(decode(data, recorded.position)) == data


def test_an_entry_may_have_65_535_bytes_and_no_more() -> None:
    def of(length: int) -> Recorded:
        return msgspec.structs.replace(ONE, door="x" * length)

    room = MAX_ENTRY_BYTES - len(BYTES) + len("test")
    assert MAX_ENTRY_BYTES == 65_535
    assert len(encode(of(room))) == 65_535
    with pytest.raises(EntryTooLargeError, match="65536 bytes exceeds the 65535"):
        encode(of(room + 1))
    # The bound is on bytes, not on characters.
    with pytest.raises(EntryTooLargeError):
        encode(msgspec.structs.replace(ONE, door="ë" * (room // 2 + 1)))


@given(st.datetimes(timezones=st.just(UTC)))
def test_a_moment_in_microseconds_is_exact(moment: datetime) -> None:
    assert from_microseconds(to_microseconds(moment)) == moment


def test_microseconds_count_from_1970_in_utc_whatever_the_zone() -> None:
    assert to_microseconds(datetime(1970, 1, 1, tzinfo=UTC)) == 0
    assert to_microseconds(datetime(1970, 1, 1, 1, tzinfo=timezone(timedelta(hours=1)))) == 0
    assert to_microseconds(datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC)) == -1_000_000


def test_the_searchable_columns_say_what_the_entry_says() -> None:
    data = encode(ONE)
    entry = searchable(ONE, data, merkle.leaf_hash(data))
    assert msgspec.structs.asdict(entry) == {
        "position": 7,
        "stream": "user-1",
        "version": 2,
        "at": 1_795_262_400_000_000,
        "type": "user.reactivated",
        "user_id": 1,
        "command_id": "ab" * 16,
        "data": data,
        "leaf": merkle.leaf_hash(data),
    }


@pytest.mark.parametrize(
    ("stream", "event", "user"),
    [
        ("user-17", UserReactivated(), 17),
        ("session-9", closed(17), 17),
        ("user-17", failed(user_id=18), 18),
        ("service", failed(), None),
        ("session-9", UserReactivated(), None),
        ("session-9", guest(), 9),
        ("session-x", guest(), None),
        ("user-9", guest(), None),
        ("session-9", GuestLinked(17), 17),
        # What the writer never wrote is about nobody, and fells no fold.
        ("user-", UserReactivated(), None),
        ("user-x", UserReactivated(), None),
        ("user-017", UserReactivated(), None),
        ("user-0", UserReactivated(), None),
        ("user--1", UserReactivated(), None),
        ("user- 1", UserReactivated(), None),
        ("user-1_0", UserReactivated(), None),
        ("user-٣", UserReactivated(), None),
        ("user-²", UserReactivated(), None),
        ("user-999999999999999999", UserReactivated(), 10**18 - 1),
        ("user-1000000000000000000", UserReactivated(), None),
        ("users-1", UserReactivated(), None),
        ("", UserReactivated(), None),
    ],
)
def test_whom_an_event_is_about(stream: str, event: Any, user: int | None) -> None:
    assert user_of(stream, event) == user


def test_every_wire_name_is_one_words_of_which_never_change() -> None:
    names = [wire_name(kind) for kind in EVENT_TYPES]
    assert len(set(names)) == len(names)
    assert names == [
        "user.registered",
        "session.opened",
        "session.seen",
        "session.closed",
        "login.failed",
        "login.throttled",
        "throttles.forgotten",
        "profile.changed",
        "password.changed",
        "password.rehashed",
        "user.level_changed",
        "user.deactivated",
        "user.reactivated",
        "audit.read",
        "guest.created",
        "guest.linked",
        "projection.rebuild_asked",
        "key.rotated",
        "name.refused",
    ]


# What cannot be decoded.

EVENT = b'{"type":"user.reactivated"}'


def with_event(event: bytes) -> bytes:
    return BYTES.replace(EVENT, event)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"7",
        b"\xff\xfe",
        BYTES[:-1],
        BYTES + b"x",
        BYTES + BYTES,
        b"[" * 100_000,
        BYTES.replace(b'"door":"test",', b""),
        BYTES.replace(b'"position":7', b'"position":8'),
        BYTES.replace(b'"position":7', b'"position":"7"'),
        BYTES.replace(b'"position":7', b'"position":7.5'),
        BYTES.replace(b'"test"', b"5"),
        BYTES.replace(b'"test"', b'"\xff"'),
        BYTES.replace(b'"test"', b'"\xed\xa0\x80"'),
        BYTES.replace(b'"test"', b'"\\ud800"'),
        BYTES.replace(b"2026-11-21T12:00:00Z", b"yesterday"),
        BYTES.replace(b"2026-11-21T12:00:00Z", b"2026-11-21T12:00:00"),
        with_event(b"null"),
        with_event(b"[]"),
        with_event(b"5"),
        with_event(b'"user.reactivated"'),
        with_event(b'[["type","user.reactivated"]]'),
        with_event(b"{}"),
        with_event(b'{"type":null}'),
        with_event(b'{"type":["user.reactivated"]}'),
        with_event(b'{"type":"user.exalted"}'),
        with_event(b'{"type":"session.closed","user_id":1}'),
        with_event(b'{"type":"session.closed","user_id":1,"reason":"boredom"}'),
        with_event(b'{"type":"login.throttled","key":"k","until":"2026-11-21T12:00:00"}'),
        with_event(b'{"type":"user.level_changed","level":3}'),
        with_event(b'{"type":"password.changed","password_hash":{"subject":1}}'),
    ],
)
def test_what_is_no_entry_is_named_by_its_position(data: bytes) -> None:
    with pytest.raises(UndecodableEntryError, match=r"^The entry at position 7 cannot be decoded: .") as caught:
        decode(data, 7)
    assert caught.value.position == 7


@given(st.binary(max_size=40), st.integers(0, len(BYTES)))
def test_any_bytes_are_an_entry_or_named_by_their_position(junk: bytes, at: int) -> None:
    try:
        recorded = decode(BYTES[:at] + junk + BYTES[at:], 7)
    except UndecodableEntryError as error:
        assert error.position == 7  # noqa: PT017 - either outcome is right
    else:
        assert recorded.position == 7


def test_an_entry_found_elsewhere_than_it_says_is_not_believed() -> None:
    with pytest.raises(UndecodableEntryError, match=r"position 9 cannot be decoded: it says .* position 7"):
        decode(BYTES, 9)


# Upcasting, with a catalogue that has retired `guest.left` for `guest.gone`, and that for `session.closed`.


def gone(event: dict[str, Any]) -> dict[str, Any]:
    return {"type": "guest.gone", "who": int(event["guest"])}


def gone_is_closed(event: dict[str, Any]) -> dict[str, Any]:
    return {"type": "session.closed", "user_id": event["who"], "reason": "logout"}


RETIRED: Mapping[str, upcasting.Upcaster] = {"guest.left": gone, "guest.gone": gone_is_closed}


@pytest.fixture
def retired(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("events.upcasting.UPCASTERS", RETIRED)
    monkeypatch.setattr(upcasting.upcast, "__defaults__", (RETIRED,))


@pytest.mark.usefixtures("retired")
@pytest.mark.parametrize("event", [b'{"type":"guest.left","guest":"3"}', b'{"type":"guest.gone","who":3}'])
def test_a_retired_shape_is_raised_step_by_step(event: bytes) -> None:
    assert decode(with_event(event), 7) == msgspec.structs.replace(ONE, event=SessionClosed(3, "logout"))


@pytest.mark.usefixtures("retired")
def test_the_present_shapes_are_left_alone() -> None:
    assert decode(BYTES, 7) == ONE


@pytest.mark.usefixtures("retired")
@pytest.mark.parametrize(
    "event",
    [
        b'{"type":"guest.left"}',
        b'{"type":"guest.left","guest":"three"}',
        b'{"type":"guest.left","guest":null}',
        b'{"type":"guest.gone","who":"3"}',
        b'{"type":"guest.arrived"}',
    ],
)
def test_a_retired_shape_that_cannot_be_raised_is_named_by_its_position(event: bytes) -> None:
    with pytest.raises(UndecodableEntryError, match="position 7"):
        decode(with_event(event), 7)


def test_upcasting_leaves_its_input_as_it_was() -> None:
    event = {"type": "guest.left", "guest": "3"}
    assert upcasting.upcast(event, RETIRED) == {"type": "session.closed", "user_id": 3, "reason": "logout"}
    assert event == {"type": "guest.left", "guest": "3"}
    assert upcasting.upcast({"type": "session.seen"}, RETIRED) is None
    assert upcasting.upcast({}, RETIRED) is None


def test_upcasters_that_lead_round_in_a_circle_end() -> None:
    circle: Mapping[str, upcasting.Upcaster] = {
        "a": lambda event: {**event, "type": "b"},
        "b": lambda event: {**event, "type": "a"},
    }
    with pytest.raises(ValueError, match="circle"):
        upcasting.upcast({"type": "a"}, circle)


def test_no_released_wire_name_is_both_present_and_retired() -> None:
    assert not set(upcasting.UPCASTERS) & {wire_name(kind) for kind in EVENT_TYPES}


def test_a_sealed_value_is_decoded_as_such() -> None:
    box = Sealed(1, "user-1", 7, "password_hash", "AA==")
    data = with_event(b'{"type":"password.changed","password_hash":' + msgspec.json.encode(box) + b"}")
    assert decode(data, 7).event == PasswordChanged(box)
