"""A server of either kind on a loopback port of its own, and clients that send exactly the bytes they are told to."""

from __future__ import annotations

import base64
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import trio
from hypercorn.typing import ASGIFramework

from service.guards import Hooks, HTTPLimits, SocketLimits, bind_tcp
from service.guards.hypercorn import serve_http
from service.guards.proxies import NO_PROXIES, Proxies
from service.guards.tls import Certificate
from service.guards.trio_websocket import Handler, serve_sockets

PATIENCE = 10.0
"""Seconds after which a test that waits for something has failed."""


@dataclass
class Edge:
    """A server that is up, and what its hooks heard."""

    port: int
    stopping: trio.Event = field(default_factory=trio.Event)
    stopped: trio.Event = field(default_factory=trio.Event)
    failures: list[BaseException] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    unforwarded: list[str] = field(default_factory=list)
    open: int = 0
    slowed: int = 0
    _changed: trio.Event = field(default_factory=trio.Event)

    def count(self, number: int) -> None:
        self.open = number
        self._changed.set()
        self._changed = trio.Event()

    def slow(self) -> None:
        self.slowed += 1

    async def until_open(self, number: int) -> None:
        with trio.fail_after(PATIENCE):
            while self.open != number:
                await self._changed.wait()

    async def connect(self) -> trio.SocketStream:
        return await trio.open_tcp_stream("127.0.0.1", self.port)

    async def tell(self, data: bytes) -> bytes:
        """Send some bytes on a new connection; everything that comes back until the server closes it."""
        async with await self.connect() as stream:
            await stream.send_all(data)
            return await read_all(stream)

    async def is_answering(self) -> bool:
        """Whether an honest client is served."""
        answer = await self.tell(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        return answer.startswith(b"HTTP/1.1 200")


async def read_all(stream: trio.abc.ReceiveStream) -> bytes:
    data = bytearray()
    with trio.fail_after(PATIENCE):
        try:
            while more := await stream.receive_some():
                data += more
        except trio.BrokenResourceError:
            data += b"<reset>"
    return bytes(data)


async def read_until(stream: trio.abc.ReceiveStream, ending: bytes) -> bytes:
    data = bytearray()
    with trio.fail_after(PATIENCE):
        while not data.endswith(ending):
            more = await stream.receive_some()
            assert more, f"closed after {bytes(data)!r}"
            data += more
    return bytes(data)


@asynccontextmanager
async def _serving(serve: Callable[..., Any], **options: Any) -> AsyncIterator[Edge]:
    sockets = bind_tcp("127.0.0.1", 0)
    edge = Edge(sockets[0].getsockname()[1])
    hooks = Hooks(
        failed=edge.failures.append,
        refused=edge.refused.append,
        slowed=edge.slow,
        unforwarded=edge.unforwarded.append,
        connections=edge.count,
    )

    async def run(task_status: trio.TaskStatus[None]) -> None:
        await serve(sockets=sockets, stopping=edge.stopping, hooks=hooks, task_status=task_status, **options)
        edge.stopped.set()

    async with trio.open_nursery() as nursery:
        await nursery.start(run)
        yield edge
        nursery.cancel_scope.cancel()


def serving_http(
    app: ASGIFramework,
    *,
    grace: float = 5.0,
    proxies: Proxies = NO_PROXIES,
    tls: Certificate | None = None,
    **limits: Any,
) -> Any:
    return _serving(partial(serve_http, app), grace=grace, proxies=proxies, tls=tls, limits=HTTPLimits(**limits))


def serving_sockets(
    handler: Handler,
    *,
    grace: float = 5.0,
    proxies: Proxies = NO_PROXIES,
    tls: Certificate | None = None,
    **limits: Any,
) -> Any:
    return _serving(
        partial(serve_sockets, handler), grace=grace, proxies=proxies, tls=tls, limits=SocketLimits(**limits)
    )


def upgrade(path: str = "/", **headers: bytes) -> bytes:
    """An upgrade request; keywords (`Sec_WebSocket_Protocol`) add or replace headers."""
    lines = {
        b"host": b"x",
        b"connection": b"Upgrade",
        b"upgrade": b"websocket",
        b"sec-websocket-version": b"13",
        b"sec-websocket-key": base64.b64encode(bytes(16)),
    }
    lines |= {name.replace("_", "-").lower().encode(): value for name, value in headers.items()}
    return b"GET %s HTTP/1.1\r\n%s\r\n" % (path.encode(), b"".join(b"%s: %s\r\n" % line for line in lines.items()))


def frame(opcode: int, payload: bytes = b"", *, final: bool = True) -> bytes:
    """A masked frame (the mask is zero, so that the payload stands as it is)."""
    length = len(payload)
    if length <= 125:
        size = bytes([0x80 | length])
    elif length <= 0xFFFF:
        size = bytes([0x80 | 126]) + struct.pack("!H", length)
    else:
        size = bytes([0x80 | 127]) + struct.pack("!Q", length)
    return bytes([(0x80 if final else 0) | opcode]) + size + bytes(4) + payload


def closing_code(answer: bytes) -> int | None:
    """The code of the close frame with which an answer ends, if it does."""
    _, _, frames = answer.partition(b"\r\n\r\n")
    while frames:
        opcode, length = frames[0] & 0x0F, frames[1]
        offset = 2
        if length == 126:
            length, offset = struct.unpack("!H", frames[2:4])[0], 4
        payload, frames = frames[offset : offset + length], frames[offset + length :]
        if opcode == 8:
            return int(struct.unpack("!H", payload[:2])[0])
    return None
