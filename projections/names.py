"""The projection `names`: who has which username, nickname and e-mail address, found by HMAC tag, readable to nobody.

It makes names unique and findable while the names themselves stay sealed. It is the one projection that folds with
keys: the tag is HMAC-SHA-256 of the prepared form, under a key of the service's own (RFC 2104). The prepared form
stands, sealed, in the book: a replay gives the same with whatever Unicode tables come later.
"""

from __future__ import annotations

import hmac
from functools import lru_cache
from typing import ClassVar, Literal

from msgspec import Struct

from events.catalogue import Personal, ProfileChanged, UserRegistered, user_of
from events.recorded import Recorded
from projections.projection import Index

NameKind = Literal["username", "nickname", "email"]
KEY_NAME = "names"


class Name(Struct, frozen=True, gc=False):
    """A name that is taken, and by whom."""

    kind: NameKind
    user_id: int


class Tagger:
    """Turns prepared names into tags under the service's key of that purpose."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        # A fold asks for the tags of one event several times over: for its keys, and for each document.
        self._tag = lru_cache(maxsize=16)(self._tagged)

    def __repr__(self) -> str:
        return "Tagger(…)"

    def __call__(self, kind: NameKind, prepared: str) -> str:
        """The tag, `username:<64 hex digits>`: the key of the name's document."""
        return self._tag(kind, prepared)

    def _tagged(self, kind: NameKind, prepared: str) -> str:
        message = prepared.encode("utf-8", "surrogatepass")
        return f"{kind}:{hmac.digest(self._key, kind.encode() + b':' + message, 'sha256').hex()}"


class Names:
    """See the module."""

    name = "names"
    revision = 1
    document = Name
    indexes: tuple[Index[Name], ...] = (Index("user", lambda name: name.user_id),)
    opened = True
    keyed_by_position = False
    handles: ClassVar[frozenset[type[Struct]]] = frozenset({UserRegistered, ProfileChanged})

    def __init__(self, tagger: Tagger) -> None:
        self._tag = tagger

    def keys(self, recorded: Recorded) -> tuple[str, ...]:
        """The tags that the event takes or sets free."""
        taken, released = self._tags(recorded)
        return tuple(dict.fromkeys([*taken, *released]))

    def evolve(self, key: str, doc: Name | None, recorded: Recorded) -> Name | None:
        """The name after the event. One that the event both frees and takes stays taken."""
        user_id = user_of(recorded.stream, recorded.event)
        taken, released = self._tags(recorded)
        if key in taken and user_id is not None:
            return Name(taken[key], user_id)
        # Only the holder can set a name free.
        if key in released and doc is not None and doc.user_id == user_id:
            return None
        return doc

    def _tags(self, recorded: Recorded) -> tuple[dict[str, NameKind], dict[str, NameKind]]:
        event = recorded.event
        if isinstance(event, UserRegistered):
            return self._tagged(
                ("username", event.username_prepared),
                ("nickname", event.nickname_prepared),
                ("email", event.email_prepared),
            ), {}
        if isinstance(event, ProfileChanged):
            taken = self._tagged(("nickname", event.nickname_prepared), ("email", event.email_prepared))
            return taken, self._tagged(("nickname", event.nickname_released), ("email", event.email_released))
        return {}, {}

    def _tagged(self, *names: tuple[NameKind, Personal | None]) -> dict[str, NameKind]:
        # A value that is still sealed could not be opened (its key is gone): then nobody has that name.
        return {self._tag(kind, prepared): kind for kind, prepared in names if isinstance(prepared, str)}
