"""One conversation over a WebSocket, as a handler carries it on, and how a stop reaches it."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

import trio
from trio_websocket import CloseReason, ConnectionClosed
from wsproto.events import Request
from wsproto.frame_protocol import CloseReason as Code

from service.guards.limits import SocketLimits
from service.guards.listening import peer_of
from service.guards.proxies import Peers, Seen
from service.guards.reporting import Hooks
from service.guards.tls import TLSStream
from service.guards.websocket_wire import WireConnection

GOING_AWAY: Final = CloseReason(Code.GOING_AWAY, None)


class SocketRequest:
    """An upgrade request. A handler answers it once, with `accept` or `reject`."""

    def __init__(self, conversation: Conversation, asked: Request) -> None:
        self._conversation = conversation
        self._asked = asked
        self.path: str = asked.target.partition("?")[0]
        """The path that was asked for, without the query; as sent, not decoded."""
        self.headers: list[tuple[bytes, bytes]] = list(asked.extra_headers)
        """Names in lower case; Host and the two lists below are left out by wsproto."""
        self.subprotocols: tuple[str, ...] = tuple(asked.subprotocols)
        """What the client proposes, in its order of preference."""
        seen = conversation.seen(self.headers)
        conversation.client = self.client = seen.address
        """The client's address, without its port; behind a trusted proxy, what that says it is."""
        self.host: str = asked.host if seen.host is None else seen.host.decode("ascii")
        """The Host that was asked for, as sent by the client or told by a trusted proxy."""
        self.secure: bool = conversation.secure if seen.secure is None else seen.secure
        """Whether the client is known to have come over TLS."""

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

    def __init__(self, conversation: Conversation, path: str) -> None:
        self._conversation = conversation
        self._wire = conversation.wire
        self.path: str = path
        """The path that the client asked for."""
        self.client: str = conversation.client
        """The client's address, without its port; behind a trusted proxy, what that says it is."""

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

    def expect(self, seconds: float | None) -> None:
        """Unless this is called again, close with 1008 that many seconds from now; None is for no such limit."""
        self._conversation.expect(seconds)

    def cut(self) -> None:
        """End the connection where it stands, without a word; `receive` and `send` raise from now on."""
        self._wire.cut()


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


class Conversation:
    """One connection from accepted to closed, with the cancel scopes through which a stop reaches it."""

    def __init__(self, stream: trio.SocketStream | TLSStream, limits: SocketLimits, peers: Peers, hooks: Hooks) -> None:
        self.wire = WireConnection(stream, limits, hooks.slowed)
        self.client = peer_of(stream)
        self.secure = isinstance(stream, TLSStream)
        self._peers = peers
        # For whoever watches: until when it has to be worth having, and when it was last pinged.
        self.expected_by = math.inf
        self.pinged_at = -math.inf
        self.stopping = False
        self.asking = trio.CancelScope(deadline=trio.current_time() + limits.handshake_seconds)
        self.handling = trio.CancelScope()

    def seen(self, headers: list[tuple[bytes, bytes]]) -> Seen:
        """Who asks, given the headers of the upgrade request."""
        return self._peers.seen(self.client, headers) if self._peers.trusts(self.client) else Seen(self.client)

    def expect(self, seconds: float | None) -> None:
        """Be closed that many seconds from now, or not."""
        self.expected_by = math.inf if seconds is None else trio.current_time() + seconds

    def stop(self, deadline: float) -> None:
        """Receive no more; whatever the handler still has to do, it does before the deadline."""
        self.stopping = True
        self.asking.cancel()
        self.wire.receive_no_more()
        self.handling.deadline = deadline
