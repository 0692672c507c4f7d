"""One WebSocket connection on the wire: trio-websocket's, with every input bounded and every error kept inside.

What upstream leaves open, and this subclass closes:

- a header that is not ASCII raises UnicodeError out of wsproto's handshake, and out of the server: here it is a 400;
- other versions of HTTP, and keys that are none, are taken: here they are a 400;
- bytes sent along with the upgrade request are lost by wsproto without a word: here they are a 400;
- fragments are not counted, and text is measured in characters (python-trio/trio-websocket issue 82): here frames are
  counted, bytes are bytes, and what is too much closes with 1009;
- invalid UTF-8 and broken frames close the TCP connection without a close frame: here the client hears 1007 or 1002;
- a ping during the closing handshake raises LocalProtocolError in the reader, which ends the server: it is ignored;
- messages are taken as fast as they come: here at a rate, see `service.guards.pacing`;
- writes wait for ever for a client that does not read: here they are bounded, and a write that was broken off ends the
  connection, for nothing may follow half a frame.
"""

from __future__ import annotations

import math
from base64 import b64decode
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, cast

import trio
from trio_websocket import CloseReason, ConnectionClosed, WebSocketConnection
from wsproto import ConnectionType, WSConnection
from wsproto.connection import ConnectionState
from wsproto.events import (
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    Pong,
    RejectConnection,
    Request,
    TextMessage,
)
from wsproto.frame_protocol import CloseReason as Code
from wsproto.handshake import H11Handshake
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from service.guards.limits import SocketLimits
from service.guards.pacing import Pace
from service.guards.proxies import HOST
from service.guards.tls import TLSStream, end_sending

NONCE_BYTES: Final = 16
"""What a client's Sec-WebSocket-Key stands for in base64."""

BODY_HEADERS: Final = {b"content-length", b"transfer-encoding"}
"""Headers that announce a body, which an upgrade request has none of (RFC 6455, 4.1)."""


MESSAGES: Final = (TextMessage, BytesMessage)

SPENT: Final = H11Handshake(ConnectionType.SERVER)
"""Stands where a connection had its handshake, once that is done; nothing is ever fed to it."""


class GuardedWSConnection(WSConnection):
    """wsproto's sans-IO connection, whose handshake raises RemoteProtocolError alone, with a refusal to send."""

    def receive_data(self, data: bytes | None) -> None:
        """Take bytes from the client."""
        if self.connection is not None:
            super().receive_data(data)
            return
        handshake = self.handshake
        asked_before = handshake._initiating_request is not None  # noqa: SLF001 -- there is no public way to know
        try:
            super().receive_data(data)
        except (UnicodeError, LocalProtocolError) as error:
            raise RemoteProtocolError("bad handshake", event_hint=RejectConnection()) from error
        request = handshake._initiating_request  # noqa: SLF001 -- there is no public way to know
        if request is not None:
            parser = handshake._h11_connection  # noqa: SLF001 -- there is no public way to know
            if asked_before or parser.trailing_data[0] or not _is_upgrade(parser.their_http_version, request):
                raise RemoteProtocolError("not just a handshake", event_hint=RejectConnection())


def _is_upgrade(version: bytes | None, request: Request) -> bool:
    """Whether this is what RFC 6455, 4.2.1 asks of the request, beyond what wsproto has looked at."""
    keys = [value for name, value in request.extra_headers if name == b"sec-websocket-key"]
    try:
        sizes = [len(b64decode(key, validate=True)) for key in keys]
    except ValueError:
        return False
    has_body = any(name in BODY_HEADERS for name, _ in request.extra_headers)
    is_host = HOST.fullmatch(request.host.encode()) is not None
    return version == b"1.1" and sizes == [NONCE_BYTES] and is_host and not has_body


