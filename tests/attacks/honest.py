"""An honest client, who talks with both listeners while others attack, and notices whether they suffer from it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import trio

from tests.conformance.running import PATIENCE, Running, fresh
from tests.conformance.talk import PASSWORD
from tests.guards.edge import frame, read_until, upgrade

TEXT = 1


class Honest:
    """A session, held on a connection of either kind that was open before the attack."""

    def __init__(self, service: Running, web: trio.SocketStream, talk: trio.SocketStream, token: str) -> None:
        self._service = service
        self._web = web
        self._talk = talk
        self._token = token
        self.answered = 0

    async def is_served(self) -> None:
        """Both connections answer, and a new one of each kind does; fails otherwise."""
        with trio.fail_after(PATIENCE):
            await self._ask(self._web, self._talk)
            async with connect(self._service.http) as web, connect(self._service.ws) as talk:
                await talk.send_all(upgrade("/auth/v2"))
                assert (await read_until(talk, b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
                await self._ask(web, talk)
        assert self._service.process.poll() is None

    async def go_on(self) -> None:
        """Asks again and again, until cancelled."""
        while True:
            await self._ask(self._web, self._talk)
            await trio.lowlevel.checkpoint()

    async def _ask(self, web: trio.SocketStream, talk: trio.SocketStream) -> None:
        with trio.fail_after(PATIENCE):
            request = f"GET /api/session HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {self._token}\r\n\r\n"
            # Not cancelled in between: the next answer would be taken for this one.
            with trio.CancelScope(shield=True):
                await web.send_all(request.encode())
                assert (await read_until(web, b"}}")).startswith(b"HTTP/1.1 200")
                packet = {"route": "auth.authenticate", "receipt": "end", "data": {"session_key": self._token}}
                await talk.send_all(frame(TEXT, json.dumps(packet).encode()))
                assert b'"error":false' in await read_until(talk, b"}}}")
        self.answered += 1


@asynccontextmanager
async def honest(service: Running) -> AsyncIterator[Honest]:
    """One who is registered and logged in, and connected to both listeners."""
    name = fresh("honest")
    account = {"username": name, "nickname": fresh("nick"), "password": PASSWORD}
    async with httpx.AsyncClient(base_url=service.http, trust_env=False) as client:
        assert (await client.post("/api/register", json=account)).status_code == 201
        opened = await client.post("/api/session", json={"identifier": name, "password": PASSWORD})
    async with connect(service.http) as web, connect(service.ws) as talk:
        await talk.send_all(upgrade("/auth/v2"))
        await read_until(talk, b"\r\n\r\n")
        yield Honest(service, web, talk, opened.json()["token"])


@asynccontextmanager
async def attacked(client: Honest) -> AsyncIterator[None]:
    """While the block attacks, the client is served; and after it, on connections new and old."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.go_on)
        yield
        nursery.cancel_scope.cancel()
    await client.is_served()


@asynccontextmanager
async def connect(address: str) -> AsyncIterator[trio.SocketStream]:
    """A connection to a listener, by its `http://…` or `ws://…`."""
    host, _, port = address.rpartition("/")[2].partition(":")
    stream = await trio.open_tcp_stream(host, int(port))
    try:
        yield stream
    finally:
        await trio.aclose_forcefully(stream)
