"""Requests to a service over one connection that stays open, and bytes to any listener."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any, Final

import httpx

from tests.conformance.running import PATIENCE

COOKIE: Final = "__Host-gatebook"

Headers = Mapping[str, str] | Iterable[tuple[str, str]]
"""Names and values; as pairs, a name may stand twice."""


class Asking:
    """A client of the service at that address, who keeps no cookie that it is not told to send."""

    def __init__(self, address: str) -> None:
        transport = httpx.HTTPTransport(local_address="127.0.0.1")
        self._client = httpx.Client(base_url=address, transport=transport, timeout=PATIENCE)

    def ask(
        self,
        method: str,
        path: str,
        *,
        token: str | None = None,
        cookie: str | None = None,
        headers: Headers = (),
        **body: Any,
    ) -> httpx.Response:
        """One request, and its answer."""
        sent = list(headers.items() if isinstance(headers, Mapping) else headers)
        sent += [] if token is None else [("Authorization", f"Bearer {token}")]
        sent += [] if cookie is None else [("Cookie", f"{COOKIE}={cookie}")]
        # Some of them are no ASCII: as bytes they go out all the same.
        raw = [(name.encode(), value.encode()) for name, value in sent]
        return self._client.request(method, path, headers=raw, **body)

    def tell(self, data: bytes, address: str) -> bytes:
        """Bytes to a listener, and all that it says until it closes."""
        host, _, port = address.rpartition("/")[2].rpartition(":")
        said = b""
        # It may close with something unread: what it said before counts.
        with socket.create_connection((host, int(port)), timeout=PATIENCE) as connection, suppress(ConnectionError):
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            while part := connection.recv(65_536):
                said += part
        return said

    def close(self) -> None:
        """Ends its connection."""
        self._client.close()
