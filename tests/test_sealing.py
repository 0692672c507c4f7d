"""Sealing: what is personal is readable with its subject's key alone, at its own place in the book alone."""

from __future__ import annotations

import typing
from base64 import b64decode, b64encode
from collections.abc import Callable

import msgspec
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from events.catalogue import EVENT_TYPES, PERSONAL_FIELDS, Event, Personal, ProfileChanged, Sealed, UserReactivated
from events.errors import SealBrokenError, SealError, SubjectKeyMissingError
from events.recorded import Recorded, encode
from events.sealing import needs_key, open_event, open_value, seal, seal_value
from tests.entries import closed, failed, opened, record, registered
from tests.strategies import personal_events

CIPHERS = {subject: AESGCM(bytes([subject]) * 32) for subject in range(1, 10)}


def key_of(subject: int) -> AESGCM:
    try:
        return CIPHERS[subject]
    except KeyError:
        raise SubjectKeyMissingError(subject) from None


def one(stream: str, event: Event) -> Recorded:
    return record([(stream, event)], after=6)[0]


def personal_of(event: Event) -> dict[str, Personal]:
    return {name: value for name in PERSONAL_FIELDS[type(event)] if (value := getattr(event, name)) is not None}


# What is personal.


def test_every_field_that_says_something_of_somebody_is_personal() -> None:
    fields = {name for kind in EVENT_TYPES for name in PERSONAL_FIELDS[kind]}
    assert fields == {
        "username", "username_prepared", "nickname", "nickname_prepared", "nickname_released",
        "email", "email_prepared", "email_released", "password_hash", "address", "agent", "reason",
    }  # fmt: skip
    # A reason is free text in one event, and one of a few words of ours in the others.
    assert [kind.__name__ for kind in EVENT_TYPES if "reason" in PERSONAL_FIELDS[kind]] == ["UserDeactivated"]


def test_no_field_is_plain_text_without_a_reason() -> None:
    plain = {
        f"{msgspec.inspect.type_info(kind).tag}.{field.name}"  # type: ignore[attr-defined]  # of a struct
        for kind in EVENT_TYPES
        for field in msgspec.structs.fields(kind)
        if field.name not in PERSONAL_FIELDS[kind] and _may_be_text(field.type)
    }
    # Digests of random secrets, HMAC tags, and what an admin looked at or asked for: one of our own names.
    assert plain == {
        "session.opened.token_digest", "session.opened.cleared", "login.throttled.key", "throttles.forgotten.keys",
        "audit.read.target", "guest.created.token_digest", "guest.created.origin",
        "projection.rebuild_asked.projection",
    }  # fmt: skip


def _may_be_text(hint: object) -> bool:
    return hint is str or any(map(_may_be_text, typing.get_args(hint)) if not _is_literal(hint) else ())


def _is_literal(hint: object) -> bool:
    return typing.get_origin(hint) is typing.Literal


# Sealing and opening.


@given(personal_events())
def test_what_is_sealed_is_opened_to_what_it_was(recorded: Recorded) -> None:
    sealed = seal(recorded, key_of)
    assert all(isinstance(value, Sealed) for value in personal_of(sealed.event).values())
    assert personal_of(sealed.event).keys() == personal_of(recorded.event).keys()
    assert open_event(sealed, key_of) == recorded
    assert open_event(recorded, key_of) == recorded


@given(st.text(max_size=40))
def test_any_text_is_sealed_and_opened(text: str) -> None:
    sealed = seal_value(text, CIPHERS[1], 1, "user-1", 1, "email")
    assert open_value(sealed, key_of) == text


def test_text_that_is_not_unicode_is_kept_too() -> None:
    sealed = seal_value("\ud800", CIPHERS[1], 1, "user-1", 1, "agent")
    assert open_value(sealed, key_of) == "\ud800"


def test_nothing_that_is_sealed_stands_in_the_entry() -> None:
    user = one("user", registered("alice", email="alice@example.com", address="192.0.2.1", agent="Lynx"))
    data = encode(seal(user, key_of))
    for value in ("alice", "Alice", "example", "192.0", "Lynx", "argon2"):
        assert value.encode() in encode(user)
        assert value.encode() not in data


def test_a_sealed_value_says_what_it_takes_to_open_it() -> None:
    event = seal(one("session", opened(3, address="192.0.2.1")), key_of).event
    address = personal_of(event)["address"]
    assert isinstance(address, Sealed)
    assert (address.subject, address.stream, address.position, address.field) == (3, "session-7", 7, "address")
    assert len(b64decode(address.box)) == 12 + len("192.0.2.1") + 16


