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
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

import structlog
import trio
from trio_websocket import CloseReason, ConnectionClosed
from wsproto.events import Request
from wsproto.frame_protocol import CloseReason as Code

from service.guards.limits import SocketLimits
from service.guards.listening import accept_until, refuse_full
from service.guards.reporting import Hooks, describe
from service.guards.websocket_wire import WireConnection

__all__ = ["ConnectionClosed", "Handler", "SocketConnection", "SocketRequest", "by_path", "serve_sockets"]

log: Final[structlog.stdlib.BoundLogger] = structlog.get_logger("gatebook.sockets")

GOING_AWAY: Final = CloseReason(Code.GOING_AWAY, None)


async def serve_sockets(
    handler: Handler,
    *,
    sockets: Sequence[socket.socket],
    stopping: trio.Event,
    limits: SocketLimits | None = None,
    grace: float = 5.0,
    hooks: Hooks | None = None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve WebSocket connections on listening sockets (see `bind_tcp`), which are closed at the end.

    `handler` is called for each upgrade request and returns when the conversation is over; the connection is closed
    behind it, with 1000, or 1011 if it raised. When `stopping` is set, no more connections are accepted, open ones hear
    1001 as soon as their handler returns, and all is over within `grace` seconds: handlers that are not done
    `limits.close_seconds` before that are cancelled. Cancelled itself, it closes everything at once.
    """
    server = _Server(handler, limits or SocketLimits(), hooks or Hooks())
    async with trio.open_nursery() as watching:
        watching.start_soon(server.watch_writes)
        async with trio.open_nursery() as connections:
            await accept_until(stopping, sockets, server.serve_one, connections=connections, task_status=task_status)
            server.stop(trio.current_time() + max(0.0, grace - server.limits.close_seconds))
            connections.cancel_scope.deadline = trio.current_time() + grace
        watching.cancel_scope.cancel()


class SocketRequest:
    """An upgrade request. A handler answers it once, with `accept` or `reject`."""

    def __init__(self, conversation: _Conversation, asked: Request) -> None:
        self._conversation = conversation
        self._asked = asked
        self.path: str = asked.target.partition("?")[0]
        """The path that was asked for, without the query; as sent, not decoded."""
        self.headers: list[tuple[bytes, bytes]] = list(asked.extra_headers)
        """Names in lower case; Host and the two lists below are left out by wsproto."""
        self.subprotocols: tuple[str, ...] = tuple(asked.subprotocols)
        """What the client proposes, in its order of preference."""

    async def accept(
        self, *, subprotocol: str | None = None, headers: Sequence[tuple[bytes, bytes]] = ()
    ) -> SocketConnection:
        """Open the connection. Raises `ConnectionClosed` when the client has gone, or when we are stopping."""
        if self._conversation.stopping:
            raise ConnectionClosed(GOING_AWAY)
        self._conversation.wire.check_open()
        await self._conversation.wire._accept(self._asked, subprotocol, list(headers))  # noqa: SLF001 -- what upstream's own request does
        return SocketConnection(self._conversation, self.path)

    async def reject(self, status: int, *, headers: Sequence[tuple[bytes, bytes]] = (), body: bytes = b"") -> None:
        """Answer with an HTTP status instead; the connection is closed. Raises `ConnectionClosed`."""
        self._conversation.wire.check_open()
        everything = [*headers, (b"connection", b"close")]
        await self._conversation.wire._reject(status, everything, body)  # noqa: SLF001 -- what upstream's own request does


class SocketConnection:
    """An open WebSocket connection, as a handler sees it. Any task may send; one at a time may receive."""

    def __init__(self, conversation: _Conversation, path: str) -> None:
        self._conversation = conversation
        self._wire = conversation.wire
        self.path: str = path
        """The path that the client asked for."""
        self.client: str = conversation.client
        """The client's address, without its port."""

    @property
    def stopping(self) -> bool:
        """Whether the service is stopping: nothing more will be received, and answers in hand should be sent."""
        return self._conversation.stopping

    async def receive(self) -> str | bytes:
        """The next message. Raises `ConnectionClosed` when the client has closed or gone, or when we are stopping."""
        try:
            return await self._wire.get_message()
        except ConnectionClosed:
            if self._conversation.stopping:
                raise ConnectionClosed(GOING_AWAY) from None
            raise

    async def receive_text(self) -> str:
        """As `receive`, for protocols of text: a binary message closes the connection with 1003."""
        message = await self.receive()
        if isinstance(message, str):
            return message
        await self.close(Code.UNSUPPORTED_DATA, "Messages are text.")
        raise ConnectionClosed(self._wire.closed)

    async def send(self, message: str | bytes) -> None:
        """Send one message, waiting for a slow client no longer than the write limit. Raises `ConnectionClosed`."""
        await self._wire.send_message(message)

    async def close(self, code: int, reason: str = "") -> None:
        """Say that this is over; `receive` and `send` raise from now on. Does not wait for the client to agree."""
        await self._wire.fail(code, reason)


Handler = Callable[[SocketRequest], Awaitable[None]]
"""Carries on one conversation: answers the request, and returns when it is over."""


def by_path(handlers: Mapping[str, Handler]) -> Handler:
    """A handler that hands on to the one for the path that was asked for; for other paths the answer is 404."""

    async def route(request: SocketRequest) -> None:
        handler = handlers.get(request.path)
        if handler is None:
            await request.reject(404)
        else:
            await handler(request)

    return route


class _Conversation:
    """One connection from accepted to closed, with the cancel scopes through which a stop reaches it."""

    def __init__(self, stream: trio.SocketStream, limits: SocketLimits) -> None:
        self.wire = WireConnection(stream, limits)
        self.client = str(stream.socket.getpeername()[0])
        self.stopping = False
        self.asking = trio.CancelScope(deadline=trio.current_time() + limits.handshake_seconds)
        self.handling = trio.CancelScope()

    def stop(self, deadline: float) -> None:
        """Receive no more; whatever the handler still has to do, it does before the deadline."""
        self.stopping = True
        self.asking.cancel()
        self.wire.receive_no_more()
        self.handling.deadline = deadline


class _Server:
    """What all connections of one `serve_sockets` share."""

    def __init__(self, handler: Handler, limits: SocketLimits, hooks: Hooks) -> None:
        self.handler = handler
        self.limits = limits
        self.hooks = hooks
        self.open: set[_Conversation] = set()

    def stop(self, deadline: float) -> None:
        for conversation in self.open:
            conversation.stop(deadline)

    async def watch_writes(self) -> None:
        """Cut clients that do not read: one task for all, since a deadline for each write costs a fifth of an echo."""
        while True:
            await trio.sleep(self.limits.write_seconds / 4)
            for conversation in self.open:
                conversation.wire.cut_if_writing_since(trio.current_time() - self.limits.write_seconds)

    async def serve_one(self, stream: trio.SocketStream) -> None:
        """One connection, from accepted to closed. No Exception leaves it."""
        if len(self.open) >= self.limits.connections:
            self.hooks.refused("full")
            await refuse_full(stream)
            return
        try:
            conversation = _Conversation(stream, self.limits)
        except OSError:
            return  # It was gone before it could be asked where it came from.
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

    async def _converse(self, conversation: _Conversation) -> None:
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

    async def _handle(self, conversation: _Conversation, asked: Request) -> int:
        """Run the handler; the code with which the connection is to be closed behind it."""
        failed = False
        with conversation.handling:
            try:
                await self.handler(SocketRequest(conversation, asked))
            except* ConnectionClosed:
                pass
            except* Exception as failures:  # noqa: BLE001 -- the client hears 1011
                failed = True
                self._failed("a handler failed", failures)
        if failed:
            return Code.INTERNAL_ERROR
        return Code.GOING_AWAY if conversation.stopping else Code.NORMAL_CLOSURE

    def _failed(self, what: str, error: BaseException) -> None:
        log.error(what, error=describe(error))
        self.hooks.failed(error)
