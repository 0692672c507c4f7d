"""HTTP/1.1 on one guarded connection: the application only hears of requests that are whole, valid and small enough.

Hypercorn's protocol hands a request on while it is still arriving. This subclass hands it on when its last byte is in,
so that a bad chunk, a body that is too large or too slow, a forbidden pair of headers are all answered here, before
the application has begun, and nothing has to be taken back. What it refuses, and why:

- `Content-Length` together with `Transfer-Encoding`, or the latter in HTTP/1.0: request smuggling (RFC 9112, 6.1).
  Hypercorn takes both (pgjones/hypercorn issue 279), since h11 does (python-hyper/h11 issue 90).
- WebSocket upgrades: sockets have a listener of their own, and bytes after an upgrade ended the whole process
  (pgjones/hypercorn issue 225); its permessage-deflate, which cannot be switched off (issue 307), goes with them.
- HTTP/2 in the clear. Prior knowledge is refused; an `Upgrade: h2c` is ignored, as RFC 9110, 7.8 allows, and answered
  in HTTP/1.1. Hypercorn starts its h2 machine for both, and several inputs to that ended the process.
- A Host that is none (RFC 9112, 3.2): h11 takes what follows it on a line that begins with a blank for a part of it.
- Targets that are not ASCII, and CONNECT: they raised inside Hypercorn (the path is decoded as ASCII).

An answer leaves in one write instead of three: the headers wait for the first piece of the body.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto
from typing import Final, NamedTuple

import h11
from hypercorn.events import Closed, Event, RawData
from hypercorn.protocol.events import Body, EndBody, Request, Response
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.h11 import STREAM_ID, H11Protocol
from hypercorn.protocol.http_stream import HTTPStream

from service.guards.headers import NOT_KEPT_ON_THE_WIRE
from service.guards.limits import HTTPLimits
from service.guards.proxies import HOST, Headers, Seen

FINAL_STATUS: Final = 200
"""Responses below this are interim (RFC 9110, 15.2) and are not held back."""

LINE_OVERHEAD: Final = 4
"""Bytes of a header line beside name and value: colon, space, CR, LF."""


class Phase(Enum):
    """Where a connection stands between two requests; each has its own patience."""

    IDLE = auto()
    HEAD = auto()
    BODY = auto()
    ANSWERING = auto()


class Refusal(NamedTuple):
    """Why a request goes no further: the HTTP status, a word for machines and a sentence for people."""

    status: int
    word: str
    message: str


MALFORMED: Final = Refusal(400, "malformed", "This is not a well-formed HTTP/1.1 request.")
BOTH_LENGTHS: Final = Refusal(400, "malformed", "A request states its length once, not in two ways.")
NO_SOCKETS_HERE: Final = Refusal(400, "no_sockets_here", "WebSocket connections are served on another port.")
TOO_SLOW: Final = Refusal(408, "too_slow", "The request took too long to arrive.")
TOO_LARGE: Final = Refusal(413, "too_large", "The body of the request is too large.")
HEAD_TOO_LARGE: Final = Refusal(431, "too_large", "The headers of the request are too large.")
NO_SUCH_METHOD: Final = Refusal(501, "no_such_method", "The service is no proxy.")
NO_SUCH_VERSION: Final = Refusal(505, "no_such_version", "The service speaks HTTP/1.1 and HTTP/1.0.")

BEFORE_ANY_ROUTE: Final = (MALFORMED, BOTH_LENGTHS, NO_SOCKETS_HERE, TOO_SLOW, TOO_LARGE, HEAD_TOO_LARGE)
"""What any request that names a method and an address of ours may meet, before the application hears of it."""

BEFORE_ANY_TARGET: Final = (MALFORMED, TOO_SLOW, HEAD_TOO_LARGE)
"""Those among them that it may meet before anybody knows what it is for."""

Render = Callable[[Refusal, bytes], bytes]
"""Makes the JSON body of a refusal, in the shape that the application's own errors have at that target.

