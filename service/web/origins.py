"""The same-origin check: whether a request that changes something was made by a page of ours, or by no page at all.

The algorithm is that of `CrossOriginProtection` in Go 1.25's net/http: browsers say by themselves from where a request
comes, in headers that no page can set. What is not a browser sends neither of them, and holds no cookie of anybody's.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final, Protocol

from service.errors import CrossSite

_SAME: Final = frozenset({"same-origin", "none"})
_OTHER: Final = frozenset({"same-site", "cross-site"})
_DEFAULT_PORTS: Final = {"http": "80", "https": "443"}
_ORIGIN: Final = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://"
    r"(?P<authority>(?:[a-z0-9_](?:[a-z0-9._-]{0,253})|\[[0-9a-f:.]{2,45}\])(?::(?P<port>[1-9][0-9]{0,4}))?)",
    re.ASCII,
)


class Headers(Protocol):
    """The headers of a request."""

    def getlist(self, key: str, /) -> list[str]:
        """Every header of that name, whatever its case."""


class Origins:
    """The check. `trusted` are origins that may ask as if they were ours, exactly as browsers write them."""

    def __init__(self, trusted: Collection[str] = ()) -> None:
        self.trusted = frozenset(trusted)

    def check(self, headers: Headers, *, secure: bool = False) -> None:
        """Raises CrossSite where another site's page made the request, or where nobody can tell.

        Sec-Fetch-Site (W3C Fetch Metadata) decides where it is sent; else the Origin (RFC 6454) must be the Host.
        `secure` says that the request is known to have come over TLS: then so did the page. Where it is not, a proxy
        may have ended TLS without telling us. The Origin `null`, which no Host equals, is another site's; so is what
        is sent twice.
        """
        sites, origins = headers.getlist("Sec-Fetch-Site"), headers.getlist("Origin")
        if len(sites) > 1 or len(origins) > 1:
            raise CrossSite
        site, origin = _only(sites), _only(origins)
        if site in _SAME:
            return
        if site is not None and site not in _OTHER:
            raise CrossSite
        if origin in self.trusted:
            return
        hosts = headers.getlist("Host")
        if site is not None or (origin is not None and not (len(hosts) == 1 and _is_host(origin, hosts[0], secure))):
            raise CrossSite

    def admits(self, origin: str, host: str, *, secure: bool = False) -> bool:
        """Whether a page of that origin may open a socket at that host.

        Sec-Fetch-Site is not asked: what it calls the same origin, an Origin that is not the Host shows to be another.
        """
        return origin in self.trusted or _is_host(origin, host, secure)


def is_origin(text: str) -> bool:
    """Whether a browser could write this origin: scheme, host and port, in lower case, the usual port left out."""
    found = _ORIGIN.fullmatch(text)
    return found is not None and found["port"] != _DEFAULT_PORTS.get(found["scheme"], "")


def _only(given: list[str]) -> str | None:
    return given[0] if given else None


def _is_host(origin: str, host: str, secure: bool) -> bool:
    found = _ORIGIN.fullmatch(origin)
    if found is None or found["scheme"] not in _DEFAULT_PORTS:
        return False
    if secure and found["scheme"] != "https":
        return False
    return found["authority"] == host.lower()
