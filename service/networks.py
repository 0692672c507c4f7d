"""What counts as one network address, and what as a network: by these are bounds kept and failures counted."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

__all__ = ["is_ipv6", "is_loopback", "network_of", "one_address"]


def one_address(address: str) -> str:
    """What counts as one address: an IPv4 address, and the /64 of an IPv6 one, all of which is one household's."""
    parsed = _parsed(address)
    return _around(parsed, 64) if isinstance(parsed, IPv6Address) else str(parsed or address)


def is_loopback(address: str) -> bool:
    """Whether the address is this machine's own."""
    parsed = _parsed(address)
    return parsed is not None and parsed.is_loopback


def is_ipv6(address: str) -> bool:
    """Whether it is an address of IPv6, and no IPv4 one in its clothes."""
    return isinstance(_parsed(address), IPv6Address)


def network_of(address: str | None) -> str:
    """The network that an address stands for: /24 for IPv4, /48 for IPv6; nothing where there is no IP address.

    A /48 is what one site is given (RFC 6177): whoever rents one has 65,536 networks of /64.
    """
    parsed = _parsed(address)
    if parsed is None:
        return ""
    return _around(parsed, 48 if isinstance(parsed, IPv6Address) else 24)


def _around(address: IPv4Address | IPv6Address, bits: int) -> str:
    return str(ip_network(f"{address}/{bits}", strict=False))


def _parsed(address: str | None) -> IPv4Address | IPv6Address | None:
    try:
        parsed = ip_address(address or "")
    except ValueError:
        return None
    # Through a socket that takes both, an IPv4 address comes as ::ffff:192.0.2.1.
    return (parsed.ipv4_mapped or parsed) if isinstance(parsed, IPv6Address) else parsed
