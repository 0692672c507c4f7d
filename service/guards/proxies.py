"""Who asks through a proxy that we trust: the address, scheme and host that it says the client came with.

Anybody can send these headers. They are read where the peer is one of the proxies named in the settings, and then from
the right: the entry at the very end is what that proxy wrote itself, the one before it what the proxy before it wrote,
and so on while the entries name trusted proxies. The first that names none is the client; whatever stands left of it is
the client's own invention and is not even parsed, so that nobody can spoil what is said of them.

`X-Forwarded-For` has no specification; `Forwarded` is RFC 7239. One of them is read, never both: a proxy that writes
the one passes the other on as the client sent it (ASVS 5.0: 4.1.3, 15.3.4; CWE-348, CWE-290).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, Literal, TypeAlias

import structlog
import trio
from msgspec import Struct

from service.address import Network, ProxyHeader
from service.guards.reporting import Hooks

log: Final[structlog.stdlib.BoundLogger] = structlog.get_logger("gatebook.proxies")

MOST_HOPS: Final = 16
"""Trusted proxies in a row, beyond which nobody is meant any more."""
LONGEST_ENTRY: Final = 512
"""Bytes that one proxy has to say about one client."""
COMPLAINT_SECONDS: Final = 60.0
"""How often the log says that a proxy's headers cannot be read; the metric counts each time."""

Fault: TypeAlias = Literal["malformed", "hidden", "too_long"]
Headers: TypeAlias = list[tuple[bytes, bytes]]
_IP: TypeAlias = IPv4Address | IPv6Address

