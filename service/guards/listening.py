"""Listening sockets: binding them with errors that say what to do, and accepting from them until told to stop."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final, TypeAlias

import trio

from service.guards.tls import TLSStream

BACKLOG: Final = 1024
"""Connections that may wait to be accepted; the system cuts this to its own limit."""

HIGHEST_PORT: Final = 65_535

PORT_TRIES: Final = 16
"""How often a free port is sought that is free on every address of the host."""

KEEPALIVE_SECONDS: Final = 60
"""A peer silent for so long is probed by TCP, so that a host that vanished does not hold a place for ever."""

VANISHED_MILLISECONDS: Final = 120_000
"""A peer that does not acknowledge what it was sent for so long is given up. TCP itself tries for a quarter of an hour,
and a keepalive is not sent meanwhile: an answer without an end would stay open to a host that vanished."""

FULL: Final = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 5\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"

_MISSING_FAMILY: Final = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}

_REASONS: Final = {
    errno.EADDRINUSE: "another program is using it; stop that one or choose another port",
    errno.EACCES: "this user may not listen there; ports below 1024 need privileges, choose a higher one",
    errno.EPERM: "this user may not listen there; ports below 1024 need privileges, choose a higher one",
    errno.EADDRNOTAVAIL: "this machine has no such address",
    errno.EAFNOSUPPORT: "this machine does not speak that kind of address",
}


Address: TypeAlias = tuple[Any, ...]
"""An address as the socket module has it: host, port, and for IPv6 two more."""


class ListenError(Exception):
    """An address cannot be listened on. Raised by `bind_tcp` only; its text is one sentence for whoever starts us."""

    def __init__(self, host: str, port: int, reason: str) -> None:
        self.host = host
        self.port = port
        self.reason = reason
        super().__init__(f"Cannot listen on {_join(host, port)}: {reason}.")


def bind_tcp(host: str, port: int) -> list[socket.socket]:
    """Listening sockets for every address that `host` resolves to, all on one port; port 0 takes a free one.

    Blocks while the name is resolved: call it before there is anything to keep waiting. The caller owns the sockets
    until they are handed to a server. Raises `ListenError`.
    """
    if not 0 <= port <= HIGHEST_PORT:
        raise ListenError(host, port, f"a port is a number from 0 to {HIGHEST_PORT}")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise ListenError(host, port, "the host name cannot be resolved") from error
    addresses: list[tuple[socket.AddressFamily, Address]] = []
    for family, _, _, _, address in found:
        if (family, address) not in addresses:
            addresses.append((family, address))
    for _ in range(PORT_TRIES if port == 0 and len(addresses) > 1 else 1):
        try:
            return _bind_all(addresses, port)
        except OSError as error:
            failure = error
    reason = _REASONS.get(failure.errno or 0, os.strerror(failure.errno or 0).lower())
    raise ListenError(host, port, reason) from failure


def bound_address(sock: socket.socket) -> str:
    """The address that a socket really listens on, as `host:port`."""
    host, port = sock.getsockname()[:2]
    return _join(host, port)


async def accept_until(
    stopping: trio.Event,
    sockets: Sequence[socket.socket],
    serve_one: Callable[[trio.SocketStream], Awaitable[None]],
    *,
    connections: trio.Nursery,
    task_status: trio.TaskStatus[None],
) -> None:
    """Accept connections, serving each in a task of `connections`, until `stopping`; closes the listening sockets."""
    listeners = [trio.SocketListener(trio.socket.from_stdlib_socket(sock)) for sock in sockets]
    async with trio.open_nursery() as accepting:
        await accepting.start(partial(trio.serve_listeners, serve_one, listeners, handler_nursery=connections))
        task_status.started()
        await stopping.wait()
        accepting.cancel_scope.cancel()


def peer_of(stream: trio.SocketStream | TLSStream) -> str:
    """The address from which a connection comes; OSError when it was gone before it could be asked."""
    return str(stream.socket.getpeername()[0])


async def refuse_full(stream: trio.SocketStream) -> None:
    """Say 503 to a connection that there is no room for, without reading from it or waiting for it."""
    with suppress(OSError):
        # The send buffer of a new connection is empty: this never waits.
        await stream.socket.send(FULL)
        stream.socket.shutdown(socket.SHUT_WR)


def _bind_all(addresses: list[tuple[socket.AddressFamily, Address]], port: int) -> list[socket.socket]:
    bound: list[socket.socket] = []
    missing: OSError | None = None
    try:
        for family, address in addresses:
            try:
                # What follows the port in an IPv6 address is the interface that a link-local one belongs to.
                bound.append(_bind_one(family, (address[0], port, *address[2:])))
            except OSError as error:
                # `localhost` names ::1 also where IPv6 is switched off; one address that works is enough.
                if len(addresses) == 1 or error.errno not in _MISSING_FAMILY:
                    raise
                missing = error
            else:
                port = bound[0].getsockname()[1]
        if not bound and missing is not None:
            raise missing
    except OSError:
        for sock in bound:
            sock.close()
        raise
    return bound


def _bind_one(family: socket.AddressFamily, address: Address) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if hasattr(socket, "TCP_KEEPIDLE"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_SECONDS)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, VANISHED_MILLISECONDS)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


def _join(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
