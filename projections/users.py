"""The projection `users`: one document for each account, personal fields sealed as they stand in the book."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, ClassVar, Final

from msgspec import Struct
from msgspec.structs import replace

from events.catalogue import (
    ADMIN,
    Level,
    PasswordChanged,
    PasswordRehashed,
    Personal,
    ProfileChanged,
    SessionClosed,
    SessionOpened,
    SessionSeen,
    UserDeactivated,
    UserLevelChanged,
    UserReactivated,
    UserRegistered,
    is_position,
)
from events.recorded import Recorded
from projections.projection import Index


class User(Struct, frozen=True, gc=False, omit_defaults=True):
    """An account.

    `password_version` and `profile_version` are the positions at which the password and the names were set last: what
    was verified before the writer carries them, and is verified anew when they have moved.
    """

    id: int
    username: Personal
    nickname: Personal
    nickname_prepared: Personal
    password_hash: Personal
    password_version: int
    profile_version: int
    level: Level
    created_at: datetime
    last_contact: datetime
    active: bool = True
    open_sessions: int = 0
    email: Personal | None = None
    email_prepared: Personal | None = None


# They stand in their session's stream, and say whose it is.
_OF_SESSIONS: Final = (SessionOpened, SessionSeen, SessionClosed)


def _active_admin(user: User) -> int | None:
    return 1 if user.level == ADMIN and user.active else None


class Users:
    """See the module."""

    name = "users"
    revision = 1
    document = User
    indexes: tuple[Index[User], ...] = (
        Index("level", lambda user: user.level),
        Index("active_admin", _active_admin),
    )
    opened = False
    keyed_by_position = True
    handles: ClassVar[frozenset[type[Struct]]] = frozenset(
        {
            UserRegistered,
            SessionOpened,
            SessionSeen,
            SessionClosed,
            ProfileChanged,
            PasswordChanged,
            PasswordRehashed,
            UserLevelChanged,
            UserDeactivated,
            UserReactivated,
        }
    )

    def keys(self, recorded: Recorded) -> tuple[str, ...]:
        """The user whom the event is about."""
        event = recorded.event
        if isinstance(event, _OF_SESSIONS):
            return (str(event.user_id),)
        kind, _, number = recorded.stream.partition("-")
        return (number,) if kind == "user" and is_position(number) else ()

    def evolve(self, key: str, doc: User | None, recorded: Recorded) -> User | None:
        """The account after the event. Events about an account that never was change nothing."""
        event = recorded.event
        if isinstance(event, UserRegistered):
            return _registered(int(key), recorded, event)
        if doc is None:
            return None
        evolved = _EVOLVED.get(type(event))
        return doc if evolved is None else evolved(doc, recorded, event)


def _registered(user_id: int, recorded: Recorded, event: UserRegistered) -> User:
    return User(
        id=user_id,
        username=event.username,
        nickname=event.nickname,
        nickname_prepared=event.nickname_prepared,
        password_hash=event.password_hash,
        password_version=recorded.position,
        profile_version=recorded.position,
        level=event.level,
        created_at=recorded.at,
        last_contact=recorded.at,
        email=event.email,
        email_prepared=event.email_prepared,
    )


def _profile_changed(user: User, recorded: Recorded, event: ProfileChanged) -> User:
    user = replace(user, profile_version=recorded.position)
    if event.nickname is not None and event.nickname_prepared is not None:
        user = replace(user, nickname=event.nickname, nickname_prepared=event.nickname_prepared)
    if event.email is not None and event.email_prepared is not None:
        user = replace(user, email=event.email, email_prepared=event.email_prepared)
    elif event.email_removed:
        user = replace(user, email=None, email_prepared=None)
    return user


_EVOLVED: Final[dict[type[Struct], Callable[[User, Recorded, Any], User]]] = {
    SessionOpened: lambda doc, recorded, _: replace(doc, last_contact=recorded.at, open_sessions=doc.open_sessions + 1),
    SessionSeen: lambda doc, recorded, _: replace(doc, last_contact=recorded.at),
    SessionClosed: lambda doc, _, __: replace(doc, open_sessions=max(0, doc.open_sessions - 1)),
    ProfileChanged: _profile_changed,
    PasswordChanged: lambda doc, recorded, event: replace(
        doc, password_hash=event.password_hash, password_version=recorded.position
    ),
    PasswordRehashed: lambda doc, _, event: replace(doc, password_hash=event.password_hash),
    UserLevelChanged: lambda doc, _, event: replace(doc, level=event.level),
    UserDeactivated: lambda doc, _, __: replace(doc, active=False),
    UserReactivated: lambda doc, _, __: replace(doc, active=True),
}
"""What each event makes of an account that is there."""
