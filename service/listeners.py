"""The listeners: what is served on each, for whom, and within which bounds.

The tasks behind them all run in the doors' nursery of `service.app`.
"""

from __future__ import annotations

import socket
from contextlib import ExitStack
from functools import partial

import trio
from hypercorn.typing import ASGIFramework
from msgspec import Struct

from service.address import parse_network
from service.guards import Certificate, HTTPLimits, Proxies, SocketLimits, bind_tcp, bound_address
from service.guards.http1 import Render
from service.guards.hypercorn import render_refusal, serve_http
from service.guards.trio_websocket import by_path, serve_sockets
from service.metrics import metrics_app
from service.parts import Parts
from service.settings import Settings
from service.sockets.react_auth import react_auth_handlers
from service.sockets.route import route_handlers
from service.sockets.same_origin import for_our_pages
from service.web.app import create_app
from service.web.cookies import SessionCookies
from service.web.origins import Origins


class Listening(Struct, frozen=True):
    """Where the service can be reached, once it can: the addresses with the real ports."""

    http: str
    ws: str
    metrics: str | None


class Sockets(Struct, frozen=True):
    """The listening sockets."""

    http: list[socket.socket]
    ws: list[socket.socket]
    metrics: list[socket.socket]

    @property
    def listening(self) -> Listening:
        """Where they listen."""
        metrics = bound_address(self.metrics[0]) if self.metrics else None
        return Listening(bound_address(self.http[0]), bound_address(self.ws[0]), metrics)


def bind_all(settings: Settings, opened: ExitStack) -> Sockets:
    """Binds every listener first, so that a port in use is told before a store is made."""
    bound: list[list[socket.socket]] = []
    for address in (settings.http, settings.ws, settings.metrics):
        bound.append([] if address is None else bind_tcp(address.host, address.port))
        for one in bound[-1]:
            opened.callback(one.close)
    return Sockets(*bound)


def certificate_of(settings: Settings) -> Certificate | None:
    """The certificate that `http` and `ws` show, if any. Raises TLSError where it is no good."""
    if settings.tls_certificate is None or settings.tls_key is None:
        return None
    return Certificate(settings.tls_certificate, settings.tls_key)


async def open_doors(
    settings: Settings,
    parts: Parts,
    sockets: Sockets,
    certificate: Certificate | None,
    stopping: trio.Event,
    doors: trio.Nursery,
) -> None:
    """Serves everything, in tasks of the nursery; returns once requests are answered."""
    hooks = parts.observation.hooks
    grace = settings.stop_grace_seconds
    proxies = Proxies(tuple(map(parse_network, settings.trusted_proxies)), settings.proxy_header)
    doors.start_soon(parts.tails.end_at, stopping)

    async def web(
        app: ASGIFramework,
        listener: str,
        where: list[socket.socket],
        render: Render = render_refusal,
        tls: Certificate | None = None,
    ) -> None:
        limits = HTTPLimits(
            body_bytes=settings.body_bytes,
            connections=settings.max_connections_http,
            connections_per_address=settings.connections_per_address,
            hsts_seconds=settings.hsts_seconds,
            idle_seconds=settings.keep_alive_seconds,
            head_seconds=settings.head_seconds,
            body_seconds=settings.body_seconds,
            write_seconds=settings.write_seconds,
        )
        served = partial(serve_http, app, sockets=where, limits=limits, hooks=hooks(listener), render=render)
        await doors.start(
            partial(served, proxies=proxies, tls=tls, stopping=stopping, grace=grace), name=f"{listener} listener"
        )

    cookies = SessionCookies(
        parts.cookies, parts.clock, development=settings.development, device_days=settings.device_days
    )
    origins = Origins(settings.trusted_origins)
    app = create_app(
        parts.gate,
        parts.guests,
        parts.admin,
        parts.unready,
        parts.metrics,
        cookies=cookies,
        tokens=parts.access_tokens,
        clients=parts.clients,
        origins=origins,
        body_bytes=settings.body_bytes,
    )
    await web(app, "http", sockets.http, app.unheard, certificate)
    if sockets.metrics:
        await web(metrics_app(parts.metrics), "metrics", sockets.metrics)
    limits = SocketLimits(
        message_bytes=settings.message_bytes,
        fragments=settings.message_fragments,
        handshake_seconds=settings.head_seconds,
        write_seconds=settings.write_seconds,
        ping_seconds=settings.ping_seconds,
        messages_per_second=settings.messages_per_second,
        connections=settings.max_connections_ws,
        connections_per_address=settings.connections_per_address,
    )
    behind = parts.gate, parts.registry, parts.metrics
    handlers = route_handlers(*behind, settings.socket_idle_seconds)
    handlers |= react_auth_handlers(*behind, settings.resume_seconds)
    handler = for_our_pages(by_path(handlers), origins, parts.metrics)
    served = partial(serve_sockets, handler, sockets=sockets.ws, limits=limits, hooks=hooks("ws"))
    served = partial(served, proxies=proxies, tls=certificate, stopping=stopping, grace=grace)
    await doors.start(served, name="socket listener")