def test_the_same_value_is_never_sealed_the_same() -> None:
    boxes = {seal_value("alice", CIPHERS[1], 1, "user-1", 1, "username").box for _ in range(50)}
    assert len({box[:16] for box in boxes}) == 50, "a nonce came twice"


def test_the_box_is_what_is_written_about_it() -> None:
    """NIST SP 800-38D by another hand: nonce, ciphertext and tag; stream, position and field as associated data."""
    box = b64decode(seal_value("alice", CIPHERS[1], 1, "user-1", 17, "username").box)
    assert CIPHERS[1].decrypt(box[:12], box[12:], b"user-1\x0017\x00username") == b"alice"


BROKEN: list[Callable[[Sealed], Sealed]] = [
    lambda value: msgspec.structs.replace(value, stream="user-2"),
    lambda value: msgspec.structs.replace(value, position=8),
    lambda value: msgspec.structs.replace(value, field="nickname"),
    lambda value: msgspec.structs.replace(value, subject=2),
    lambda value: msgspec.structs.replace(value, box=value.box[:-4]),
    lambda value: msgspec.structs.replace(value, box=""),
    lambda value: msgspec.structs.replace(value, box="AAAA"),
    lambda value: msgspec.structs.replace(value, box=b64encode(bytes(40)).decode()),
    lambda value: msgspec.structs.replace(value, box="no base64 at all"),
    lambda value: msgspec.structs.replace(value, box="é" * 40),
    lambda value: msgspec.structs.replace(value, box=value.box[:20] + "\n" + value.box[20:]),
    # What the boundaries between the three could hide.
    lambda value: msgspec.structs.replace(value, stream="user-1\x007", position=0),
]


@pytest.mark.parametrize("breaking", BROKEN)
def test_a_value_that_was_changed_or_moved_is_not_believed(breaking: Callable[[Sealed], Sealed]) -> None:
    value = seal_value("alice@example.com", CIPHERS[1], 1, "user-1", 7, "email")
    with pytest.raises(SealBrokenError, match="does not authenticate") as caught:
        open_value(breaking(value), key_of)
    assert "alice" not in str(caught.value)


@given(st.integers(0, 8 * 45 - 1))
def test_no_bit_of_a_box_can_be_changed(bit: int) -> None:
    value = seal_value("alice@example.com", CIPHERS[1], 1, "user-1", 7, "email")
    box = bytearray(b64decode(value.box))
    assert len(box) == 45
    box[bit // 8] ^= 1 << bit % 8
    with pytest.raises(SealBrokenError):
        open_value(msgspec.structs.replace(value, box=b64encode(box).decode()), key_of)


def test_a_value_whose_key_is_missing_is_told_apart() -> None:
    value = seal_value("alice", CIPHERS[1], 1, "user-1", 7, "email")
    with pytest.raises(SubjectKeyMissingError) as caught:
        open_value(msgspec.structs.replace(value, subject=99), key_of)
    assert caught.value.subject == 99


# Whose key.


@pytest.mark.parametrize(
    ("stream", "event", "subject"),
    [
        ("user", registered(), 7),
        ("session", opened(3, address="192.0.2.1"), 3),
        ("session", opened(3), None),
        ("session-2", closed(3), None),
        ("service", failed(), None),
        ("user-3", failed(user_id=3, agent="Lynx"), 3),
        ("user-3", failed(user_id=3), None),
        ("user-3", ProfileChanged(email="a@b.example"), 3),
        ("user-3", ProfileChanged(email_removed=True), None),
        ("user-3", UserReactivated(), None),
    ],
)
def test_whose_key_seals_it(stream: str, event: Event, subject: int | None) -> None:
    recorded = one(stream, event)
    assert needs_key(recorded.stream, event) == subject
    asked: list[int] = []

    def asking(of: int) -> AESGCM:
        asked.append(of)
        return key_of(of)

    sealed = seal(recorded, asking)
    assert asked == ([] if subject is None else [subject])
    assert (sealed is recorded) == (subject is None)


def test_what_is_about_nobody_is_never_written_in_plain_text() -> None:
    with pytest.raises(SealError, match=r"A login\.failed about nobody holds a personal field") as caught:
        seal(one("service", failed(address="192.0.2.1")), key_of)
    assert "192" not in str(caught.value)


def test_what_is_sealed_is_not_sealed_again() -> None:
    sealed = seal(one("user", registered()), key_of)
    with pytest.raises(SealError, match=r"username of a user\.registered is sealed already"):
        seal(sealed, key_of)


def test_a_subject_without_a_key_is_never_written_in_plain_text() -> None:
    with pytest.raises(SubjectKeyMissingError):
        seal(one("user-99", ProfileChanged(email="a@b.example")), key_of)
