"""Clients: services that may ask what a token is worth, each known by a name and the SHA-256 of a secret of its own."""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable
from hashlib import sha256
from typing import Final

__all__ = ["CLIENT", "Clients"]

CLIENT: Final = re.compile(r"(?P<name>[A-Za-z0-9._-]{1,64}):(?P<digest>[0-9a-f]{64})", re.ASCII)
"""How a client is written in the settings: `NAME:DIGEST`."""

_NOBODY: Final = "0" * 64


class Clients:
    """The clients that the settings list; with one name listed twice, either secret will do."""

    def __init__(self, listed: Iterable[str] = ()) -> None:
        self._digests: dict[str, list[str]] = {}
        for one in listed:
            found = CLIENT.fullmatch(one)
            if found is None:
                raise ValueError("A client is written as NAME:DIGEST.")
            self._digests.setdefault(found["name"], []).append(found["digest"])

    def __repr__(self) -> str:
        return f"Clients({', '.join(self._digests)})"

    def know(self, name: str, secret: str) -> bool:
        """Whether it is that client's secret, in a time that says nothing about it."""
        presented = sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
        matching = [hmac.compare_digest(presented, known) for known in self._digests.get(name, [_NOBODY])]
        return any(matching)
