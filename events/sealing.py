"""Sealing: personal fields under AES-256-GCM with their subject's own key (NIST SP 800-38D; nonces are random).

The associated data is the stream, the position and the field, so that a sealed value can be neither moved to another
place in the book nor passed off as another field; the value carries all three, so that it can be opened wherever a read
model copied it to.
"""

from __future__ import annotations

from base64 import b64encode
from binascii import a2b_base64
from collections.abc import Callable
from os import urandom
from typing import Final, Protocol, TypeVar

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from events.catalogue import PERSONAL_FIELDS, Event, Personal, Sealed, user_of
from events.errors import SealBrokenError, SealError
from events.recorded import Recorded

NONCE_BYTES: Final = 12
KEY_BYTES: Final = 32

E = TypeVar("E", bound=msgspec.Struct)


class KeyFinder(Protocol):
    """Gives the cipher of a subject; SubjectKeyMissingError when there is none."""

    def __call__(self, subject: int, /) -> AESGCM:
        """The subject's cipher."""


def _bound_to(stream: str, position: int, field: str) -> bytes:
    return f"{stream}\x00{position}\x00{field}".encode()


def seal_value(value: str, cipher: AESGCM, subject: int, stream: str, position: int, field: str) -> Sealed:
    """One value, sealed for its place in the book."""
    nonce = urandom(NONCE_BYTES)
    box = nonce + cipher.encrypt(nonce, value.encode("utf-8", "surrogatepass"), _bound_to(stream, position, field))
    return Sealed(subject, stream, position, field, b64encode(box).decode("ascii"))


def open_value(value: Personal, key_of: KeyFinder) -> str:
    """The plain text of a personal value; one that was never sealed is given back as it is.

    Raises SubjectKeyMissingError, or SealBrokenError when the box does not authenticate at that place.
    """
    if isinstance(value, str):
        return value
    try:
        box = a2b_base64(value.box, strict_mode=True)
        opened = key_of(value.subject).decrypt(
            box[:NONCE_BYTES], box[NONCE_BYTES:], _bound_to(value.stream, value.position, value.field)
        )
    except (InvalidTag, ValueError) as error:
        where = f"{value.field} of {value.stream} at position {value.position}"
        raise SealBrokenError(f"The sealed {where} does not authenticate under its subject's key.") from error
    return opened.decode("utf-8", "surrogatepass")


def needs_key(stream: str, event: Event) -> int | None:
    """The subject whose key sealing this event takes, or None when nothing in it is personal."""
    if any(getattr(event, field) is not None for field in PERSONAL_FIELDS[type(event)]):
        return user_of(stream, event)
    return None


def seal(recorded: Recorded, key_of: KeyFinder) -> Recorded:
    """The recorded event with every personal field sealed. Raises SealError where nobody's key could seal it."""
    event = recorded.event
    subject = needs_key(recorded.stream, event)
    if subject is None:
        if any(getattr(event, field) is not None for field in PERSONAL_FIELDS[type(event)]):
            raise SealError(f"A {recorded.type} about nobody holds a personal field; there is no key to seal it under.")
        return recorded
    cipher = key_of(subject)

    def sealed(field: str, value: Personal) -> Personal:
        if isinstance(value, Sealed):
            raise SealError(f"The {field} of a {recorded.type} is sealed already; decisions return plain values.")
        return seal_value(value, cipher, subject, recorded.stream, recorded.position, field)

    return _with_personal(recorded, sealed)


def open_event(recorded: Recorded, key_of: KeyFinder) -> Recorded:
    """The recorded event with every personal field in plain text; errors as `open_value`."""
    return _with_personal(recorded, lambda _field, value: open_value(value, key_of))


def _with_personal(recorded: Recorded, change: Callable[[str, Personal], Personal]) -> Recorded:
    event = recorded.event
    changed = {
        field: change(field, value)
        for field in PERSONAL_FIELDS[type(event)]
        if (value := getattr(event, field)) is not None
    }
    return _replace(recorded, event=_replace(event, **changed)) if changed else recorded


def _replace(struct: E, **changes: object) -> E:
    return msgspec.structs.replace(struct, **changes)
