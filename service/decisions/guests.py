"""Guests: sessions of people who have no account, or have not said which."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from msgspec import Struct

from events.catalogue import GuestCreated
from projections.sessions import Session
from service.decisions.command import Proposed, Reads, State
from service.errors import TooManyGuests


class CreateGuest(Struct, frozen=True):
    """Opens a session for somebody without an account; `most` is how many guests one address may have at a time."""

    token_digest: str
    lifetime: timedelta
    most: int
    origin: str | None = None

    def reads(self) -> Reads:
        """The guests who came from the same address."""
        return Reads(guests_of=() if self.origin is None else (self.origin,))

    def decide(self, state: State) -> Sequence[Proposed]:
        """TooManyGuests when so many are there."""
        if self.origin is not None:
            refuse_too_many(state.guests_of(self.origin), self.most, state.now)
        return (Proposed("session", GuestCreated(self.token_digest, state.now + self.lifetime, self.origin)),)


def refuse_too_many(guests: Iterable[Session], most: int, now: datetime) -> None:
    """Raises TooManyGuests when `most` of the guests are there; those whose time is over do not count, ended or not."""
    ends = sorted(guest.expires_at for guest in guests if guest.expires_at > now)
    if len(ends) >= most:
        wait = ends[len(ends) - most] - now if ends else timedelta(hours=1)
        raise TooManyGuests(int(wait.total_seconds()) + 1)
