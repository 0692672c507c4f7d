"""Guests at the gate: a session for whoever comes without one, so many for each address and no more."""

from __future__ import annotations

from datetime import timedelta

from msgspec import Struct

from projections.catalogue import SESSIONS
from service.batch import Clock, utc_now
from service.credentials.tokens import digest, format_token, new_secret
from service.decisions.guests import CreateGuest, refuse_too_many
from service.gate.attempts import ANONYMOUS, Client
from service.gate.lookups import Guest, Lookups
from service.gate.throttling import Throttling
from service.writer import Writer


class GuestAdmitted(Struct, frozen=True):
    """A new guest and their token, which is shown this once and stored nowhere."""

    token: str
    guest: Guest

    def __repr__(self) -> str:
        return f"GuestAdmitted({self.guest.actor})"


class Guests:
    """See the module."""

    def __init__(
        self,
        lookups: Lookups,
        writer: Writer,
        throttling: Throttling,
        *,
        lifetime: timedelta = timedelta(days=1),
        per_address: int = 200,
        clock: Clock = utc_now,
    ) -> None:
        self._lookups = lookups
        self._writer = writer
        self._throttling = throttling
        self._lifetime = lifetime
        self._per_address = per_address
        self._clock = clock

    async def admit(self, client: Client) -> GuestAdmitted:
        """A new guest. Raises TooManyGuests; Overloaded; Unavailable when the service cannot decide."""
        now = self._clock()
        origin = self._throttling.origin(client.address, now)
        if origin is not None:
            # Before the writer: whoever asks for the thousandth guest costs a look and no more. It decides again.
            refuse_too_many(self._lookups.guests_of(origin, self._per_address), self._per_address, now)
        secret = new_secret()
        command = CreateGuest(digest(secret), self._lifetime, self._per_address, origin)
        recorded = (await self._writer.submit(command, actor=ANONYMOUS, door=client.door))[0]
        # Out of what was recorded, as at a login.
        session = SESSIONS.evolve(str(recorded.position), None, recorded)
        assert session is not None  # noqa: S101 - a session that opens is there
        return GuestAdmitted(format_token(recorded.position, secret), Guest(session))
