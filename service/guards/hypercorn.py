"""Hypercorn's trio server, guarded: whatever a client sends ends that client's own connection and nothing else.

Hypercorn's `TCPServer` catches OSError alone, so that any other exception cancels the nursery of all connections
(pgjones/hypercorn issues 225 and 177; what pull request 228 did about it is not in 0.18.0). Beside that, it

- never closes after `Connection: close` under Quart-Trio, and skips closing when it is cancelled (issue 106): closing
  here is one call that cannot be cancelled, after which the connection is only read, for a moment, and cut;
- shields each write without a limit, so that a client which does not read holds up a stop: writes here are bounded,
  and a write that was broken off ends its connection, for nothing may follow half an answer;
- has no limit on slow headers, and starts a task for each wait between requests: here one cancel scope around reading
  carries the deadline of whatever is being waited for.

HTTP/2 is the business of a proxy in front of us; TLS may be, see `service.guards.tls`.
"""

from __future__ import annotations

import math
import socket
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Final

import msgspec
import structlog
import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.trio.lifespan import Lifespan
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import (
    AppWrapper,
    ASGIFramework,
    ConnectionState,
    LifespanState,
)
from hypercorn.utils import parse_socket_addr

from service.guards.http1 import TOO_SLOW, GuardedH11Protocol, Phase, Refusal, Render
from service.guards.hypercorn_config import GuardedConfig
from service.guards.limits import HTTPLimits
from service.guards.listening import accept_until, peer_of, refuse_full
from service.guards.places import FULL_FOR_ADDRESS, Places
from service.guards.proxies import NO_PROXIES, Peers, Proxies
from service.guards.reporting import Hooks, describe
from service.guards.requests import Requests
from service.guards.tls import Certificate, TLSStream, end_sending

log: Final[structlog.stdlib.BoundLogger] = structlog.get_logger("gatebook.http")

READ_BYTES: Final = 16 * 1024


def render_refusal(refusal: Refusal, _: bytes = b"") -> bytes:
    """`{"error": {"code", "message"}}`: what a refused client reads, unless the caller brings shapes of its own."""
    return msgspec.json.encode({"error": {"code": refusal.word, "message": refusal.message}})


