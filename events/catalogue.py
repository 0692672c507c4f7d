"""The catalogue: every event type that the book can hold, each under a wire name that never changes.

A field of type `Personal` is sealed under its subject's own key before the event becomes an entry: plain text (`str`)
while a decision is made, `Sealed` ever after. Whose key that is, is said by the event's `user_id`, else by its stream.
"""

from __future__ import annotations

import typing
from datetime import datetime
from types import UnionType
from typing import Annotated, Final, Literal, get_args, get_origin

from msgspec import Meta, Struct

SERVICE_STREAM: Final = "service"


class Sealed(Struct, frozen=True, gc=False):
    """A personal value under its subject's key, with all that it takes to open it, wherever it is copied to.

    `box` is base64 of nonce (12 bytes) ‖ AES-256-GCM ciphertext ‖ tag (16 bytes); the associated data binds it to
    `stream`, `position` and `field` of the entry that it was sealed for.
    """

    subject: int
    stream: str
    position: int
    field: str
    box: str


Personal = str | Sealed
Level = Literal[0, 1, 2]
GUEST: Final[Level] = 0
USER: Final[Level] = 1
ADMIN: Final[Level] = 2

Moment = Annotated[datetime, Meta(tz=True)]
CloseReason = Literal["logout", "expired", "replaced", "revoked", "password_changed", "deactivated"]
FailureReason = Literal["unknown_account", "wrong_password", "deactivated"]
KeyPurpose = Literal["access_tokens"]


class ThrottleStep(Struct, frozen=True, gc=False, omit_defaults=True):
    """What one failure, or registration, does to one throttle: how many were counted so far, and until when it refuses.

    Written into the event by the decision, so that a later change of the policy never changes a replay.
    """

    key: str
    failures: int
    until: Moment | None = None


class UserRegistered(Struct, frozen=True, gc=False, omit_defaults=True, tag="user.registered"):
    """An account came to be. Its stream is `user-N`, N being this event's position: the user's id.

    It counts against the throttles of registration that `throttles` names.
    """

    username: Personal
    username_prepared: Personal
    nickname: Personal
    nickname_prepared: Personal
    password_hash: Personal
    level: Level
    email: Personal | None = None
    email_prepared: Personal | None = None
    address: Personal | None = None
    agent: Personal | None = None
    throttles: tuple[ThrottleStep, ...] = ()


class NameRefused(Struct, frozen=True, gc=False, tag="name.refused"):
    """Somebody wanted a name that is taken. What they typed is not recorded, only that it counts."""

    throttles: tuple[ThrottleStep, ...]


class SessionOpened(Struct, frozen=True, gc=False, omit_defaults=True, tag="session.opened"):
    """A login succeeded. Its stream is `session-N`, N being this event's position: the session's id.

    `cleared` names the throttles that this success empties.
    """

    user_id: int
    token_digest: str
    expires_at: Moment
    address: Personal | None = None
    agent: Personal | None = None
    cleared: tuple[str, ...] = ()


class GuestCreated(Struct, frozen=True, gc=False, omit_defaults=True, tag="guest.created"):
    """Somebody without an account got a session. Its stream is `session-N`; N is the guest's id and the session's.

    Nothing personal is known of a guest, and no key is theirs. `origin` is a tag of the address, under the key that
    throttles have, by which the guests of one address are counted.
    """

    token_digest: str
    expires_at: Moment
    origin: str | None = None


class GuestLinked(Struct, frozen=True, gc=False, tag="guest.linked"):
    """The guest of this `session-N` logged in to an account: what guest N did, that user did."""

    user_id: int


class SessionSeen(Struct, frozen=True, gc=False, tag="session.seen"):
    """The session was used. At most one in `session_seen_interval`, so it says roughly, not exactly, when.

    Of a guest's session, `user_id` is the guest's id, here and when it is closed.
    """

    user_id: int


class SessionClosed(Struct, frozen=True, gc=False, tag="session.closed"):
    """The session is over, for the reason given."""

    user_id: int
    reason: CloseReason


class LoginFailed(Struct, frozen=True, gc=False, omit_defaults=True, tag="login.failed"):
    """A password was evaluated and nobody was let in. In the user's stream where there is one, else in `service`.

    For an unknown account nothing that was typed is recorded, and neither address nor agent, since nobody's key could
    seal them.
    """

    reason: FailureReason
    user_id: int | None = None
    throttles: tuple[ThrottleStep, ...] = ()
    address: Personal | None = None
    agent: Personal | None = None


class LoginThrottled(Struct, frozen=True, gc=False, omit_defaults=True, tag="login.throttled"):
    """A throttle refused an attempt before anything was looked at; told once for each window it refuses in."""

    key: str
    until: Moment


