"""What one client, and all clients together, may ask of the edge: each bound with its name, unit and default."""

from __future__ import annotations

from msgspec import Struct


class HTTPLimits(Struct, frozen=True, kw_only=True):
    """Bounds on the HTTP listener (ASVS 5.0, V15.2.2: resource use is bounded). Sizes in bytes, times in seconds."""

    head_bytes: int = 16 * 1024
    """Request line and headers together; more is refused with 431."""
    body_bytes: int = 64 * 1024
    """A whole request body; more is refused with 413 before the application hears of the request."""
    idle_seconds: float = 75.0
    """How long a connection may stay open between requests."""
    head_seconds: float = 10.0
    """From the first byte of a request to the end of its headers; later is refused with 408. Also a handshake."""
    body_seconds: float = 30.0
    """From the end of the headers to the end of the body; later is refused with 408."""
    write_seconds: float = 30.0
    """How long one write may wait for a client that does not read, before the connection is cut."""
    hsts_seconds: int = 0
    """How long browsers that came over our own TLS are to come over nothing else (RFC 6797); 0 says nothing of it."""
    linger_seconds: float = 1.0
    """How long a closed connection still reads, so that the last answer is not destroyed by a TCP reset."""
    connections: int = 10_000
    """Connections open at once; one more gets 503 and is closed without being read."""
    connections_per_address: int = 100
    """Those of one address (of IPv6, a /64); this machine and trusted proxies have no such bound."""


class SocketLimits(Struct, frozen=True, kw_only=True):
    """Bounds on the WebSocket listener. Sizes in bytes, times in seconds."""

    message_bytes: int = 64 * 1024
    """A whole message, text counted as UTF-8; more closes the connection with 1009."""
    fragments: int = 64
    """Frames that one message may come in; more closes the connection with 1009."""
    read_bytes: int = 4 * 1024
    """What is read from a connection at once. One finished message waits beside it; then reading stops."""
    handshake_seconds: float = 10.0
    """From the accepted connection to the complete upgrade request, a TLS handshake included."""
    write_seconds: float = 30.0
    """How long one write may wait for a client that does not read, before the connection is cut."""
    close_seconds: float = 1.0
    """How long we wait for a client to answer our close frame."""
    ping_seconds: float = 30.0
    """A client that was silent for so long is pinged; silent for as long again, it is cut."""
    messages_per_second: float = 200.0
    """Messages and pings of one connection, a second's worth of them at once; more are read more slowly."""
    connections: int = 10_000
    """Connections open at once; one more gets 503 and is closed without being read."""
    connections_per_address: int = 100
    """Those of one address (of IPv6, a /64); this machine and trusted proxies have no such bound."""
