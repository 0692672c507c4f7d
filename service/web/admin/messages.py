"""The messages of the admin endpoint beside what it shows: what bodies may hold, and what its writes answer."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from service.shown import ShownUser

REASON_CHARACTERS: Final = 1_000


class Deactivation(Struct, frozen=True, forbid_unknown_fields=True):
    """`POST /admin/api/users/{id}/deactivate`: why, for the book, where it stands sealed like all that is personal."""

    reason: Annotated[str, Meta(min_length=1, max_length=REASON_CHARACTERS)] | None = None

    def __repr__(self) -> str:
        return "Deactivation(…)"


class Nothing(Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a request that is all said by its address: none, or an object without fields."""


class LevelChange(Struct, frozen=True, forbid_unknown_fields=True):
    """`POST /admin/api/users/{id}/level`: 1 is a plain user, 2 an admin."""

    level: Literal[1, 2]


class UserDocument(Struct, frozen=True):
    """A user as the projection `users` has them: its name, the user's id, and the document as the looks show it."""

    projection: str
    key: str
    document: ShownUser

    def __repr__(self) -> str:
        return f"UserDocument({self.key})"
