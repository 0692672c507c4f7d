"""Sessions after they were opened: seen, ended by whoever holds them, expired."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Final

from msgspec import Struct

from events.catalogue import CloseReason, SessionClosed, SessionSeen
from projections.sessions import Session
from projections.users import User
from service.decisions.command import Proposed, Reads, State, session_stream
from service.errors import NotFound, Unauthenticated

NO_SESSION_OF_YOURS: Final = "You have no open session of that id."


def over_at(session: Session, idle_limit: timedelta | None) -> datetime:
    """When the session's time is over: that of its lifetime, or, where there is a limit, since it was seen last."""
    return session.expires_at if idle_limit is None else min(session.expires_at, session.seen_at + idle_limit)


def is_over(session: Session, now: datetime, idle_limit: timedelta | None) -> bool:
    """Whether the session's time is over."""
    return over_at(session, idle_limit) <= now


class SeeSession(Struct, frozen=True):
    """Notes that the session is in use, unless that was noted less than `interval` ago."""

    session_id: int
    interval: timedelta
    idle_limit: timedelta | None = None

    def reads(self) -> Reads:
        """The session and nothing else; its user is folded, not read."""
        return Reads(sessions=(self.session_id,))

    def decide(self, state: State) -> Sequence[Proposed]:
        """Nothing for a session that is over or was noted lately."""
        session = state.session(self.session_id)
        if session is None or is_over(session, state.now, self.idle_limit):
            return ()
        if state.now - session.seen_at < self.interval:
            return ()
        return (Proposed(session_stream(session.id), SessionSeen(session.user_id)),)


class EndSession(Struct, frozen=True):
    """Ends one session of one user."""

    session_id: int
    user_id: int
    reason: CloseReason = "logout"

    def reads(self) -> Reads:
        """The session, and the account whose count of sessions moves."""
        return Reads(sessions=(self.session_id,), users=(self.user_id,))

    def decide(self, state: State) -> Sequence[Proposed]:
        """Unauthenticated when it is over already, or another user's."""
        session = state.session(self.session_id)
        if session is None or session.user_id != self.user_id:
            raise Unauthenticated
        return (Proposed(session_stream(session.id), SessionClosed(session.user_id, self.reason)),)


class EndOwnSession(Struct, frozen=True):
    """Ends another session of the user who asks, as that of a device they lost. `asking` is their present one.

    What is over by the clock is over, whether it was ended yet or not.
    """

    session_id: int
    user_id: int
    asking: int
    idle_limit: timedelta | None = None

    def reads(self) -> Reads:
        """Both sessions and the account."""
        return Reads(sessions=(self.asking, self.session_id), users=(self.user_id,))

    def decide(self, state: State) -> Sequence[Proposed]:
        """Unauthenticated when the present session is over. NotFound for one that is over, or another user's."""
        account_behind(state, self.user_id, self.asking)
        session = state.session(self.session_id)
        if session is None or session.user_id != self.user_id or is_over(session, state.now, self.idle_limit):
            raise NotFound(NO_SESSION_OF_YOURS)
        return (Proposed(session_stream(session.id), SessionClosed(session.user_id, "revoked")),)


class EndOtherSessions(Struct, frozen=True):
    """Ends every session of the user who asks but `asking`, the present one."""

    user_id: int
    asking: int
    idle_limit: timedelta | None = None

    def reads(self) -> Reads:
        """The account and its sessions."""
        return Reads(sessions=(self.asking,), users=(self.user_id,), sessions_of=(self.user_id,))

    def decide(self, state: State) -> Sequence[Proposed]:
        """Unauthenticated when the present session is over: whoever was put out ends nobody else's session."""
        account_behind(state, self.user_id, self.asking)
        over = {one.id for one in state.sessions_of(self.user_id) if is_over(one, state.now, self.idle_limit)}
        return closing_all(state, self.user_id, "revoked", but=over | {self.asking})


class ExpireSessions(Struct, frozen=True):
    """Ends the sessions among these whose time is over."""

    session_ids: tuple[int, ...]
    idle_limit: timedelta | None = None

    def reads(self) -> Reads:
        """The sessions; their users are folded, not read."""
        return Reads(sessions=self.session_ids)

    def decide(self, state: State) -> Sequence[Proposed]:
        """Each is looked at again: one that ended meanwhile, or lives on, is passed over."""
        return tuple(
            Proposed(session_stream(session.id), SessionClosed(session.user_id, "expired"))
            for session_id in dict.fromkeys(self.session_ids)
            if (session := state.session(session_id)) is not None and is_over(session, state.now, self.idle_limit)
        )


def account_behind(state: State, user_id: int, session_id: int) -> User:
    """The account whose live session that is; Unauthenticated when it is over, or was never theirs."""
    user, session = state.user(user_id), state.session(session_id)
    if user is None or not user.active or session is None or session.user_id != user_id:
        raise Unauthenticated
    if session.expires_at <= state.now:
        raise Unauthenticated
    return user


def closing_all(state: State, user_id: int, reason: CloseReason, but: Collection[int] = ()) -> list[Proposed]:
    """One `session.closed` for each of the user's open sessions but these, oldest first."""
    return [
        Proposed(session_stream(session.id), SessionClosed(user_id, reason))
        for session in sorted(state.sessions_of(user_id), key=lambda session: session.id)
        if session.id not in but
    ]
