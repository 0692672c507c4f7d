"""Whose pages may open a socket: browsers let every page do so, and say whose it is (CWE-1385; ASVS 5.0: 4.4.2).

A page is ours whose origin is the Host that it asked, or one of `trusted_origins`. What sends no Origin is no browser.
Sockets go by no cookie, so a foreign page could do nothing here that its own server could not; but it could do it from
its visitor's address, or inside the network where that visitor is.
"""

from __future__ import annotations

from service.errors import HTTP_STATUS, CrossSite
from service.guards.trio_websocket import Handler, SocketRequest
from service.metrics import Metrics
from service.web.origins import Origins

DOOR = "sockets"


def for_our_pages(handler: Handler, origins: Origins, metrics: Metrics) -> Handler:
    """The handler, for whoever is no page of another site; those get 403, and no connection."""

    async def checked(asked: SocketRequest) -> None:
        given = [value.decode("latin-1") for name, value in asked.headers if name == b"origin"]
        if not given or (len(given) == 1 and origins.admits(given[0], asked.host, secure=asked.secure)):
            await handler(asked)
        else:
            metrics.refusals.labels(CrossSite.code, DOOR).inc()
            await asked.reject(HTTP_STATUS[CrossSite])

    return checked
