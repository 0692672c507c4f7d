"""Registering an account."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from events.catalogue import SERVICE_STREAM, Level, NameRefused, UserRegistered
from service.decisions.command import Proposed, Reads, State
from service.decisions.throttling import Limit, heed, steps
from service.errors import FieldError, InvalidFields


class Taking(Struct, frozen=True):
    """A name that somebody wants: as typed, prepared for comparing, and its tag in the projection `names`."""

    typed: str
    prepared: str
    tag: str


class Register(Struct, frozen=True):
    """Makes an account. Does not log in. `limits` are the throttles that it counts against."""

    username: Taking
    nickname: Taking
    email: Taking | None
    password_hash: str
    level: Level
    address: str | None = None
    agent: str | None = None
    limits: tuple[Limit, ...] = ()

    def reads(self) -> Reads:
        """The names that it takes, and the throttles."""
        return Reads(
            names=tuple(taking.tag for taking in (self.username, self.nickname, self.email) if taking),
            throttles=tuple(limit.key for limit in self.limits),
        )

    def decide(self, state: State) -> Sequence[Proposed]:
        """Throttled when a throttle refuses by now; InvalidFields when a name is taken, each such field named."""
        heed(state, self.limits)
        taken = [
            FieldError(field, message)
            for field, taking, message in (
                ("username", self.username, "This username is taken."),
                ("nickname", self.nickname, "This nickname is taken."),
                ("email", self.email, "This e-mail address is taken."),
            )
            if taking is not None and state.name(taking.tag) is not None
        ]
        if taken:
            raise InvalidFields(*taken)
        return (
            Proposed(
                "user",
                UserRegistered(
                    username=self.username.typed,
                    username_prepared=self.username.prepared,
                    nickname=self.nickname.typed,
                    nickname_prepared=self.nickname.prepared,
                    password_hash=self.password_hash,
                    level=self.level,
                    email=self.email.typed if self.email else None,
                    email_prepared=self.email.prepared if self.email else None,
                    address=self.address,
                    agent=self.agent,
                    throttles=steps(state, self.limits),
                ),
            ),
        )


class RecordNameTaken(Struct, frozen=True):
    """Counts that somebody wanted a name that is taken: so one learns of an account that is there."""

    limits: tuple[Limit, ...]

    def reads(self) -> Reads:
        """The throttles."""
        return Reads(throttles=tuple(limit.key for limit in self.limits))

    def decide(self, state: State) -> Sequence[Proposed]:
        """One event, or none where nothing counts it."""
        counted = steps(state, self.limits)
        return (Proposed(SERVICE_STREAM, NameRefused(counted)),) if counted else ()
