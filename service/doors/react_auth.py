"""The HTTP half of react-auth: a body in, a form or JSON, and a request out; an outcome in, an answer's body out.

The contract as it is served, with what we decided where it is silent, is docs/react-auth.md; the socket half is
`service.doors.react_auth_socket`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from msgspec import UNSET, Struct, UnsetType, json

from service.doors.forms import fields_of
from service.doors.route_protocol import Account
from service.errors import REACT_AUTH_STATUS, Malformed, Refused
from service.fields import Identifier, Secret, Token

__all__ = [
    "DOOR",
    "Account",
    "Authenticate",
    "Authenticated",
    "Call",
    "NotAuthenticated",
    "Resume",
    "fault",
    "opened",
    "read",
    "refused",
]

DOOR: Final = "react-auth"
"""The door's name in the book and in the metrics, for both halves."""


AUTHENTICATE: Final = "fantaptik/react-auth/authenticate"
RESUME: Final = "fantaptik/react-auth/resume"


class Authenticate(Struct, frozen=True, tag=AUTHENTICATE):
    """Log in. `username` may be any identifier; what is not given is empty, as clients leave out what they lack."""

    username: Identifier = ""
    password: Secret = ""

    def __repr__(self) -> str:
        return "Authenticate(…)"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return []


class Resume(Struct, frozen=True, tag=RESUME):
    """Go on with the session that the cookie names."""


Call = Authenticate | Resume


class Authenticated(Struct, frozen=True):
    """The answer that somebody is authenticated: the session's token, and whose it is."""

    success: Literal[True]
    session: Token
    user: Account

    def __repr__(self) -> str:
        return f"Authenticated(user={self.user.id})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("user", self.user.id)]


class Nobody(Struct, frozen=True):
    """The user of an answer that has none: an object all the same."""


class NotAuthenticated(Struct, frozen=True):
    """The answer that nobody is authenticated, its keys those of the contract; `message` is ours."""

    success: Literal[False]
    session: Literal[""]
    user: Nobody
    message: str | UnsetType = UNSET


def read(content_types: Sequence[str], body: bytes) -> Call:
    """What a body asks for; `content_types` are the request's Content-Type headers, of which there must be one.

    Fields that the message does not have are passed over. Raises UnsupportedMedia, or Malformed, whose sentence repeats
    nothing of the body.
    """
    fields = fields_of(content_types, body)
    what = fields.get("type")
    if what == AUTHENTICATE:
        return Authenticate(_text(fields, "username"), _text(fields, "password"))
    if what == RESUME:
        return Resume()
    raise Malformed("`type` is missing, or none that this address knows.")


def opened(session: str, user: Account) -> bytes:
    """The answer that somebody is authenticated: the session's token, and whose it is."""
    return _encode(Authenticated(success=True, session=session, user=user))


def refused(refusal: Refused) -> tuple[int, bytes]:
    """The status and the body of a refusal.

    Where the contract has an answer for it, nobody is authenticated, and why is nobody's business. Everything else has
    the reason as a sentence beside what the contract shows.
    """
    status = REACT_AUTH_STATUS[type(refusal)]
    return status, _NOT_AUTHENTICATED if status == OK else fault(refusal.message)


def fault(message: str) -> bytes:
    """The answer to what was not understood or not decided: the same, and why."""
    return _encode(NotAuthenticated(success=False, session="", user=_NOBODY, message=message))


OK: Final = 200
_NOBODY: Final = Nobody()
_encode: Final = json.Encoder().encode
_NOT_AUTHENTICATED: Final = _encode(NotAuthenticated(success=False, session="", user=_NOBODY))


def _text(fields: Mapping[str, object], name: str) -> str:
    text = fields.get(name, "")
    if not isinstance(text, str):
        raise Malformed(f"`{name}` must be a string.")
    return text
