"""What inspection shows of events and documents, as types: made of the catalogue's and the projections' own.

Seals are opened, secrets are not shown, and every field is there, which an entry leaves out where it says nothing.
"""

from __future__ import annotations

from datetime import datetime
from types import UnionType
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Struct

from events.catalogue import EVENT_TYPES, Moment, Sealed, wire_name
from events.recorded import Recorded
from projections.activity import Activity
from projections.names import Name
from projections.sessions import Session
from projections.throttles import Throttle
from projections.users import User

REDACTED: Final = "(redacted)"
SECRET_FIELDS: Final = frozenset({"password_hash", "token_digest"})
_Redacted = Literal["(redacted)"]


class Unopened(Struct, frozen=True):
    """A sealed value that cannot be opened, and why."""

    sealed: Literal[True]
    reason: str


class UndecodableEntry(Struct, frozen=True):
    """An entry that cannot be decoded: what its columns say."""

    position: int
    stream: str
    version: int
    at: Moment
    type: str
    command_id: str
    undecodable: Literal[True]


def shown_event(kind: type[Struct]) -> type[Struct]:
    """An event of that type as it is shown: its envelope, its type, its own fields."""
    envelope = get_type_hints(Recorded, include_extras=True)
    del envelope["event"]
    return _made(f"{kind.__name__}Event", {**envelope, "type": _literally(wire_name(kind)), **_fields(kind)}, kind)


def shown_document(kind: type[Struct]) -> type[Struct]:
    """A document of that type as it is shown."""
    return _made(kind.__name__, _fields(kind), kind)


def _made(name: str, fields: dict[str, Any], kind: type[Struct]) -> type[Struct]:
    return msgspec.defstruct(name, list(fields.items()), namespace={"__doc__": kind.__doc__}, frozen=True)


def _fields(kind: type[Struct]) -> dict[str, Any]:
    hints = get_type_hints(kind, include_extras=True)
    return {name: _Redacted if name in SECRET_FIELDS else _opened(hint) for name, hint in hints.items()}


def _opened(hint: Any) -> Any:  # noqa: ANN401 - type expressions have no type of their own
    if get_origin(hint) in {Union, UnionType}:
        kinds: Any = tuple(map(_opened, get_args(hint)))
        return Union[kinds]  # noqa: UP007 - of so many as there are
    return {Sealed: Unopened, datetime: Moment}.get(hint, hint)


def _literally(word: Any) -> Any:  # noqa: ANN401 - type expressions have no type of their own
    return Literal[word]


if TYPE_CHECKING:
    ShownEvent = dict[str, Any]
    ShownDocument = dict[str, Any]
    ShownUser = dict[str, Any]
else:
    # What inspection makes are dictionaries. At run time these stand for what is in them, see service.web.openapi.

    class ShownEvent:
        """An event, of one of the catalogue's types."""

        one_of: ClassVar[tuple[type[Struct], ...]] = (*map(shown_event, EVENT_TYPES), UndecodableEntry)

    class ShownUser:
        """A document of the projection `users`."""

        one_of: ClassVar[tuple[type[Struct], ...]] = (shown_document(User),)

    class ShownDocument:
        """A document of one of the projections."""

        one_of: ClassVar[tuple[type[Struct], ...]] = (
            *ShownUser.one_of,
            *map(shown_document, (Name, Session, Throttle, Activity)),
        )
