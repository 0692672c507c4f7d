"""Addresses as they are written in the settings: where a listener listens, and who stands in front of it."""

import re
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, Literal, TypeAlias

from msgspec import Struct

__all__ = ["Address", "Network", "ProxyHeader", "parse_address", "parse_network"]

Network: TypeAlias = IPv4Network | IPv6Network
ProxyHeader: TypeAlias = Literal["x-forwarded-for", "forwarded"]

LARGEST_PORT: Final = 65_535

_HOST: Final = re.compile(r"[a-z0-9]([a-z0-9._-]{0,253}[a-z0-9])?", re.IGNORECASE | re.ASCII)
_ADDRESS: Final = re.compile(r"(?:\[(?P<v6>[^\[\]]*)\]|(?P<host>[^:\[\]]*)):(?P<port>[0-9]{1,5})", re.ASCII)


class Address(Struct, frozen=True):
    """Host and port; port 0 lets the system choose."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether nobody but this machine comes there."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host.lower() == "localhost"

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __repr__(self) -> str:
        return f"Address({str(self)!r})"


def parse_address(text: str) -> Address:
    """Return the address that `HOST:PORT` or `[IPV6]:PORT` names.

    Raises:
        ValueError: with a sentence that completes "it must be …".
    """
    found = _ADDRESS.fullmatch(text)
    if found is None or int(found["port"]) > LARGEST_PORT:
        raise ValueError("HOST:PORT, with an IPv6 address in brackets and a port of at most 65,535")
    if found["v6"] is None:
        if _HOST.fullmatch(found["host"]) is None:
            raise ValueError("HOST:PORT, where the host is a name or an IP address")
        return Address(found["host"], int(found["port"]))
    try:
        IPv6Address(found["v6"])
    except ValueError:
        raise ValueError("[IPV6]:PORT, where what stands in the brackets is an IPv6 address") from None
    return Address(found["v6"], int(found["port"]))


def parse_network(text: str) -> Network:
    """Return the network that a text names, which may be that of one address.

    Raises:
        ValueError: it names none, bits behind the prefix are set, or it is all there is.
    """
    network = ip_network(text)
    if not network.prefixlen:
        raise ValueError("this is everybody")
    return network
