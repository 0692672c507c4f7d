"""Places for connections: so many for each address, so that one client cannot take those of all others (CWE-770).

This machine and the proxies that are trusted may take as many as there are: behind them are many clients. On sockets,
which stay, a client behind a trusted proxy is held to the same bound once the proxy has said who it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from service.networks import is_loopback, one_address

FULL_FOR_ADDRESS = "full_for_address"
"""The word for it in the metrics."""


class Places:
    """The places of one listener. `is_proxy` says whose address stands for many clients."""

    def __init__(self, per_address: int, is_proxy: Callable[[str], bool]) -> None:
        self._per_address = per_address
        self._is_proxy = is_proxy
        self._taken: dict[str, int] = {}

    @contextmanager
    def place(self, address: str) -> Iterator[bool]:
        """Takes a place for that address until the block ends; False, and none is taken, where it has all it may."""
        if is_loopback(address) or self._is_proxy(address):
            yield True
            return
        # Of IPv6, all that one customer has is one address.
        client = one_address(address)
        taken = self._taken.get(client, 0)
        if taken >= self._per_address:
            yield False
            return
        self._taken[client] = taken + 1
        try:
            yield True
        finally:
            left = self._taken.pop(client) - 1
            if left:
                self._taken[client] = left