The target is empty where nobody knows yet what the request is for.
"""


class GuardedH11Protocol(H11Protocol):
    """Hypercorn's HTTP/1.1, with requests collected before they are handed on. One for each connection.

    `limits`, `render`, `on_phase` and `on_refused` are set by the connection before the first byte; `forwarded`, where
    the peer is a trusted proxy, says who asks through it.
    """

    limits: HTTPLimits
    render: Render
    on_phase: Callable[[Phase], None]
    on_refused: Callable[[str], None]
    on_lost: Callable[[], None]
    forwarded: Callable[[Headers], Seen] | None = None
    phase: Phase = Phase.IDLE
    _held: bytes = b""
    _target: bytes = b""

    async def handle(self, event: Event) -> None:
        """Take bytes, or the news that the client has gone: then what it asked for is given up."""
        if isinstance(event, RawData):
            if self.connection.their_state is not h11.ERROR:
                self.connection.receive_data(event.data)
                await self._handle_events()
        elif isinstance(event, Closed) and self.stream is not None:
            await self._close_stream()
            self.on_lost()

    async def refuse(self, refusal: Refusal) -> None:
        """Answer a request that the application never hears of, and close the connection."""
        self.on_refused(refusal.word)
        body = self.render(refusal, self._target)
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"connection", b"close"),
            *NOT_KEPT_ON_THE_WIRE,
            *self.config.response_headers("h11"),
        ]
        if self.connection.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            parts = [self.connection.send(h11.Response(status_code=refusal.status, headers=headers))]
            parts += [self.connection.send(h11.Data(data=body)), self.connection.send(h11.EndOfMessage())]
            await self.send(RawData(data=b"".join(parts)))
        await self.send(Closed())

    async def stream_send(self, event: StreamEvent) -> None:
        """Send one piece of an answer; headers are held until the piece that follows them."""
        if isinstance(event, Response) and event.status_code >= FINAL_STATUS:
            headers = [*event.headers, *self.config.response_headers("h11")]
            if self.context.terminated.is_set() or self.keep_alive_requests >= self.config.keep_alive_max_requests:
                headers.append((b"connection", b"close"))
            self._held = self.connection.send(h11.Response(status_code=event.status_code, headers=headers))
        elif isinstance(event, Body):
            await self._send_held(self.connection.send(h11.Data(data=event.data)))
        elif isinstance(event, EndBody):
            await self._send_held(self.connection.send(h11.EndOfMessage()))
        else:
            await super().stream_send(event)

    async def _send_held(self, data: bytes) -> None:
        data, self._held = self._held + data, b""
        if data:
            await self.send(RawData(data=data))

    def enter(self, phase: Phase) -> None:
        """Move to another phase; the connection sets its deadline accordingly."""
        if phase is not self.phase:
            self.phase = phase
            self.on_phase(phase)

    async def _handle_events(self) -> None:
        while True:
            try:
                event = self.connection.next_event()
            except h11.RemoteProtocolError as error:
                if self.phase is Phase.ANSWERING:
                    return  # It sent more after its last request, which is answered before the connection is closed.
                await self.refuse(HEAD_TOO_LARGE if error.error_status_hint == HEAD_TOO_LARGE.status else MALFORMED)
                return
            if event is h11.PAUSED:
                # The next request is already here: it waits, unread, until this one is answered.
                await self.can_read.clear()
                await self.can_read.wait()
            elif event is h11.NEED_DATA or isinstance(event, h11.ConnectionClosed):
                if self.phase is Phase.IDLE and self.connection.trailing_data[0]:
                    self.enter(Phase.HEAD)
                return
            else:
                refusal = await self._take(event)
                if refusal is not None:
                    await self.refuse(refusal)
                    return

    async def _take(self, event: object) -> Refusal | None:
        """Collect one piece of a request, and begin with it when it was the last."""
        if isinstance(event, h11.Request):
            self._target = _origin_form(event.target)
            refusal = objection(event, self.limits)
            if refusal is not None:
                return refusal
            self._request, self._body = event, bytearray()
            self.enter(Phase.BODY)
            if self.connection.they_are_waiting_for_100_continue:
                go_on = h11.InformationalResponse(status_code=100, headers=self.config.response_headers("h11"))
                await self.send(RawData(data=self.connection.send(go_on)))
        elif isinstance(event, h11.Data):
            self._body += event.data
            if len(self._body) > self.limits.body_bytes:
                return TOO_LARGE
        elif isinstance(event, h11.EndOfMessage):
            self.enter(Phase.ANSWERING)
            self._target = b""
            await self._begin(self._request, bytes(self._body))
        return None

    async def _begin(self, request: h11.Request, body: bytes) -> None:
        """Start the application on a request that is complete."""
        client, secure, headers = self.client, self.ssl, list(request.headers)
        if self.forwarded is not None:
            seen = self.forwarded(headers)
            client = (seen.address, 0)
            secure = self.ssl if seen.secure is None else seen.secure
            if seen.host is not None:
                headers = [(name, seen.host if name == b"host" else value) for name, value in headers]
        self.stream = HTTPStream(
            self.app,
            self.config,
            self.context,
            self.task_group,
            secure,
            client,
            self.server,
            self.stream_send,
            STREAM_ID,
        )
        await self.stream.handle(
            Request(
                stream_id=STREAM_ID,
                headers=headers,
                http_version=request.http_version.decode("ascii"),
                method=request.method.decode("ascii").upper(),
                raw_path=_origin_form(request.target),
                state=self.connection_state,
            )
        )
        await self.stream.app_put({"type": "http.request", "body": body, "more_body": False})
        self.keep_alive_requests += 1


def objection(request: h11.Request, limits: HTTPLimits) -> Refusal | None:
    """Why a request must not go further, judged by its head; None when it may."""
    size = len(request.method) + len(request.target)
    declared: int | None = None
    chunked, upgrade, host = False, b"", b""
    for name, value in request.headers:
        size += len(name) + len(value) + LINE_OVERHEAD
        if name == b"content-length":
            declared = int(value)
        elif name == b"transfer-encoding":
            chunked = True
        elif name == b"upgrade":
            upgrade = value.lower()
        elif name == b"host":
            host = value
    grounds = (
        (request.http_version not in (b"1.1", b"1.0"), NO_SUCH_VERSION),
        (request.method == b"CONNECT", NO_SUCH_METHOD),
        (not _is_served(request.target), MALFORMED),
        (host != b"" and not HOST.fullmatch(host), MALFORMED),
        (size > limits.head_bytes, HEAD_TOO_LARGE),
        (chunked and (declared is not None or request.http_version == b"1.0"), BOTH_LENGTHS),
        ((declared or 0) > limits.body_bytes, TOO_LARGE),
        (upgrade == b"websocket", NO_SOCKETS_HERE),
    )
    return next((refusal for holds, refusal in grounds if holds), None)


def _is_served(target: bytes) -> bool:
    return target.isascii() and (target == b"*" or target.startswith((b"/", b"http://", b"https://")))


def _origin_form(target: bytes) -> bytes:
    """Path and query of a target that may name the server too, which a server must take (RFC 9112, 3.2.2)."""
    if target.startswith((b"/", b"*")):
        return target
    authority, slash, rest = target.partition(b"://")[2].partition(b"/")
    return b"/" + (rest if slash else authority[len(authority.partition(b"?")[0]) :])
