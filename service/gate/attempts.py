"""Attempts at a password, or at a name: which throttles stand before them, and what is written down of them.

What is under way counts as well as what has failed. An account has one attempt at a time evaluated, and the next one
sees what came of it; an address has a few. So attempts that come all at once get no more guesses than attempts that
come one after the other. That is said of one process: each time that a throttle lets somebody pass, N of them on one
store may evaluate N - 1 more, of which nothing is told.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

import trio
from msgspec import Struct

from events.catalogue import FailureReason
from projections.users import User
from service.batch import Clock
from service.decisions.command import Command
from service.decisions.login import RecordFailure
from service.decisions.registration import RecordNameTaken
from service.decisions.throttling import Limit, NoteThrottled, refusing_until, seconds_until
from service.errors import InvalidFields, Throttled
from service.gate.lookups import Lookups
from service.gate.throttling import Throttling
from service.gate.turns import Turns
from service.networks import is_loopback, one_address
from service.writer import Writer

ANONYMOUS: Final = "anonymous"
LONGEST_AGENT: Final = 400
SHORTLY: Final = 1
"""Seconds after which an address that has too many attempts under way may come again."""


class Client(Struct, frozen=True):
    """Who asks, as far as the transport knows: the door, the network address, what the client says that it is.

    `device` is what the client kept from an earlier login, as it shows it.
    """

    door: str
    address: str | None = None
    agent: str | None = None
    device: str | None = None

    def __post_init__(self) -> None:
        """Bounds what the client says of itself: it goes into the book."""
        if self.agent is not None and len(self.agent) > LONGEST_AGENT:
            raise ValueError(f"a user agent is at most {LONGEST_AGENT} characters; cut it with `client_of`")

    def __repr__(self) -> str:
        return f"Client(door={self.door!r}, address={self.address!r}, agent={self.agent!r})"


def client_of(door: str, address: str | None, agent: str | None, device: str | None = None) -> Client:
    """The client, with what it says of itself cut to what the book takes."""
    return Client(door, address, None if agent is None else agent[:LONGEST_AGENT], device)


class Attempts:
    """See the module."""

    def __init__(self, lookups: Lookups, writer: Writer, throttling: Throttling, turns: Turns, clock: Clock) -> None:
        self._lookups = lookups
        self._writer = writer
        self._throttling = throttling
        self._turns = turns
        self._clock = clock
        # By address; each count is somebody's connection.
        self._in_flight: Counter[str] = Counter()

    @asynccontextmanager
    async def turn(
        self, client: Client, account: str, *, throttled_as: str | None, device: str | None = None
    ) -> AsyncIterator[Turn]:
        """The turn of an attempt at the account; others at the same account wait until the block is over.

        `throttled_as` is what stands for the account in the book, None for a name that can be nobody's. A `device` that
        is known for the account has turns and throttles of its own. Raises Throttled, also where the address has too
        many attempts under way, and Overloaded where too many wait for the account.
        """
        turn = Turn(self, client, throttled_as, device)
        await turn.admitted()
        with self._counted(client.address if device is None else None):
            async with self._turns.turn((account, device)):
                await turn.admitted()
                yield turn

    @asynccontextmanager
    async def naming(self, client: Client) -> AsyncIterator[tuple[Limit, ...]]:
        """Names are wanted in the block, with the throttles that it counts against; raises Throttled as `turn` does.

        An InvalidFields in it says that one is taken. That is written down: so one learns of an account that is there.
        """
        limits = self._throttling.naming_limits(client.address, self._clock())
        await self.heed(client, limits)
        with self._counted(client.address):
            try:
                yield limits
            except InvalidFields:
                if limits:
                    await self._record(RecordNameTaken(limits), client)
                raise

    async def failed(
        self, client: Client, user: User | None, limits: tuple[Limit, ...], *, matched: bool, evaluated: User | None
    ) -> None:
        """Writes the failure down, before anybody is told of it, and also when nobody waits to be told any more.

        `evaluated` is whose hash was, the account's or one that stood in for it.
        """
        reason: FailureReason = "unknown_account"
        if user is not None:
            reason = "deactivated" if matched else "wrong_password"
        user_id, reads = (None if one is None else one.id for one in (user, evaluated))
        await self._record(RecordFailure(reason, user_id, limits, client.address, client.agent, reads), client)

    def limits(self, client: Client, account: str | None, device: str | None) -> tuple[Limit, ...]:
        """The throttles that an attempt counts against."""
        return self._throttling.limits(account, client.address, self._clock(), device)

    async def heed(self, client: Client, limits: tuple[Limit, ...]) -> None:
        """Raises Throttled when one of the throttles refuses at this moment."""
        now = self._clock()
        for limit in limits:
            until = refusing_until(self._lookups.throttle(limit.key), now)
            if until is not None:
                await self._writer.note(NoteThrottled(limit.key), actor=ANONYMOUS, door=client.door)
                raise Throttled(seconds_until(until, now))

    async def _record(self, command: Command, client: Client) -> None:
        with trio.CancelScope(shield=True):
            await self._writer.submit(command, actor=ANONYMOUS, door=client.door)

    @contextmanager
    def _counted(self, address: str | None) -> Iterator[None]:
        """Counts the block as under way from that address; this machine's own has no bound here either."""
        if address is None or is_loopback(address):
            yield
            return
        counted = one_address(address)
        if self._in_flight[counted] >= self._throttling.policy.address_in_flight:
            raise Throttled(SHORTLY)
        self._in_flight[counted] += 1
        try:
            yield
        finally:
            self._in_flight[counted] -= 1
            if not self._in_flight[counted]:
                del self._in_flight[counted]


class Turn:
    """The turn of one attempt: it may go on as long as no throttle refuses it."""

    def __init__(self, attempts: Attempts, client: Client, account: str | None, device: str | None) -> None:
        self._attempts = attempts
        self._client = client
        self._account = account
        self._device = device

    async def admitted(self) -> tuple[Limit, ...]:
        """The throttles that the attempt counts against; raises Throttled when one of them refuses it by now."""
        limits = self._attempts.limits(self._client, self._account, self._device)
        await self._attempts.heed(self._client, limits)
        return limits
