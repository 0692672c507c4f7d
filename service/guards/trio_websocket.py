"""trio-websocket's server, guarded: a client that fails, drops or attacks ends its own connection and nothing else.

Upstream lets every error of a handshake, a handler or a dropped client out of `serve_websocket`, and with it ends all
connections (python-trio/trio-websocket issues 96 and 134 are two of the ways); it has no cap on connections, and at a
stop clients are cut off (1006) unless somebody closes them first. The wire itself: `service.guards.websocket_wire`.

How a handler takes part in a stop: `SocketConnection.receive` raises `ConnectionClosed` once we are stopping, while
`send` goes on working. The handler leaves its loop, finishes the answers it owes, and returns; then the client hears
1001.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import structlog
import trio
from trio_websocket import ConnectionClosed
from wsproto.events import Request
from wsproto.frame_protocol import CloseReason as Code

from service.guards.conversation import Conversation, Handler, SocketConnection, SocketRequest, by_path
from service.guards.limits import SocketLimits
from service.guards.listening import accept_until, peer_of, refuse_full
from service.guards.places import FULL_FOR_ADDRESS, Places
from service.guards.proxies import NO_PROXIES, Peers, Proxies
from service.guards.reporting import Hooks, describe
from service.guards.tls import Certificate
from service.guards.watching import watch

__all__ = ["ConnectionClosed", "Handler", "SocketConnection", "SocketRequest", "by_path", "serve_sockets"]

log: Final[structlog.stdlib.BoundLogger] = structlog.get_logger("gatebook.sockets")


async def serve_sockets(
    handler: Handler,
    *,
    sockets: Sequence[socket.socket],
    stopping: trio.Event,
    limits: SocketLimits | None = None,
    grace: float = 5.0,
    hooks: Hooks | None = None,
    proxies: Proxies = NO_PROXIES,
    tls: Certificate | None = None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve WebSocket connections on listening sockets (see `bind_tcp`), which are closed at the end.

    `handler` is called for each upgrade request and returns when the conversation is over; the connection is closed
    behind it, with 1000, or 1011 if it raised. When `stopping` is set, no more connections are accepted, open ones hear
    1001 as soon as their handler returns, and all is over within `grace` seconds: handlers that are not done
    `limits.close_seconds` before that are cancelled. Cancelled itself, it closes everything at once. What one of the
    `proxies` says of who asks is what the handler sees.
    """
    server = _Server(handler, limits or SocketLimits(), hooks or Hooks(), proxies, tls)
    async with trio.open_nursery() as watching:
        watching.start_soon(watch, server.open, server.limits, server.hooks)
        async with trio.open_nursery() as connections:
            await accept_until(stopping, sockets, server.serve_one, connections=connections, task_status=task_status)
            server.stop(trio.current_time() + max(0.0, grace - server.limits.close_seconds))
            connections.cancel_scope.deadline = trio.current_time() + grace
        watching.cancel_scope.cancel()


class _Server:
    """What all connections of one `serve_sockets` share."""

    def __init__(
        self, handler: Handler, limits: SocketLimits, hooks: Hooks, proxies: Proxies, tls: Certificate | None
    ) -> None:
        self.handler = handler
        self.limits = limits
        self.hooks = hooks
        self.peers = Peers(proxies, hooks)
        self.places = Places(limits.connections_per_address, proxies.trusts)
        self.tls = tls
        self.open: set[Conversation] = set()

    def stop(self, deadline: float) -> None:
        for conversation in self.open:
            conversation.stop(deadline)

    async def serve_one(self, stream: trio.SocketStream) -> None:
        """One connection, from accepted to closed. No Exception leaves it."""
        # A connection may be gone before it could be asked where it comes from: hence OSError.
        with suppress(OSError), self.places.place(peer_of(stream)) as has_place:
            if has_place and len(self.open) < self.limits.connections:
                secured = stream if self.tls is None else self.tls.secured(stream)
                await self._serve(Conversation(secured, self.limits, self.peers, self.hooks), stream)
            else:
                self.hooks.refused("full" if has_place else FULL_FOR_ADDRESS)
                await refuse_full(stream)

    async def _serve(self, conversation: Conversation, stream: trio.SocketStream) -> None:
        self.open.add(conversation)
        self.hooks.connections(len(self.open))
        try:
            await self._converse(conversation)
        except* ConnectionClosed:
            pass
        except* Exception as failures:  # noqa: BLE001 -- the guard itself; Cancelled and KeyboardInterrupt pass
            self._failed("a connection failed", failures)
        finally:
            self.open.discard(conversation)
            self.hooks.connections(len(self.open))
            await trio.aclose_forcefully(stream)

    async def _converse(self, conversation: Conversation) -> None:
        wire = conversation.wire
        over = trio.Event()

        async def read() -> None:
            try:
                await wire.read()
            finally:
                over.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            with conversation.asking:
                await wire.requested.wait()
            if wire.request is not None:
                code = await self._handle(conversation, wire.request)
                with trio.move_on_after(self.limits.close_seconds):
                    await wire.finish(code)
                    await over.wait()
            elif wire.refused:
                self.hooks.refused("malformed")
                with trio.move_on_after(self.limits.close_seconds):
                    await over.wait()
            elif conversation.asking.cancelled_caught and not conversation.stopping:
                self.hooks.refused("too_slow")
            nursery.cancel_scope.cancel()

    async def _handle(self, conversation: Conversation, asked: Request) -> int:
        """Run the handler; the code with which the connection is to be closed behind it."""
        failed = False
        with conversation.handling:
            try:
                await self._answer(conversation.client, SocketRequest(conversation, asked))
            except* ConnectionClosed:
                pass
            except* Exception as failures:  # noqa: BLE001 -- the client hears 1011
                failed = True
                self._failed("a handler failed", failures)
        if failed:
            return Code.INTERNAL_ERROR
        return Code.GOING_AWAY if conversation.stopping else Code.NORMAL_CLOSURE

    async def _answer(self, peer: str, asked: SocketRequest) -> None:
        if asked.client == peer:
            await self.handler(asked)
            return
        with self.places.place(asked.client) as has_place:
            if has_place:
                await self.handler(asked)
            else:
                self.hooks.refused(FULL_FOR_ADDRESS)
                await asked.reject(503, headers=[(b"retry-after", b"5")])

    def _failed(self, what: str, error: BaseException) -> None:
        log.error(what, error=describe(error))
        self.hooks.failed(error)
