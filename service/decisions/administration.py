"""What an operator or an admin does to accounts, sessions and read models, and the note that somebody looked."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from events.catalogue import (
    ADMIN,
    SERVICE_STREAM,
    AuditRead,
    Level,
    PasswordChanged,
    ProjectionRebuildAsked,
    SessionClosed,
    UserDeactivated,
    UserLevelChanged,
    UserReactivated,
)
from projections.users import User
from service.decisions.command import Proposed, Reads, State, session_stream, user_stream
from service.decisions.sessions import closing_all
from service.errors import Conflict, LastAdmin, NotFound


def _account(state: State, user_id: int) -> User:
    user = state.user(user_id)
    if user is None:
        raise NotFound("There is no user of that id.")
    return user


def _keep_one_admin(state: State, user: User) -> None:
    if user.level == ADMIN and user.active and all(admin.id == user.id for admin in state.active_admins()):
        raise LastAdmin


class SetLevel(Struct, frozen=True):
    """Makes the user a plain user (1) or an admin (2)."""

    user_id: int
    level: Level

    def reads(self) -> Reads:
        """The account and the admins that there are."""
        return Reads(users=(self.user_id,), active_admins=True)

    def decide(self, state: State) -> Sequence[Proposed]:
        """NotFound; LastAdmin when no active admin would be left. Nothing when that is the level already."""
        user = _account(state, self.user_id)
        if user.level == self.level:
            return ()
        _keep_one_admin(state, user)
        return (Proposed(user_stream(self.user_id), UserLevelChanged(self.level)),)


class Deactivate(Struct, frozen=True):
    """Keeps the user from logging in, and ends all sessions of theirs."""

    user_id: int
    reason: str | None = None

    def reads(self) -> Reads:
        """The account, its sessions, and the admins that there are."""
        return Reads(users=(self.user_id,), sessions_of=(self.user_id,), active_admins=True)

    def decide(self, state: State) -> Sequence[Proposed]:
        """NotFound; Conflict when inactive already; LastAdmin when no active admin would be left."""
        user = _account(state, self.user_id)
        if not user.active:
            raise Conflict("This user is deactivated already.")
        _keep_one_admin(state, user)
        return (
            Proposed(user_stream(self.user_id), UserDeactivated(self.reason)),
            *closing_all(state, self.user_id, "deactivated"),
        )


class Reactivate(Struct, frozen=True):
    """Lets the user log in again."""

    user_id: int

    def reads(self) -> Reads:
        """The account."""
        return Reads(users=(self.user_id,))

    def decide(self, state: State) -> Sequence[Proposed]:
        """NotFound; Conflict when active already."""
        if _account(state, self.user_id).active:
            raise Conflict("This user is active already.")
        return (Proposed(user_stream(self.user_id), UserReactivated()),)


class SetPassword(Struct, frozen=True):
    """Gives the user another password, and ends all sessions of theirs."""

    user_id: int
    password_hash: str

    def reads(self) -> Reads:
        """The account and its sessions."""
        return Reads(users=(self.user_id,), sessions_of=(self.user_id,))

    def decide(self, state: State) -> Sequence[Proposed]:
        """NotFound."""
        _account(state, self.user_id)
        return (
            Proposed(user_stream(self.user_id), PasswordChanged(self.password_hash)),
            *closing_all(state, self.user_id, "password_changed"),
        )


class RevokeSession(Struct, frozen=True):
    """Ends one session, a user's or a guest's."""

    session_id: int

    def reads(self) -> Reads:
        """The session; its user is folded, not read."""
        return Reads(sessions=(self.session_id,))

    def decide(self, state: State) -> Sequence[Proposed]:
        """NotFound when it is over already, or never was."""
        session = state.session(self.session_id)
        if session is None:
            raise NotFound("There is no open session of that id.")
        return (Proposed(session_stream(session.id), SessionClosed(session.user_id, "revoked")),)


class RevokeSessionsOf(Struct, frozen=True):
    """Ends all sessions of one user, who may log in again."""

    user_id: int

    def reads(self) -> Reads:
        """The account and its sessions."""
        return Reads(users=(self.user_id,), sessions_of=(self.user_id,))

    def decide(self, state: State) -> Sequence[Proposed]:
        """NotFound. Nothing when there are no sessions."""
        _account(state, self.user_id)
        return closing_all(state, self.user_id, "revoked")


class NoteAuditRead(Struct, frozen=True):
    """Writes down that somebody with the right to look, looked."""

    target: str

    def reads(self) -> Reads:
        """Nothing."""
        return Reads()

    def decide(self, state: State) -> Sequence[Proposed]:  # noqa: ARG002 - every command decides over a state
        """Always one event; coalescing is done by the one who asks."""
        return (Proposed(SERVICE_STREAM, AuditRead(self.target)),)


class AskRebuild(Struct, frozen=True):
    """Writes down that somebody asked for a read model to be rebuilt, before it is."""

    projection: str

    def reads(self) -> Reads:
        """Nothing."""
        return Reads()

    def decide(self, state: State) -> Sequence[Proposed]:  # noqa: ARG002 - every command decides over a state
        """Always one event; that there is such a projection, and none rebuilt already, is known to the one who asks."""
        return (Proposed(SERVICE_STREAM, ProjectionRebuildAsked(self.projection)),)
