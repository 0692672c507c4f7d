"""Attempts at a password: which throttles stand before them, and what is written down when they fail."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from events.catalogue import FailureReason
from projections.users import User
from service.batch import Clock
from service.decisions.login import RecordFailure
from service.decisions.throttling import Limit, NoteThrottled, refusing_until
from service.errors import Throttled
from service.gate.lookups import Lookups
from service.gate.throttling import Throttling
from service.writer import Writer

ANONYMOUS: Final = "anonymous"
LONGEST_AGENT: Final = 400


class Client(Struct, frozen=True):
    """Who asks, as far as the transport knows: the door, the network address, what the client says that it is."""

    door: str
    address: str | None = None
    agent: str | None = None

    def __post_init__(self) -> None:
        """Bounds what the client says of itself: it goes into the book."""
        if self.agent is not None and len(self.agent) > LONGEST_AGENT:
            raise ValueError(f"a user agent is at most {LONGEST_AGENT} characters; cut it with `client_of`")


def client_of(door: str, address: str | None, agent: str | None) -> Client:
    """The client, with what it says of itself cut to what the book takes."""
    return Client(door, address, None if agent is None else agent[:LONGEST_AGENT])


class Attempts:
    """See the module."""

    def __init__(self, lookups: Lookups, writer: Writer, throttling: Throttling, clock: Clock) -> None:
        self._lookups = lookups
        self._writer = writer
        self._throttling = throttling
        self._clock = clock

    async def admitted(self, client: Client, account: str | None) -> tuple[Limit, ...]:
        """The throttles that this attempt counts against; raises Throttled when one of them refuses it."""
        now = self._clock()
        limits = self._throttling.limits(account, client.address, now)
        for limit in limits:
            until = refusing_until(self._lookups.throttle(limit.key), now)
            if until is not None:
                await self._writer.note(NoteThrottled(limit.key), actor=ANONYMOUS, door=client.door)
                raise Throttled(int((until - now).total_seconds()) + 1)
        return limits

    async def failed(self, client: Client, user: User | None, limits: tuple[Limit, ...], *, matched: bool) -> None:
        """Writes the failure down, before anybody is told of it."""
        reason: FailureReason = "unknown_account"
        if user is not None:
            reason = "deactivated" if matched else "wrong_password"
        user_id = None if user is None else user.id
        command = RecordFailure(reason, user_id, limits, client.address, client.agent)
        await self._writer.submit(command, actor=ANONYMOUS, door=client.door)
