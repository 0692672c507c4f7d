"""Changing one's own profile and password."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from events.catalogue import PasswordChanged, ProfileChanged
from service.decisions.command import Proposed, Reads, State, user_stream
from service.decisions.registration import Taking
from service.decisions.sessions import account_behind, closing_all
from service.decisions.throttling import Limit, heed
from service.errors import FieldError, InvalidFields, Stale


class Renaming(Struct, frozen=True):
    """A new value of a name. `released` is the prepared form that is free again, where there was one."""

    taking: Taking
    released: str | None


class NewPassword(Struct, frozen=True):
    """A new password's hash, and the version of the one that the old password was verified against."""

    password_hash: str
    verified_version: int


class ChangeProfile(Struct, frozen=True):
    """Changes nickname, e-mail address or password of the user whose session this is; all of it, or nothing.

    `profile_version` is the version of the names that `released` was read from. `limits` are the throttles that an old
    password was held against. A new password ends every other session.
    """

    user_id: int
    session_id: int
    profile_version: int
    nickname: Renaming | None = None
    email: Renaming | None = None
    email_removed: str | None = None
    password: NewPassword | None = None
    limits: tuple[Limit, ...] = ()

    def reads(self) -> Reads:
        """The account, the session, the names it takes, the throttles, all its sessions where they are to end."""
        tags = tuple(renaming.taking.tag for renaming in (self.nickname, self.email) if renaming)
        return Reads(
            users=(self.user_id,),
            sessions=(self.session_id,),
            names=tags,
            sessions_of=(self.user_id,) if self.password else (),
            throttles=tuple(limit.key for limit in self.limits),
        )

    def decide(self, state: State) -> Sequence[Proposed]:
        """Unauthenticated: the session is over. Stale: names or password moved. InvalidFields: a name is taken.

        Throttled: a throttle refuses by now, as at a login.
        """
        user = account_behind(state, self.user_id, self.session_id)
        heed(state, self.limits)
        if self.password is not None and self.password.verified_version != user.password_version:
            raise Stale
        renames = self.nickname or self.email or self.email_removed is not None
        if renames and self.profile_version != user.profile_version:
            raise Stale
        self._refuse_taken(state)
        proposed: list[Proposed] = []
        if renames:
            proposed.append(Proposed(user_stream(self.user_id), self._profile_changed()))
        if self.password is not None:
            proposed.append(Proposed(user_stream(self.user_id), PasswordChanged(self.password.password_hash)))
            proposed += closing_all(state, self.user_id, "password_changed", but=(self.session_id,))
        return proposed

    def _refuse_taken(self, state: State) -> None:
        taken = [
            FieldError(field, message)
            for field, renaming, message in (
                ("nickname", self.nickname, "This nickname is taken."),
                ("email", self.email, "This e-mail address is taken."),
            )
            if renaming is not None
            and (name := state.name(renaming.taking.tag)) is not None
            and name.user_id != self.user_id
        ]
        if taken:
            raise InvalidFields(*taken)

    def _profile_changed(self) -> ProfileChanged:
        return ProfileChanged(
            nickname=self.nickname.taking.typed if self.nickname else None,
            nickname_prepared=self.nickname.taking.prepared if self.nickname else None,
            nickname_released=self.nickname.released if self.nickname else None,
            email=self.email.taking.typed if self.email else None,
            email_prepared=self.email.taking.prepared if self.email else None,
            email_released=self.email.released if self.email else self.email_removed,
            email_removed=self.email is None and self.email_removed is not None,
        )
