"""Types of fields in messages, with what a schema says of them.

What can be wrong about a name or a password is refused by the gate, field by field: the bounds of those are told here
and not enforced by the decoder, which would call the whole body malformed.
"""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta

from service.credentials.identifiers import LONGEST_EMAIL, NICKNAME_LENGTHS, SHORTEST_PASSWORD, USERNAME_LENGTHS

__all__ = [
    "NOT_EMPTY",
    "AccessToken",
    "AnyToken",
    "DeviceKey",
    "EmailAddress",
    "Id",
    "Identifier",
    "NewPassword",
    "Nickname",
    "Secret",
    "Token",
    "Username",
]

_SECRET: Final = {"format": "password"}
_TAKEN_SECRET: Final = {**_SECRET, "writeOnly": True}

Id = Annotated[int, Meta(ge=1, description="The position in the book at which it came to be.")]

Token = Annotated[
    str,
    Meta(
        pattern=r"^[1-9][0-9]*\|[A-Za-z0-9]{40}$",
        description="A session's token: the session's id, and a secret.",
        extra_json_schema=_SECRET,
    ),
]

AccessToken = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{86}$",
        description="A JWT of type `at+jwt`, signed with ES256 (RFC 9068).",
        extra_json_schema=_SECRET,
    ),
]

AnyToken = Annotated[str, Meta(description="A session's token, or an access token.", extra_json_schema=_TAKEN_SECRET)]

Username = Annotated[
    str,
    Meta(
        description="No `@`, no spaces, not reserved, not taken; compared prepared (RFC 8265).",
        extra_json_schema={"minLength": USERNAME_LENGTHS[0], "maxLength": USERNAME_LENGTHS[1]},
    ),
]

Nickname = Annotated[
    str,
    Meta(
        description="Not reserved, not taken; compared prepared (RFC 8266).",
        extra_json_schema={"minLength": NICKNAME_LENGTHS[0], "maxLength": NICKNAME_LENGTHS[1]},
    ),
]

EmailAddress = Annotated[
    str,
    Meta(description="Not taken.", extra_json_schema={"format": "idn-email", "maxLength": LONGEST_EMAIL}),
]

NewPassword = Annotated[
    str,
    Meta(
        description="No upper limit but the body's; not among the most common ones, unless those are allowed.",
        extra_json_schema={"minLength": SHORTEST_PASSWORD, **_TAKEN_SECRET},
    ),
]

Secret = Annotated[str, Meta(extra_json_schema=_TAKEN_SECRET)]
"""A password that is held against the one that there is."""

NOT_EMPTY: Final = Meta(extra_json_schema={"minLength": 1})

DeviceKey = Annotated[
    str,
    Meta(
        description="What a login gave to keep: failures of others do not count for whoever shows it at the next one."
        " Opaque; of at most 512 characters.",
        extra_json_schema=_SECRET,
    ),
]

Identifier = Annotated[str, Meta(description="A username, or with an `@` an e-mail address.")]
