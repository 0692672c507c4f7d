"""Guests at the gate: a session for whoever comes without one, so many for each address, and so many in all."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from msgspec import Struct

from projections.catalogue import SESSIONS
from service.batch import Clock, utc_now
from service.credentials.tokens import digest, format_token, new_secret
from service.decisions.guests import CreateGuest
from service.errors import Overloaded, TooManyGuests
from service.gate.attempts import ANONYMOUS, Client
from service.gate.lookups import Guest, Lookups
from service.gate.throttling import Throttling
from service.networks import is_loopback
from service.writer import Writer

COUNTED_FOR: Final = timedelta(seconds=1)
"""So long, how many guests there are in all is remembered; each process adds its own meanwhile."""
FULL_FOR: Final = 60
"""Seconds after which somebody may come again when there are too many guests in all."""


class GuestAdmitted(Struct, frozen=True):
    """A new guest and their token, which is shown this once and stored nowhere."""

    token: str
    guest: Guest

    def __repr__(self) -> str:
        return f"GuestAdmitted({self.guest.actor})"


class Guests:
    """See the module. This machine's own address has no bound: everybody comes from there when a proxy is in front."""

    def __init__(
        self,
        lookups: Lookups,
        writer: Writer,
        throttling: Throttling,
        *,
        lifetime: timedelta = timedelta(days=1),
        per_address: int = 200,
        in_all: int = 100_000,
        clock: Clock = utc_now,
    ) -> None:
        self._lookups = lookups
        self._writer = writer
        self._throttling = throttling
        self._lifetime = lifetime
        self._per_address = per_address
        self._in_all = in_all
        self._clock = clock
        self._count = 0
        self._counted_at: datetime | None = None

    async def admit(self, client: Client) -> GuestAdmitted:
        """A new guest. Raises TooManyGuests; Overloaded, also for too many in all; Unavailable when nobody can tell."""
        now = self._clock()
        self._refuse_when_full(now)
        origin = self._throttling.origin(client.address, now)
        bounded = client.address is not None and not is_loopback(client.address)
        if origin is not None and bounded:
            # Before the writer: one guest too many costs a look and no more. The decision counts again.
            self._refuse_too_many(origin, now)
        secret = new_secret()
        command = CreateGuest(digest(secret), self._lifetime, origin, self._per_address if bounded else None)
        recorded = (await self._writer.submit(command, actor=ANONYMOUS, door=client.door))[0]
        self._count += 1
        # Out of what was recorded, as at a login.
        session = SESSIONS.evolve(str(recorded.position), None, recorded)
        assert session is not None  # noqa: S101 - a session that opens is there
        return GuestAdmitted(format_token(recorded.position, secret), Guest(session))

    def _refuse_when_full(self, now: datetime) -> None:
        if self._counted_at is None or not timedelta() <= now - self._counted_at < COUNTED_FOR:
            self._count, self._counted_at = self._lookups.guests(), now
        if self._count >= self._in_all:
            raise Overloaded("guests", FULL_FOR)

    def _refuse_too_many(self, origin: str, now: datetime) -> None:
        if self._lookups.guests(origin) < self._per_address:
            return
        first = self._lookups.first_guest(origin)
        wait = timedelta() if first is None else first.expires_at - now
        raise TooManyGuests(int(wait.total_seconds()) + 1)
