"""The auth-server contract: a body in, who logs in out; an outcome in, an answer's body and status out.

The contract as it is served, with what we decided where it is silent, is docs/auth-server.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final

from msgspec import Struct

from service.doors.forms import fields_of
from service.errors import (
    AUTH_SERVER_STATUS,
    BadCredentials,
    FieldError,
    InvalidFields,
    Refused,
    Unauthenticated,
)
from service.fields import NOT_EMPTY, Identifier, Secret, Token

__all__ = ["DOOR", "AuthServerProblem", "Credentials", "TokenIssued", "read_login", "refused"]

DOOR: Final = "auth-server"


class Credentials(Struct, frozen=True):
    """Who logs in; the field `email` takes any identifier."""

    email: Annotated[Identifier, NOT_EMPTY]
    password: Annotated[Secret, NOT_EMPTY]

    def __repr__(self) -> str:
        return "Credentials(…)"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return []


class TokenIssued(Struct, frozen=True):
    """What both addresses answer with: the session's token."""

    at: Token

    def __repr__(self) -> str:
        return "TokenIssued(…)"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return []


class AuthServerProblem(Struct, frozen=True, omit_defaults=True):
    """Every refusal's body: a sentence, and by field what is wrong with it."""

    message: str
    errors: dict[str, list[str]] = {}


UNAUTHENTICATED: Final = AuthServerProblem("Unauthenticated")
"""The contract's own words."""


def read_login(content_types: Sequence[str], body: bytes) -> Credentials:
    """The credentials in a body, form or JSON; other fields are passed over.

    Raises InvalidFields where one is missing, empty or no text; Malformed, UnsupportedMedia where there are no fields.
    """
    fields = fields_of(content_types, body)
    faults = [
        FieldError(name, f"The {name} is {'missing' if name not in fields else 'a text that is not empty'}.")
        for name in Credentials.__struct_fields__
        if not (isinstance(fields.get(name), str) and fields[name])
    ]
    if faults:
        raise InvalidFields(*faults)
    return Credentials(fields["email"], fields["password"])


def refused(refusal: Refused) -> tuple[int, AuthServerProblem]:
    """The status and the body of a refusal."""
    status = AUTH_SERVER_STATUS[type(refusal)]
    match refusal:
        case Unauthenticated():
            return status, UNAUTHENTICATED
        case BadCredentials():
            # Beside the field that was typed first, as a form would show it; it never says which of the two was wrong.
            return status, AuthServerProblem(refusal.message, {"email": [refusal.message]})
        case InvalidFields(errors=faults):
            errors: dict[str, list[str]] = {}
            for fault in faults:
                errors.setdefault(fault.field, []).append(fault.message)
            return status, AuthServerProblem(refusal.message, errors)
        case _:
            return status, AuthServerProblem(refusal.message)
