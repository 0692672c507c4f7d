"""Logging in, and failing to."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from msgspec import Struct

from events.catalogue import (
    SERVICE_STREAM,
    FailureReason,
    GuestLinked,
    LoginFailed,
    PasswordRehashed,
    SessionClosed,
    SessionOpened,
)
from service.decisions.command import Proposed, Reads, State, session_stream, user_stream
from service.decisions.throttling import Limit, heed, steps
from service.errors import BadCredentials, Stale, Unauthenticated


class LogIn(Struct, frozen=True):
    """Opens a session for somebody whose password matched.

    `password_version` is the version of the password that it was verified against. `replaces` is the session that the
    connection held before. `rehashed` is the same password under the present parameters, where they were raised.
    `guest` is the guest who logs in: linked to the account, their session replaced. `limits` are the throttles that the
    attempt was held against: what was counted there is cleared, unless it outlives a success.
    """

    user_id: int
    password_version: int
    token_digest: str
    lifetime: timedelta
    most_sessions: int
    replaces: int | None = None
    rehashed: str | None = None
    limits: tuple[Limit, ...] = ()
    address: str | None = None
    agent: str | None = None
    guest: int | None = None

    def reads(self) -> Reads:
        """The account, the sessions it replaces, the throttles."""
        replaced = tuple(session_id for session_id in (self.replaces, self.guest) if session_id is not None)
        return Reads(users=(self.user_id,), sessions=replaced, throttles=tuple(limit.key for limit in self.limits))

    def decide(self, state: State) -> Sequence[Proposed]:
        """Stale when the password moved since it was verified, BadCredentials when the account may not log in.

        Throttled when a throttle refuses by now: a guess that was one too many is none, whichever process it came to.
        Unauthenticated when the guest's session is over: a guest logs in once.
        """
        heed(state, self.limits)
        user = state.user(self.user_id)
        if user is None or not user.active:
            raise BadCredentials
        if user.password_version != self.password_version:
            raise Stale
        return (
            *self._linked(state),
            *self._replaced(state, user.open_sessions),
            *self._rehashed(),
            Proposed(
                "session",
                SessionOpened(
                    user_id=self.user_id,
                    token_digest=self.token_digest,
                    expires_at=state.now + self.lifetime,
                    address=self.address,
                    agent=self.agent,
                    cleared=tuple(
                        limit.key
                        for limit in self.limits
                        if not limit.outlives_success and state.throttle(limit.key) is not None
                    ),
                ),
            ),
        )

    def _replaced(self, state: State, open_sessions: int) -> list[Proposed]:
        closing: list[int] = []
        held = None if self.replaces is None else state.session(self.replaces)
        # A connection can hold another user's session: somebody logs in anew as somebody else.
        if held is not None:
            closing.append(held.id)
        mine = open_sessions - (held is not None and held.user_id == self.user_id)
        if mine >= self.most_sessions:
            others = sorted(s.id for s in state.sessions_of(self.user_id) if s.id not in closing)
            closing += others[: mine - self.most_sessions + 1]
        return [
            Proposed(session_stream(session_id), SessionClosed(owner, "replaced"))
            for session_id in closing
            for owner in [held.user_id if held is not None and session_id == held.id else self.user_id]
        ]

    def _linked(self, state: State) -> list[Proposed]:
        if self.guest is None:
            return []
        held = state.session(self.guest)
        if held is None or not held.guest or held.expires_at <= state.now:
            raise Unauthenticated
        stream = session_stream(held.id)
        return [
            Proposed(stream, GuestLinked(self.user_id)),
            Proposed(stream, SessionClosed(held.user_id, "replaced")),
        ]

    def _rehashed(self) -> list[Proposed]:
        if self.rehashed is None:
            return []
        return [Proposed(user_stream(self.user_id), PasswordRehashed(self.rehashed))]


class RecordFailure(Struct, frozen=True):
    """Writes down that a password was evaluated and nobody was let in.

    `stand_in` is an account that is read, and no more, where there is none: to write it down takes as long then.
    """

    reason: FailureReason
    user_id: int | None
    limits: tuple[Limit, ...]
    address: str | None = None
    agent: str | None = None
    stand_in: int | None = None

    def reads(self) -> Reads:
        """The throttles it counts against, and the account."""
        user_id = self.stand_in if self.user_id is None else self.user_id
        users = () if user_id is None else (user_id,)
        return Reads(users=users, throttles=tuple(limit.key for limit in self.limits))

    def decide(self, state: State) -> Sequence[Proposed]:
        """Always one event; of an unknown account it tells nothing but that."""
        known = self.user_id is not None and state.user(self.user_id) is not None
        return (
            Proposed(
                user_stream(self.user_id) if known and self.user_id is not None else SERVICE_STREAM,
                LoginFailed(
                    reason=self.reason,
                    user_id=self.user_id if known else None,
                    throttles=steps(state, self.limits),
                    address=self.address if known else None,
                    agent=self.agent if known else None,
                ),
            ),
        )