_VALUE: Final = rb'(?:"(?P<quoted>[^"\\]*)"|(?P<bare>[^\s",;\\]+))'
_PAIR: Final = re.compile(rb"[ \t]*(?P<name>[A-Za-z0-9!#$%&'*+.^_`|~-]+)=" + _VALUE + rb"[ \t]*(?:;|\Z)")
_HIDDEN: Final = re.compile(rb"unknown|_[A-Za-z0-9._-]+", re.IGNORECASE)
_PORT: Final = rb"(?::(?:[0-9]{1,5}|_[A-Za-z0-9._-]+))?"
_NODE: Final = re.compile(
    rb"(?:(?P<four>[0-9.]{7,15})|\[(?P<six>[0-9A-Fa-f:.]{2,45})\])" + _PORT + rb"|(?P<bare>[0-9A-Fa-f:.]{2,45})"
)
HOST: Final = re.compile(rb"(?:[A-Za-z0-9_][A-Za-z0-9._-]{0,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
_SECURE: Final = {b"https": True, b"wss": True, b"http": False, b"ws": False}


class Seen(Struct, frozen=True):
    """Who asks: their address; the host that they asked for and whether over TLS, where a trusted proxy says so."""

    address: str
    host: bytes | None = None
    secure: bool | None = None
    fault: Fault | None = None
    """Why a trusted proxy's word on the client was not taken, if it was not: the address is the proxy's own then."""


class _Unreadable(Exception):
    """A trusted proxy said something that tells no address. Caught in this module."""

    def __init__(self, fault: Fault) -> None:
        self.fault: Fault = fault
        super().__init__(fault)


class _Entry(Struct, frozen=True):
    """What one proxy wrote about whom it was asked by."""

    node: bytes
    host: bytes | None = None
    proto: bytes | None = None


class Proxies(Struct, frozen=True):
    """The proxies that are believed, none by default, and the header in which they say for whom they ask."""

    networks: tuple[Network, ...] = ()
    header: ProxyHeader = "x-forwarded-for"

    def trusts(self, address: str) -> bool:
        """Whether that is the address of one of them."""
        if not self.networks:
            return False
        try:
            return self._is_proxy(_plain(ip_address(address)))
        except ValueError:
            return False

    def seen(self, peer: str, headers: Headers) -> Seen:
        """Who asks. `peer` is a trusted proxy's address; header names are in lower case."""
        entries = _forwarded(headers) if self.header == "forwarded" else _x_forwarded(headers)
        client: _IP | None = None
        said = _Entry(b"")
        hops = 0
        try:
            for said in entries:
                hops += 1
                if hops > MOST_HOPS:
                    raise _Unreadable("too_long")
                client = _node(said.node)
                if not self._is_proxy(client):
                    break
        except _Unreadable as unreadable:
            return Seen(peer, fault=unreadable.fault)
        if client is None:
            # The proxy asks for itself, perhaps to see whether we are well.
            return Seen(peer)
        if self.header == "x-forwarded-for":
            host, proto = (_at(headers, name, hops) for name in (b"x-forwarded-host", b"x-forwarded-proto"))
        else:
            host, proto = said.host, said.proto
        secure = None if proto is None else _SECURE.get(proto.lower())
        return Seen(str(client), None if host is None else _as_sent(host, secure=secure), secure)

    def _is_proxy(self, address: _IP) -> bool:
        return any(address in network for network in self.networks)


NO_PROXIES: Final = Proxies()


class Peers:
    """Who asks on the connections of one listener; tells of proxies that cannot be understood."""

    def __init__(self, proxies: Proxies, hooks: Hooks) -> None:
        self.trusts = proxies.trusts
        self._proxies = proxies
        self._hooks = hooks
        self._quiet_until = 0.0

    def seen(self, peer: str, headers: Headers) -> Seen:
        """Who asks, through the trusted proxy that the peer is."""
        seen = self._proxies.seen(peer, headers)
        if seen.fault is not None:
            self._hooks.unforwarded(seen.fault)
            if trio.current_time() >= self._quiet_until:
                self._quiet_until = trio.current_time() + COMPLAINT_SECONDS
                log.warning("proxy_not_understood", proxy=peer, header=self._proxies.header, reason=seen.fault)
        return seen


def _x_forwarded(headers: Headers) -> Iterator[_Entry]:
    """The entries of X-Forwarded-For, the last one first."""
    for name, value in reversed(headers):
        if name == b"x-forwarded-for":
            # One more than will be looked at: what is left of it all stays in one piece.
            for node in reversed(value.rsplit(b",", MOST_HOPS + 1)):
                yield _Entry(node.strip(b" \t"))


def _forwarded(headers: Headers) -> Iterator[_Entry]:
    """The elements of Forwarded (RFC 7239, 4), the last one first."""
    for name, value in reversed(headers):
        end = len(value) if name == b"forwarded" else -1
        while end >= 0:
            start = _start_of_element(value, end)
            yield _element(value[start:end])
            end = start - 1


def _start_of_element(value: bytes, end: int) -> int:
    """Where the element begins that ends there: behind the last comma that stands in no quotes.

    It is sought from the right, so that a quotation mark which the client left open cannot swallow what the proxy wrote
    behind it. Quoted strings with escapes are none that we understand: neither addresses nor hosts need them.
    """
    at = end
    while at:
        at -= 1
        if end - at > LONGEST_ENTRY:
            raise _Unreadable("too_long")
        if value[at : at + 1] == b",":
            return at + 1
        if value[at : at + 1] == b'"':
            at = value.rfind(b'"', 0, at)
            if at < 0:
                raise _Unreadable("malformed")
    return 0


def _element(text: bytes) -> _Entry:
    if len(text) > LONGEST_ENTRY:
        raise _Unreadable("too_long")
    said: dict[bytes, bytes] = {}
    at = 0
    while at < len(text):
        pair = _PAIR.match(text, at)
        if pair is None or pair["name"].lower() in said:
            raise _Unreadable("malformed")
        quoted: bytes | None = pair["quoted"]
        said[pair["name"].lower()] = pair["bare"] if quoted is None else quoted
        at = pair.end()
    return _Entry(said.get(b"for", b"unknown"), said.get(b"host"), said.get(b"proto"))


def _node(text: bytes) -> _IP:
    """The address of a node, whose port does not matter (RFC 7239, 6); also as X-Forwarded-For has it, bare."""
    if len(text) > LONGEST_ENTRY:
        raise _Unreadable("too_long")
    if _HIDDEN.fullmatch(text):
        raise _Unreadable("hidden")
    found = _NODE.fullmatch(text)
    if found is None:
        raise _Unreadable("malformed")
    try:
        return _plain(ip_address((found["four"] or found["six"] or found["bare"]).decode("ascii")))
    except ValueError:
        raise _Unreadable("malformed") from None


def _plain(address: _IP) -> _IP:
    """The address, as IPv4 where it is one that is only written as IPv6."""
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def _as_sent(host: bytes, *, secure: bool | None) -> bytes | None:
    """The host as a browser would have sent it: without the port that goes without saying. None where it is none."""
    if not HOST.fullmatch(host):
        return None
    return host if secure is None else host.removesuffix(b":443" if secure else b":80")


def _at(headers: Headers, name: bytes, hops: int) -> bytes | None:
    """What the proxy that many hops away said, if each added its own; else the first that is there.

    A proxy either replaces such a header, so that there is one value, or adds to it.
    """
    values = b",".join(_values(headers, name)).rsplit(b",", hops)
    value = values[-min(hops, len(values))].strip(b" \t")
    return value or None


def _values(headers: Headers, name: bytes) -> Iterable[bytes]:
    return (value for each, value in headers if each == name)