class ThrottlesForgotten(Struct, frozen=True, gc=False, tag="throttles.forgotten"):
    """The throttles named had no failure for so long that they count nothing any more; they leave the read model."""

    keys: tuple[str, ...]


class ProfileChanged(Struct, frozen=True, gc=False, omit_defaults=True, tag="profile.changed"):
    """Nickname or e-mail changed; what is absent stayed as it was.

    `nickname_released` and `email_released` are the prepared forms that are free again. `email_removed` says that the
    account has no e-mail address any more.
    """

    nickname: Personal | None = None
    nickname_prepared: Personal | None = None
    nickname_released: Personal | None = None
    email: Personal | None = None
    email_prepared: Personal | None = None
    email_released: Personal | None = None
    email_removed: bool = False


class PasswordChanged(Struct, frozen=True, gc=False, tag="password.changed"):
    """The account has another password from here on."""

    password_hash: Personal


class PasswordRehashed(Struct, frozen=True, gc=False, tag="password.rehashed"):
    """The same password under stronger parameters."""

    password_hash: Personal


class UserLevelChanged(Struct, frozen=True, gc=False, tag="user.level_changed"):
    """The user's level is another: 0 guest, 1 user, 2 admin."""

    level: Level


class UserDeactivated(Struct, frozen=True, gc=False, omit_defaults=True, tag="user.deactivated"):
    """The account can no longer log in. The reason is free text, so it counts as personal."""

    reason: Personal | None = None


class UserReactivated(Struct, frozen=True, gc=False, tag="user.reactivated"):
    """The account can log in again."""


class AuditRead(Struct, frozen=True, gc=False, tag="audit.read"):
    """Somebody with the right to look, looked: at `target`, once in the coalescing interval."""

    target: str


class ProjectionRebuildAsked(Struct, frozen=True, gc=False, tag="projection.rebuild_asked"):
    """An admin asked that the read model of that name be rebuilt from the book. It says nothing of what came of it."""

    projection: str


class KeyRotated(Struct, frozen=True, gc=False, omit_defaults=True, tag="key.rotated"):
    """An operator had a key of the service's own followed by another, which is named after this event's position.

    The other takes over after a while that everybody knows, and what was made with those before it counts until its own
    time is over. `at_once` says that it takes over from this moment, and that nothing made with those before counts.
    """

    purpose: KeyPurpose
    at_once: bool = False


Event = (
    UserRegistered
    | SessionOpened
    | SessionSeen
    | SessionClosed
    | LoginFailed
    | LoginThrottled
    | ThrottlesForgotten
    | ProfileChanged
    | PasswordChanged
    | PasswordRehashed
    | UserLevelChanged
    | UserDeactivated
    | UserReactivated
    | AuditRead
    | GuestCreated
    | GuestLinked
    | ProjectionRebuildAsked
    | KeyRotated
    | NameRefused
)

EVENT_TYPES: Final[tuple[type[Struct], ...]] = get_args(Event)


def wire_name(event: type[Struct] | Struct) -> str:
    """The name under which the type stands in the book, `session.opened`."""
    tag = event.__struct_config__.tag
    assert isinstance(tag, str)  # noqa: S101 - every type of the catalogue has a string tag; a test walks them all
    return tag


BY_WIRE_NAME: Final[dict[str, type[Struct]]] = {wire_name(kind): kind for kind in EVENT_TYPES}


def _holds_sealed(annotation: object) -> bool:
    if annotation is Sealed:
        return True
    return get_origin(annotation) in {typing.Union, UnionType} and any(map(_holds_sealed, get_args(annotation)))


PERSONAL_FIELDS: Final[dict[type[Struct], tuple[str, ...]]] = {
    kind: tuple(name for name, hint in typing.get_type_hints(kind).items() if _holds_sealed(hint))
    for kind in EVENT_TYPES
}


def user_of(stream: str, event: Event) -> int | None:
    """The user whom the event is about: its `user_id`, else the number of its `user-N` stream, else nobody.

    Of a guest that comes to be, the number of its `session-N` stream: its id.
    """
    user_id: int | None = getattr(event, "user_id", None)
    if user_id is None:
        kind, _, number = stream.partition("-")
        if kind == ("session" if type(event) is GuestCreated else "user") and is_position(number):
            return int(number)
    return user_id


def is_position(text: str) -> bool:
    """Whether the text is a position as the name of a stream says it: no leading zero, at most 18 digits."""
    return text.isdigit() and text.isascii() and text[0] != "0" and len(text) < 19  # noqa: PLR2004 - 2**63 has 19 digits
