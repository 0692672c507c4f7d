"""Somebody at the gate, and what a test of the gate needs around them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from events.log import Query
from events.recorded import Recorded
from events.sealing import open_event
from service.credentials.passwords import Verified
from service.decisions.command import Command
from service.errors import BadCredentials, InvalidFields, Refused, Unauthenticated
from service.gate.attempts import Client
from service.gate.gate import LoggedIn
from service.gate.lookups import Principal
from tests.house import House, house

PASSWORD = "tugging-Widow-41-lanterns"
ANOTHER = "plover-Cistern-88-gravity"
CLIENT = Client("test", "192.0.2.7", "agent/1")


class Visitor:
    """Somebody at the gate, in one line for each thing that they do."""

    def __init__(self, inside: House) -> None:
        self.house = inside
        self.gate = inside.gate

    async def register(self, name: str = "alma", **changes: Any) -> int:
        form = {"username": name, "nickname": f"{name} the Great", "password": PASSWORD, **changes}
        return await self.gate.register(CLIENT, **form)

    async def log_in(
        self,
        name: str = "alma",
        password: str = PASSWORD,
        *,
        client: Client = CLIENT,
        replaces: Principal | None = None,
    ) -> LoggedIn:
        return await self.gate.log_in(client, name, password, replaces=replaces)

    async def fail(self, times: int = 1, name: str = "alma", *, client: Client = CLIENT) -> None:
        for _ in range(times):
            with pytest.raises(BadCredentials):
                await self.log_in(name, "wrong " + PASSWORD, client=client)

    async def order(self, command: Command) -> None:
        await self.house.writer.submit(command, actor="operator", door="test")

    def told(self, kind: type[Any] | None = None) -> list[Recorded]:
        """The book, opened."""
        read = self.house.book.log.read(Query())
        return [
            open_event(one, self.house.book.keyring) for one in read if kind is None or type(one.event) is kind
        ]  # fmt: skip

    def events(self, kind: type[Any]) -> list[Any]:
        return [one.event for one in self.told(kind)]

    def lives(self, logged_in: LoggedIn) -> bool:
        try:
            self.gate.lookups.principal(logged_in.token)
        except Unauthenticated:
            return False
        return True

    def bytes_on_disk(self) -> bytes:
        """Everything that the store keeps: book, read models, keys, and what is still in their write-ahead logs."""
        return b"".join(path.read_bytes() for path in sorted(self.house.path.parent.iterdir()))


@asynccontextmanager
async def visiting(folder: Path, **settings: Any) -> AsyncIterator[Visitor]:
    async with house(folder, **settings) as inside:
        yield Visitor(inside)


def fields(refusal: pytest.ExceptionInfo[InvalidFields]) -> list[str]:
    return [error.field for error in refusal.value.errors]


async def all_at_once(*calls: Callable[[], Awaitable[Any]]) -> list[Any]:
    """What came of each, its result or its refusal, all of them begun before any could end."""
    outcomes: list[Any] = [None] * len(calls)

    async def one(number: int, call: Callable[[], Awaitable[Any]]) -> None:
        try:
            outcomes[number] = await call()
        except Refused as refusal:
            outcomes[number] = refusal

    async with trio.open_nursery() as nursery:
        for number, call in enumerate(calls):
            nursery.start_soon(one, number, call)
    return outcomes


def meddle(visitor: Visitor, command: Callable[[], Command], times: int = 1) -> list[Verified]:
    """From here on, so often, the command is written after a password was verified and before anything is decided."""
    verify = visitor.gate._passwords.verify
    verified: list[Verified] = []

    async def verify_and_meddle(encoded: str | None, password: str) -> Verified:
        outcome = await verify(encoded, password)
        verified.append(outcome)
        if len(verified) <= times:
            await visitor.order(command())
        return outcome

    visitor.gate._passwords.verify = verify_and_meddle  # type: ignore[method-assign]  # meddles
    return verified
