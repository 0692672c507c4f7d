"""Session tokens: made, written, read and compared; of their secret, only the SHA-256 is ever kept."""

import hmac
import re
import secrets
import string
from collections.abc import Callable
from hashlib import sha256
from typing import Any, Final

from msgspec import Struct

__all__ = [
    "SECRET_LENGTH",
    "PresentedToken",
    "digest",
    "format_token",
    "matches",
    "new_secret",
    "parse_token",
    "without_tokens",
]

SECRET_LENGTH: Final = 40
"""Characters of a secret: 238 bits of chance."""

LARGEST_SESSION_ID: Final = 2**63 - 1

_ALPHABET: Final = (string.ascii_uppercase + string.ascii_lowercase + string.digits).encode()
# Every character stands for four byte values; the eight values left over are thrown away, so that none is likelier.
_CHARACTERS: Final = bytes(_ALPHABET[byte % len(_ALPHABET)] for byte in range(256))
_LEFT_OVER: Final = bytes(range(256 - 256 % len(_ALPHABET), 256))

_TOKEN: Final = re.compile(rf"([1-9][0-9]{{0,18}})\|([A-Za-z0-9]{{{SECRET_LENGTH}}})", re.ASCII)

_LIKE_A_TOKEN: Final = re.compile(r"[0-9]+\|[A-Za-z0-9]+", re.ASCII)


class PresentedToken(Struct, frozen=True):
    """A token that somebody presented, well-formed and not yet believed. Its repr hides the secret."""

    session_id: int
    secret: str

    def __repr__(self) -> str:
        return f"PresentedToken(session_id={self.session_id}, secret=<hidden>)"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("session_id", self.session_id), ("secret", "<hidden>")]


def new_secret(random_bytes: Callable[[int], bytes] = secrets.token_bytes) -> str:
    """Return forty characters of `[A-Za-z0-9]`, each equally likely.

    `random_bytes` is the source of chance: given a number, it returns that many unpredictable bytes.
    """
    secret = b""
    while len(secret) < SECRET_LENGTH:
        secret += random_bytes(SECRET_LENGTH + 8).translate(_CHARACTERS, _LEFT_OVER)
    return secret[:SECRET_LENGTH].decode("ascii")


def format_token(session_id: int, secret: str) -> str:
    """Return the token as clients hold it: `<session id>|<secret>`."""
    token = f"{session_id}|{secret}"
    if parse_token(token) is None:
        raise ValueError("A token is a session id from 1 to 2**63 - 1 and a secret of forty letters and digits.")
    return token


def parse_token(text: str) -> PresentedToken | None:
    """Return what the text says, or None when it is no token: longer, not ASCII, a leading zero, anything around it."""
    found = _TOKEN.fullmatch(text)
    if found is None:
        return None
    session_id = int(found[1])
    return None if session_id > LARGEST_SESSION_ID else PresentedToken(session_id, found[2])


def without_tokens(text: str) -> str:
    """Return the text with each session token in it, whole or cut short, replaced: for what repeats what was typed."""
    return _LIKE_A_TOKEN.sub("(a session token)", text)


def digest(secret: str) -> str:
    """Return the SHA-256 of the secret, as 64 hexadecimal digits.

    It covers the forty characters and not the id before them: the digest is recorded in the session's first event, and
    the session's id is that event's position, which is only known once the event is written.
    """
    return sha256(secret.encode("ascii")).hexdigest()


def matches(presented: PresentedToken, recorded_digest: str) -> bool:
    """Tell whether the presented secret is the recorded one, in a time that says nothing about either."""
    return hmac.compare_digest(digest(presented.secret).encode(), recorded_digest.encode())
