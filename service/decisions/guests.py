"""Guests: sessions of people who have no account, or have not said which."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from msgspec import Struct

from events.catalogue import GuestCreated
from service.decisions.command import Proposed, Reads, State
from service.errors import TooManyGuests

SHORTLY: Final = 1


class CreateGuest(Struct, frozen=True):
    """Opens a session for somebody without an account.

    `origin` is the tag of their address, `most` how many guests it may have at a time; None has no bound.
    """

    token_digest: str
    lifetime: timedelta
    origin: str | None = None
    most: int | None = None

    def reads(self) -> Reads:
        """How many guests came from the same address, where that matters."""
        return Reads(guests_of=() if self.origin is None or self.most is None else (self.origin,))

    def decide(self, state: State) -> Sequence[Proposed]:
        """TooManyGuests when so many are there. Who is over by the clock counts until that is written down."""
        if self.origin is not None and self.most is not None and state.guests_of(self.origin) >= self.most:
            raise TooManyGuests(SHORTLY)
        return (Proposed("session", GuestCreated(self.token_digest, state.now + self.lifetime, self.origin)),)
