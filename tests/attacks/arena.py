"""Races: contenders who stand at one barrier, each with a request that lacks its last byte, and then go at once."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, Protocol, TypeVar

import h11
import trio
from trio_websocket import WebSocketConnection, wrap_client_stream

from tests.attacks.asking import COOKIE
from tests.conformance.running import PATIENCE, Running

T = TypeVar("T")


class Answer(NamedTuple):
    """What came of a request: the status, the body out of its JSON, and the cookie that was set."""

    status: int
    body: Any
    cookie: str


class Contender(Protocol):
    """Whoever stands at the barrier."""

    async def ready(self) -> None:
        """All that goes before; but for one last byte or message it is done."""

    async def go(self) -> Answer:
        """The rest, and what came of it."""


class Arena:
    """Open connections to services; all are closed with it."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._streams: list[trio.SocketStream] = []

    def http(self, service: Running, method: str, path: str, **what: Any) -> HTTP:
        """A request over a connection of its own; keywords as for `HTTP`."""
        return HTTP(self, service.http, method, path, **what)

    def socket(self, service: Running, path: str, message: object, *before: object) -> Socket:
        """A message over a socket of its own, after others whose answers are passed over."""
        return Socket(self, service.ws, path, message, before)

    async def connect(self, address: str) -> trio.SocketStream:
        """A stream to `scheme://host:port`."""
        host, _, port = address.rpartition("/")[2].rpartition(":")
        stream = await trio.open_tcp_stream(host, int(port))
        self._streams.append(stream)
        return stream

    async def upgrade(self, address: str, path: str) -> WebSocketConnection:
        """A socket there."""
        stream = await self.connect(address)
        return await wrap_client_stream(self._nursery, stream, address.rpartition("/")[2], path)

    async def race(self, *contenders: Contender) -> list[Answer]:
        """The answers, in the order of the contenders."""
        await together(contender.ready for contender in contenders)
        return await together(contender.go for contender in contenders)

    async def close(self) -> None:
        """Cuts all connections."""
        with trio.CancelScope(shield=True):
            for stream in self._streams:
                await trio.aclose_forcefully(stream)


@asynccontextmanager
async def arena() -> AsyncIterator[Arena]:
    """An arena for one test, which fails when it is not over in time."""
    with trio.fail_after(2 * PATIENCE):
        async with trio.open_nursery() as nursery:
            found = Arena(nursery)
            try:
                yield found
            finally:
                await found.close()


async def together(callables: Iterable[Callable[[], Awaitable[T]]]) -> list[T]:
    """What all of them return, run at once, in their order."""
    found: dict[int, T] = {}

    async def keep(number: int, call: Callable[[], Awaitable[T]]) -> None:
        found[number] = await call()

    async with trio.open_nursery() as nursery:
        for number, call in enumerate(callables):
            nursery.start_soon(keep, number, call)
    return [found[number] for number in sorted(found)]


class HTTP:
    """One request over a connection of its own, which may be asked again and again.

    `body` goes as JSON, `form` as a form.
    """

    def __init__(
        self,
        arena: Arena,
        address: str,
        method: str,
        path: str,
        *,
        token: str | None = None,
        cookie: str | None = None,
        body: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._arena = arena
        self._address = address
        self._stream: trio.SocketStream | None = None
        self._http = h11.Connection(h11.CLIENT)
        data = b"" if body is None else body.encode() if isinstance(body, str) else json.dumps(body).encode()
        sent = {"Host": address.rpartition("/")[2], "Content-Length": str(len(data))}
        if data:
            sent["Content-Type"] = "application/x-www-form-urlencoded" if isinstance(body, str) else "application/json"
        sent |= {} if token is None else {"Authorization": f"Bearer {token}"}
        sent |= {} if cookie is None else {"Cookie": f"{COOKIE}={cookie}"}
        self._request = h11.Request(method=method, target=path, headers=list((sent | dict(headers or {})).items()))
        self._data = data
        self._last = b""

    async def ready(self) -> None:
        """See Contender."""
        if self._stream is None:
            self._stream = await self._arena.connect(self._address)
        else:
            self._http.start_next_cycle()
        said = [self._http.send(event) or b"" for event in (self._request, h11.Data(self._data), h11.EndOfMessage())]
        written = b"".join(said)
        self._last = written[-1:]
        await self._stream.send_all(written[:-1])

    async def go(self) -> Answer:
        """See Contender."""
        assert self._stream is not None
        await self._stream.send_all(self._last)
        status, cookie, content = 0, "", b""
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                self._http.receive_data(await self._stream.receive_some())
            elif isinstance(event, h11.Response):
                status = event.status_code
                cookie = dict(event.headers).get(b"set-cookie", b"").decode().partition(";")[0].partition("=")[2]
            elif isinstance(event, h11.Data):
                content += event.data
            else:
                assert isinstance(event, h11.EndOfMessage), event
                return Answer(status, json.loads(content) if content else None, cookie)

    async def ask(self) -> Answer:
        """Both, without a barrier."""
        await self.ready()
        return await self.go()


class Socket:
    """A message over a socket of its own, which may be said again and again."""

    def __init__(self, arena: Arena, address: str, path: str, message: object, before: Iterable[object]) -> None:
        self._arena = arena
        self._address = address
        self._path = path
        self._message = message
        self._before = before
        self._socket: WebSocketConnection | None = None

    async def ready(self) -> None:
        """See Contender."""
        if self._socket is None:
            self._socket = await self._arena.upgrade(self._address, self._path)
            for message in self._before:
                await self._say(message)

    async def go(self) -> Answer:
        """See Contender. The status is an error packet's code, else 200."""
        body = await self._say(self._message)
        refused = body.get("error") is True
        return Answer(body["data"]["error_code"] if refused else 200, body, "")

    async def ask(self) -> Answer:
        """Both, without a barrier."""
        await self.ready()
        return await self.go()

    async def hear(self) -> Any:
        """What comes unasked."""
        assert self._socket is not None
        return json.loads(await self._socket.get_message())

    async def _say(self, message: object) -> Any:
        assert self._socket is not None
        await self._socket.send_message(json.dumps(message))
        return json.loads(await self._socket.get_message())