class WireConnection(WebSocketConnection):
    """trio-websocket's connection, server side. `serve_sockets` runs its `read`; doors see a `SocketConnection`."""

    def __init__(self, stream: trio.SocketStream | TLSStream, limits: SocketLimits, slowed: Callable[[], None]) -> None:
        super().__init__(
            stream,
            GuardedWSConnection(ConnectionType.SERVER),
            message_queue_size=1,
            max_message_size=limits.message_bytes,
            receive_buffer_size=limits.read_bytes,
        )
        self.limits = limits
        self.socket = stream.socket
        self._below = stream
        self.requested: trio.Event = trio.Event()
        self.request: Request | None = None
        self._frames = 0
        self.refused = False
        self._writing_since = math.inf
        self._silent_since = math.inf
        self._pace = Pace(limits.messages_per_second)
        self._slowed = slowed
        # Set once nothing that may still come is of interest: it is read and dropped.
        self._deaf = False

    @property
    def state(self) -> ConnectionState:
        """Where the protocol stands, by wsproto's reckoning."""
        return self._wsproto.state

    async def _accept(
        self, request: Request, subprotocol: str | None, extra_headers: list[tuple[bytes, bytes]]
    ) -> None:
        await super()._accept(request, subprotocol, extra_headers)
        # Its parser, and all that it has read, would stay as long as the connection: a tenth of an idle one's memory.
        self._wsproto.handshake = SPENT

    async def read(self) -> None:
        """Read until the connection is over. Run once, in a task beside the handler."""
        try:
            while await self._read_once():
                pass
        finally:
            await self._send_channel.aclose()
            self.requested.set()

    async def finish(self, code: int) -> None:
        """Close from our side, unless that has been done. Bound it from outside: a client may be slow to take it."""
        if self.state is ConnectionState.CONNECTING:
            # A client that has sent its last byte opens nothing any more, and that is no fault of ours.
            gone = 400 if self._close_reason is not None else 500
            status = 503 if code == Code.GOING_AWAY else gone
            await self._reject(status, [(b"connection", b"close")], b"")
        elif self.state is ConnectionState.OPEN:
            self._close_reason = CloseReason(code, None)
            await self._send(CloseConnection(code=code))
        await self._recv_channel.aclose()
        if self.state is ConnectionState.CLOSED:
            await self._half_close()

    @property
    def writing(self) -> bool:
        """Whether something is on its way to the client."""
        return self._writing_since != math.inf

    def silent_for(self, now: float) -> float:
        """For how long the client has said nothing, though we listen; of no moment while we do not."""
        return now - self._silent_since

    async def ask_for_life(self) -> None:
        """Ping the client. Whatever it says next shows that it is there."""
        await self._send(Ping())

    def cut_if_writing_since(self, moment: float) -> None:
        """End the connection if the client has not taken a write that began before the moment."""
        if self._writing_since < moment:
            self.cut()

    def cut(self) -> None:
        """End the connection at once; whoever reads or writes learns of it."""
        self.socket.close()

    def receive_no_more(self) -> None:
        """Wake who waits in `get_message`, with `ConnectionClosed`; messages are dropped from now on."""
        self._recv_channel.close()

    def check_open(self) -> None:
        """Raise `ConnectionClosed` if the connection is over, or was never to be."""
        if self._close_reason is not None:
            raise ConnectionClosed(self._close_reason)

    async def fail(self, code: int, why: str) -> None:
        """Close because the client broke a rule; the handler learns of it when it next receives or sends."""
        if self.state is ConnectionState.OPEN:
            self._close_reason = CloseReason(code, why)
            await self._send(CloseConnection(code=code, reason=why))
        await self._recv_channel.aclose()

    async def _half_close(self) -> None:
        """Send no more, but go on reading: data left unread makes TCP reset the connection, and the answer is lost."""
        with suppress(OSError), trio.move_on_after(self.limits.close_seconds):
            await end_sending(self._below)

    async def _read_once(self) -> bool:
        self._silent_since = trio.current_time()
        try:
            data = await self._stream.receive_some(self.limits.read_bytes)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            data = b""
        finally:
            self._silent_since = math.inf
        if not data:
            await self._abort_web_socket()
            return False
        if self._deaf or self.state is ConnectionState.CLOSED:
            return True
        try:
            self._wsproto.receive_data(bytes(data))
        except RemoteProtocolError as error:
            if isinstance(error.event_hint, RejectConnection):
                headers = [*error.event_hint.headers, (b"connection", b"close")]
                # Before the write, during which the handler may run: it must not answer as well.
                self._close_reason = CloseReason(Code.ABNORMAL_CLOSURE, None)
                await self._reject(error.event_hint.status_code, headers, b"")
                await self._half_close()
            self.refused = self._deaf = True
            self.requested.set()
            return True
        for event in self._wsproto.events():
            if not await self._take(event):
                return False
        return True

    async def _take(self, event: Event) -> bool:
        """Act on one event from the client; False when it was the last."""
        if isinstance(event, MESSAGES):
            await self._take_message(event)
        elif isinstance(event, Ping):
            if self.state is ConnectionState.OPEN:
                await self._send(event.response())
                await self._keep_pace()
        elif isinstance(event, Pong):
            await self._handle_pong_event(event)
        elif isinstance(event, CloseConnection):
            return await self._take_close(event)
        elif isinstance(event, Request):
            self.request = event
            self.requested.set()
        return True

    async def _take_message(self, event: TextMessage | BytesMessage) -> None:
        if self._close_reason is not None:
            return
        data = event.data if isinstance(event, TextMessage) else bytes(event.data)
        self._message_size += len(data) if isinstance(data, bytes) or data.isascii() else len(data.encode())
        self._frames += event.frame_finished
        self._message_parts.append(data)
        if self._message_size > self.limits.message_bytes:
            await self.fail(Code.MESSAGE_TOO_BIG, f"A message has at most {self.limits.message_bytes} bytes.")
        elif self._frames > self.limits.fragments:
            await self.fail(Code.MESSAGE_TOO_BIG, f"A message has at most {self.limits.fragments} fragments.")
        elif not event.message_finished:
            if len(self._message_parts) > self.limits.fragments:
                # One frame may trickle in byte by byte, and each piece would be an object of its own.
                self._message_parts = [_join(self._message_parts)]
            return
        parts, self._message_parts = self._message_parts, []
        self._message_size = self._frames = 0
        if self._close_reason is None:
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):  # the handler takes no more
                # Waits while the handler is busy and one message is waiting: then nothing more is read.
                await self._send_channel.send(_join(parts))
            await self._keep_pace()

    async def _keep_pace(self) -> None:
        """Wait, and read nothing meanwhile, where messages come faster than they are taken."""
        delay = self._pace.delay(trio.current_time())
        if delay > 0:
            self._slowed()
            await trio.sleep(delay)

    async def _take_close(self, event: CloseConnection) -> bool:
        if self.state is ConnectionState.OPEN:
            # Not from the client: wsproto's parser met something that is no frame, and gave up.
            self._deaf = True
            await self.fail(event.code, "This is not a valid frame.")
            return True
        if self.state is ConnectionState.REMOTE_CLOSING:
            self._close_reason = CloseReason(event.code, event.reason or None)
            await self._send(event.response())
        return False

    async def _send(self, event: Event) -> None:
        try:
            data = self._wsproto.send(event)
        except LocalProtocolError:
            raise ConnectionClosed(self._close_reason) from None
        # Uncontended, as it nearly always is, this spares a turn of the scheduler; the order stays that of the frames.
        try:
            self._stream_lock.acquire_nowait()
        except trio.WouldBlock:
            await self._stream_lock.acquire()
        sent = False
        self._writing_since = trio.current_time()
        try:
            await self._stream.send_all(data)
            sent = True
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            self._writing_since = math.inf
            self._stream_lock.release()
            if not sent:
                self.socket.close()
        if not sent:
            await self._abort_web_socket()
            raise ConnectionClosed(self._close_reason)


def _join(parts: list[Any]) -> str | bytes:
    return "".join(parts) if isinstance(parts[0], str) else b"".join(cast("list[bytes]", parts))
