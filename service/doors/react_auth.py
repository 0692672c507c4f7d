"""The HTTP half of react-auth: a body in, a form or JSON, and a request out; an outcome in, an answer's body out.

The contract as it is served, with what we decided where it is silent, is docs/react-auth.md; the socket half is
`service.doors.react_auth_socket`.
"""

from __future__ import annotations

import json as lenient
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import parse_qsl

from msgspec import UNSET, MsgspecError, Raw, Struct, UnsetType, ValidationError, json

from service.doors.route_protocol import Account
from service.errors import (
    HTTP_STATUS,
    BadCredentials,
    Malformed,
    Refused,
    Throttled,
    Unauthenticated,
    UnsupportedMedia,
)
from service.json_depth import LIMIT, too_deep

__all__ = [
    "DOOR",
    "FIELDS",
    "REFUSED",
    "Account",
    "Authenticate",
    "Call",
    "Resume",
    "fault",
    "opened",
    "read",
    "status",
]

DOOR: Final = "react-auth"
"""The door's name in the book and in the metrics, for both halves."""

PREFIX: Final = "fantaptik/react-auth"

FIELDS: Final = 100
"""Fields that a form may have; the contract needs three, real clients send a few of their own."""


class Authenticate(Struct, frozen=True):
    """Log in. `username` may be any identifier; what is not given is empty, as clients leave out what they lack."""

    username: str = ""
    password: str = ""

    def __repr__(self) -> str:
        return "Authenticate(…)"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return []


class Resume(Struct, frozen=True):
    """Go on with the session that the cookie names."""


Call = Authenticate | Resume


def read(content_types: Sequence[str], body: bytes) -> Call:
    """What a body asks for; `content_types` are the request's Content-Type headers, of which there must be one.

    Fields that the message does not have are passed over. Raises UnsupportedMedia, or Malformed, whose sentence repeats
    nothing of the body.
    """
    kind = _media_type(content_types)
    try:
        text = body.decode()
    except UnicodeDecodeError:
        raise Malformed("The body is not UTF-8.") from None
    given = _form(text) if kind == FORM_TYPE else _object(text, body)
    what = _text(given, "type")
    if what is None:
        raise Malformed("`type` is missing.")
    if what == AUTHENTICATE:
        return Authenticate(_text(given, "username") or "", _text(given, "password") or "")
    if what == RESUME:
        return Resume()
    raise Malformed("`type` is none that this address knows.")


def opened(session: str, user: Account) -> bytes:
    """The answer that somebody is authenticated: the session's token, and whose it is."""
    return _encode(_Answer(success=True, session=session, user=user))


def fault(message: str) -> bytes:
    """The answer to what was not decided, or not understood: the same as a refusal, with the reason as a sentence."""
    return _encode(_Answer(success=False, session="", user=_NOBODY, message=message))


def status(refusal: Refused) -> int:
    """The HTTP status of a refusal.

    200 for what the contract has an answer to: its client would take any other status for a fault of its own.
    """
    return 200 if isinstance(refusal, PLAIN) else HTTP_STATUS[type(refusal)]


FORM_TYPE: Final = "application/x-www-form-urlencoded"
JSON_TYPE: Final = "application/json"
AUTHENTICATE: Final = f"{PREFIX}/authenticate"
RESUME: Final = f"{PREFIX}/resume"
PLAIN: Final = (BadCredentials, Unauthenticated, Throttled)
"""The refusals that are answers of the contract: nobody is authenticated, and that is all there is to say."""


class _Nobody(Struct, frozen=True):
    """The user of an answer that has none: an object all the same."""


class _Answer(Struct, frozen=True):
    """An answer, its keys in the contract's order; `message` is ours."""

    success: bool
    session: str
    user: Account | _Nobody
    message: str | UnsetType = UNSET


_NOBODY: Final = _Nobody()
_encode: Final = json.Encoder().encode
_check_object: Final = json.Decoder(dict[str, Raw]).decode

REFUSED: Final = _encode(_Answer(success=False, session="", user=_NOBODY))
"""The answer that nobody is authenticated, whatever the reason."""


def _media_type(said: Sequence[str]) -> str:
    if len(said) == 1:
        kind, _, parameters = said[0].lower().partition(";")
        if kind.strip() in {FORM_TYPE, JSON_TYPE} and parameters.strip() in {"", "charset=utf-8", 'charset="utf-8"'}:
            return kind.strip()
    raise UnsupportedMedia(f"The body must be a form or JSON: Content-Type {FORM_TYPE} or {JSON_TYPE}.")


def _form(text: str) -> list[tuple[str, object]]:
    """The fields of a form, in their order (WHATWG URL, 5.1; but what is no UTF-8 is refused, not replaced)."""
    try:
        return [*parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=FIELDS)]
    except UnicodeDecodeError:
        raise Malformed("The body is not UTF-8.") from None
    except ValueError:
        raise Malformed(f"The body has more than {FIELDS} fields.") from None


def _object(text: str, body: bytes) -> list[tuple[str, object]]:
    """The fields of a JSON object, in their order; a name may stand there twice."""
    if too_deep(body):
        raise Malformed(f"The body is nested deeper than {LIMIT} levels.")
    try:
        _check_object(body)
    except ValidationError:
        raise Malformed("The body is not a JSON object.") from None
    except MsgspecError:
        raise Malformed("The body is not valid JSON.") from None
    # The standard library takes more for JSON than JSON is; but it shows every name, also one that stands there twice.
    # A number counts for nothing here, and as a float none is too long.
    pairs: list[tuple[str, object]] = lenient.loads(text, object_pairs_hook=list, parse_int=float)
    return pairs


def _text(given: Sequence[tuple[str, object]], field: str) -> str | None:
    """A field's text, None where it is missing."""
    values = [value for name, value in given if name == field]
    if len(values) > 1:
        raise Malformed(f"`{field}` stands there twice.")
    for value in values:
        if not isinstance(value, str):
            raise Malformed(f"`{field}` must be a string.")
        return value
    return None
