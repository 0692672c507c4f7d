"""The page about the events, out of the catalogue itself: `python -m events.describe` prints docs/events.md."""

from __future__ import annotations

import typing
from datetime import datetime
from inspect import cleandoc
from types import NoneType, UnionType
from typing import Final, Literal, get_args, get_origin

import msgspec
from msgspec import Struct

from events.catalogue import (
    EVENT_TYPES,
    PERSONAL_FIELDS,
    SERVICE_STREAM,
    AuditRead,
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
    wire_name,
)
from events.recorded import MAX_ENTRY_BYTES, Recorded

USER_STREAM: Final = "user-N"
SESSION_STREAM: Final = "session-N"

STREAMS: Final[dict[type[Struct], tuple[str, ...]]] = {
    UserRegistered: (USER_STREAM,),
    SessionOpened: (SESSION_STREAM,),
    SessionSeen: (SESSION_STREAM,),
    SessionClosed: (SESSION_STREAM,),
    LoginFailed: (USER_STREAM, SERVICE_STREAM),
    LoginThrottled: (SERVICE_STREAM,),
    NameRefused: (SERVICE_STREAM,),
    ThrottlesForgotten: (SERVICE_STREAM,),
    ProfileChanged: (USER_STREAM,),
    PasswordChanged: (USER_STREAM,),
    PasswordRehashed: (USER_STREAM,),
    UserLevelChanged: (USER_STREAM,),
    UserDeactivated: (USER_STREAM,),
    UserReactivated: (USER_STREAM,),
    AuditRead: (SERVICE_STREAM,),
    GuestCreated: (SESSION_STREAM,),
    GuestLinked: (SESSION_STREAM,),
    ProjectionRebuildAsked: (SERVICE_STREAM,),
    KeyRotated: (SERVICE_STREAM,),
}
"""The streams in which each type of event stands."""

_NAMES: Final = {int: "integer", str: "string", bool: "boolean", datetime: "moment", Sealed: "sealed value"}
_HEADING: Final = f"""\
# Events

Everything that gatebook knows is folded from these. An event type keeps its name and its meaning for ever: a change
is a new type, or a new field that may be absent.

An entry of the book is one JSON object of at most {MAX_ENTRY_BYTES:,} bytes: the envelope, and the event in its field
`event`, whose `type` is the name below. A moment is text, RFC 3339 in UTC. A field that is sealed stands in the book as
a sealed value, which only its subject's own key opens; one that is optional is absent where it says nothing.

This page is made by `python -m events.describe`.
"""


def page() -> str:
    """Return docs/events.md."""
    return "\n".join(
        [
            _HEADING,
            *_overview(),
            *_section("The envelope", Recorded),
            *(line for kind in EVENT_TYPES for line in _section(f"`{wire_name(kind)}`", kind)),
            *_section("A sealed value", Sealed),
            *_section("A step of a throttle", ThrottleStep),
        ]
    )


def _overview() -> list[str]:
    rows = [
        f"| [`{name}`](#{name.replace('.', '')}) | {_streams(kind)} | {_first_sentence(kind)} |"
        for name, kind in ((wire_name(kind), kind) for kind in EVENT_TYPES)
    ]
    return ["| event | stream | what happened |", "| --- | --- | --- |", *rows, ""]


def _section(title: str, kind: type[Struct]) -> list[str]:
    lines = [f"## {title}", "", cleandoc(kind.__doc__ or ""), ""]
    if kind in STREAMS:
        lines += [f"Stream: {_streams(kind)}", ""]
    hints = typing.get_type_hints(kind)
    sealed = PERSONAL_FIELDS.get(kind, ())
    rows = [
        f"| `{field.name}` | {'string' if field.name in sealed else type_name(hints[field.name])} |"
        f" {'yes' if field.name in sealed else ''} | {'' if field.required else 'yes'} |"
        for field in msgspec.structs.fields(kind)
        if field.name != "event"
    ]
    if rows:
        lines += ["| field | type | sealed | optional |", "| --- | --- | --- | --- |", *rows, ""]
    return lines


def _streams(kind: type[Struct]) -> str:
    return " or ".join(f"`{stream}`" for stream in STREAMS[kind])


def _first_sentence(kind: type[Struct]) -> str:
    paragraph = " ".join(cleandoc(kind.__doc__ or "").split("\n\n")[0].split())
    return paragraph.split(". ")[0].removesuffix(".") + "."


def type_name(hint: object) -> str:
    """Return how a field's type is called on the page; KeyError for one that it has no word for."""
    if isinstance(hint, type) and issubclass(hint, ThrottleStep):
        return "step of a throttle"
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Literal:
        return "one of " + ", ".join(f"`{part}`" for part in parts)
    if origin is tuple:
        return f"list: {type_name(parts[0])}"
    if origin in {typing.Union, UnionType}:
        return " or ".join(type_name(part) for part in parts if part is not NoneType)
    return _NAMES[typing.cast("type", hint)]


if __name__ == "__main__":
    print(page(), end="")  # noqa: T201  # printing the page is what it is run for
