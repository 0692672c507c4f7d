"""The messages of the HTTP doors: what a body may hold, and what an answer holds.

Bodies refuse fields that they do not know: a client that misspells `email` must hear of it.
"""

from __future__ import annotations

from typing import Literal

from msgspec import UNSET, Struct, UnsetType

from events.catalogue import Level, Moment
from service.errors import FieldError
from service.fields import DeviceKey, EmailAddress, Id, Identifier, NewPassword, Nickname, Secret, Token, Username
from service.gate.lookups import UserView


class Registration(Struct, frozen=True, forbid_unknown_fields=True):
    """`POST /api/register`."""

    username: Username
    nickname: Nickname
    password: NewPassword
    email: EmailAddress | None = None

    def __repr__(self) -> str:
        return "Registration(…)"


class Login(Struct, frozen=True, forbid_unknown_fields=True):
    """`POST /api/session`. The identifier is a username, or with an `@` an e-mail address."""

    identifier: Identifier
    password: Secret
    device_key: DeviceKey | UnsetType = UNSET

    def __repr__(self) -> str:
        return "Login(…)"


class ProfileChange(Struct, frozen=True, forbid_unknown_fields=True):
    """`PATCH /api/profile`: what is absent stays as it is; `email: null` removes the address."""

    nickname: Nickname | UnsetType = UNSET
    email: EmailAddress | UnsetType | None = UNSET
    old_password: Secret | UnsetType = UNSET
    new_password: NewPassword | UnsetType = UNSET

    def __repr__(self) -> str:
        return "ProfileChange(…)"


class Registered(Struct, frozen=True):
    """The answer to a registration: the new account's id."""

    id: Id


class Opened(Struct, frozen=True):
    """The answer to a login. The token is shown this once."""

    token: Token
    user: UserView
    device_key: DeviceKey

    def __repr__(self) -> str:
        return f"Opened(user={self.user.id})"


class SessionView(Struct, frozen=True):
    """A session as its owner sees it; times in UTC."""

    id: Id
    opened_at: Moment
    expires_at: Moment
    seen_at: Moment
    door: str


class HolderView(Struct, frozen=True):
    """An account as its owner sees it, or a guest, who has no names, level 0, and the id of their session."""

    id: Id
    username: str | None
    nickname: str | None
    email: str | None
    level: Level
    active: bool
    created_at: Moment
    last_contact: Moment


class WhoAmI(Struct, frozen=True):
    """The answer to `GET /api/session`."""

    user: HolderView
    session: SessionView


class MySession(Struct, frozen=True):
    """One of one's own sessions; times in UTC.

    `door` is the contract through which it began, `address` and `agent` are where from and with what, as far as that is
    known. `current` marks the session that asks.
    """

    id: Id
    opened_at: Moment
    seen_at: Moment
    expires_at: Moment
    door: str
    address: str | None
    agent: str | None
    current: bool


class MySessions(Struct, frozen=True):
    """The answer to `GET /api/sessions`: the newest first."""

    sessions: tuple[MySession, ...]


class Ended(Struct, frozen=True):
    """The answer to `DELETE /api/sessions`: how many were ended."""

    ended: int


class ProfileChanged(Struct, frozen=True):
    """The answer to a change of profile: the account as it is now."""

    user: UserView


class Problem(Struct, frozen=True, omit_defaults=True):
    """What went wrong: a stable word for machines, a sentence for people, the fields at fault, seconds to wait."""

    code: str
    message: str
    fields: tuple[FieldError, ...] = ()
    retry_after: int | None = None


class ProblemAnswer(Struct, frozen=True):
    """Every refusal's body."""

    error: Problem


class Health(Struct, frozen=True, omit_defaults=True):
    """The answer of a health check."""

    status: Literal["live", "ready", "unready"]
    reasons: tuple[str, ...] = ()