async def serve_http(
    app: ASGIFramework,
    *,
    sockets: Sequence[socket.socket],
    stopping: trio.Event,
    limits: HTTPLimits | None = None,
    grace: float = 5.0,
    hooks: Hooks | None = None,
    render: Render = render_refusal,
    proxies: Proxies = NO_PROXIES,
    tls: Certificate | None = None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve an ASGI application on listening sockets (see `bind_tcp`), which are closed at the end.

    Reports started once the application's lifespan has begun and connections are accepted. When `stopping` is set, no
    more are accepted, idle ones are closed at once, requests in flight are answered within `grace` seconds, and it
    returns. Cancelled, it closes everything at once. An application whose start-up fails raises, in an exception group.
    What one of the `proxies` says of who asks is what the application sees: the client's address, scheme and host.
    """
    server = _Server(app, limits or HTTPLimits(), hooks or Hooks(), render, proxies, tls)
    lifespan = Lifespan(server.app, server.config, server.state)
    async with trio.open_nursery() as lifespans:
        await lifespans.start(lifespan.handle_lifespan)
        await lifespan.wait_for_startup()
        async with trio.open_nursery() as connections:
            await accept_until(stopping, sockets, server.serve_one, connections=connections, task_status=task_status)
            await server.stop()
            connections.cancel_scope.deadline = trio.current_time() + grace
        await lifespan.wait_for_shutdown()
        lifespans.cancel_scope.cancel()


class _Server:
    """What all connections of one `serve_http` share."""

    def __init__(
        self,
        app: ASGIFramework,
        limits: HTTPLimits,
        hooks: Hooks,
        render: Render,
        proxies: Proxies,
        tls: Certificate | None,
    ) -> None:
        self.app: AppWrapper = ASGIWrapper(app)
        self.limits = limits
        self.hooks = hooks
        self.render = render
        self.peers = Peers(proxies, hooks)
        self.places = Places(limits.connections_per_address, proxies.trusts)
        self.tls = tls
        self.config = GuardedConfig(limits, secure=tls is not None)
        self.state: LifespanState = {}
        self.context = WorkerContext(max_requests=None)
        self.open: set[GuardedTCPServer] = set()

    async def serve_one(self, stream: trio.SocketStream) -> None:
        """One connection, from accepted to closed. No Exception leaves it."""
        # A connection may be gone before it could be asked where it comes from: hence OSError.
        with suppress(OSError), self.places.place(peer_of(stream)) as has_place:
            if has_place and len(self.open) < self.limits.connections:
                await self._serve(GuardedTCPServer(self, stream if self.tls is None else self.tls.secured(stream)))
            else:
                self.hooks.refused("full" if has_place else FULL_FOR_ADDRESS)
                await refuse_full(stream)

    async def _serve(self, connection: GuardedTCPServer) -> None:
        self.open.add(connection)
        self.hooks.connections(len(self.open))
        try:
            await connection.run()
        except* Exception as failures:  # noqa: BLE001 -- the guard itself; Cancelled and KeyboardInterrupt pass
            self.failed("a connection failed", failures)
        finally:
            self.open.discard(connection)
            self.hooks.connections(len(self.open))

    async def stop(self) -> None:
        """Let each connection end as soon as it owes no answer."""
        await self.context.terminated.set()
        for connection in self.open:
            connection.close_if_idle()

    def failed(self, what: str, error: BaseException) -> None:
        log.error(what, error=describe(error))
        self.hooks.failed(error)


class GuardedTCPServer(TCPServer):
    """One connection of Hypercorn's, for HTTP/1.1."""

    stream: trio.SocketStream | TLSStream  # type: ignore[assignment]  # Hypercorn asks for its own and takes both

    def __init__(self, server: _Server, stream: trio.SocketStream | TLSStream) -> None:
        state = ConnectionState(server.state.copy())
        super().__init__(server.app, server.config, server.context, state, stream)  # type: ignore[arg-type]  # it asks for an SSLStream and takes both
        self.limits = server.limits
        self.tasks = Requests(server.failed)
        # Around everything that is read; cancelled, it ends the connection.
        self.reading = trio.CancelScope()
        self.closing = False
        address = stream.socket.getsockname(), stream.socket.getpeername()
        here, there = (parse_socket_addr(stream.socket.family, each) for each in address)
        self.http = GuardedH11Protocol(
            server.app, server.config, server.context, self.tasks, state, server.tls is not None, there, here,
            self.protocol_send,
        )  # fmt: skip
        self.http.limits = server.limits
        self.http.render = server.render
        self.http.on_refused = self.on_refused = server.hooks.refused
        self.http.on_phase = self._enter
        self.http.on_lost = self.tasks.give_up
        peer = peer_of(stream)
        if server.peers.trusts(peer):
            self.http.forwarded = partial(server.peers.seen, peer)

    async def run(self) -> None:
        """Serve the connection until either side ends it."""
        try:
            async with self.tasks:
                self._enter(Phase.IDLE)
                await self._read_data()
        finally:
            await trio.aclose_forcefully(self.stream)

    async def protocol_send(self, event: Event) -> None:
        """Take what the protocol wants done: bytes sent, the connection closed, or word that it is idle again."""
        if isinstance(event, RawData):
            await self._write(event.data)
        elif isinstance(event, Closed):
            await self._close_gently()
        elif isinstance(event, Updated) and event.idle:
            self.http.enter(Phase.IDLE)

    def close_if_idle(self) -> None:
        """End the connection unless a request on it awaits its answer."""
        if self.http.phase is not Phase.ANSWERING:
            self.closing = True
            self.reading.cancel()

    async def _read_data(self) -> None:
        with self.reading:
            try:
                if isinstance(self.stream, TLSStream):
                    await self._shake_hands(self.stream)
                while data := await self.stream.receive_some(READ_BYTES):
                    # Once closing, what still comes is read and dropped: unread, it would make TCP reset the connection
                    # and take the answer that is under way with it.
                    if not self.closing:
                        await self.http.handle(RawData(bytes(data)))
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass
        if self.reading.cancelled_caught and not self.closing and self.http.phase in {Phase.HEAD, Phase.BODY}:
            await self.http.refuse(TOO_SLOW)
        self.closing = True
        await self.http.handle(Closed())

    async def _shake_hands(self, stream: TLSStream) -> None:
        self.reading.deadline = trio.current_time() + self.limits.head_seconds
        done = False
        try:
            await stream.do_handshake()
            done = True
        finally:
            if not done:
                self.on_refused("handshake")
        self.reading.deadline = trio.current_time() + self.limits.idle_seconds

    async def _write(self, data: bytes) -> None:
        if self.closing:
            return
        sent = False
        try:
            with trio.move_on_after(self.limits.write_seconds):
                await self.stream.send_all(data)
                sent = True
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            if not sent:
                self.closing = True
                self.reading.cancel()

    async def _close_gently(self) -> None:
        if self.closing:
            return
        self.closing = True
        self.reading.deadline = trio.current_time() + self.limits.linger_seconds
        try:
            # Shielded, since it may be called by a task that Quart-Trio cancels meanwhile.
            with trio.move_on_after(self.limits.linger_seconds, shield=True):
                await end_sending(self.stream)
        except OSError:
            self.reading.cancel()

    def _enter(self, phase: Phase) -> None:
        if self.closing:
            return
        if phase is Phase.IDLE and self.context.terminated.is_set():
            self.reading.cancel()
        self.reading.deadline = trio.current_time() + self._patience(phase)

    def _patience(self, phase: Phase) -> float:
        if phase is Phase.ANSWERING:
            return math.inf
        if phase is Phase.IDLE:
            return self.limits.idle_seconds
        return self.limits.head_seconds if phase is Phase.HEAD else self.limits.body_seconds
