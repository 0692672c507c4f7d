"""The digest of a read model: one number over all its documents, whatever their order, kept up with every write.

The sum modulo 2**256 of SHA-256 over each key and document. Adding and taking away is one hash each, so the digest is
kept up at the price of the documents that changed. It finds faults, not forgers: whoever can write the store can write
the digest too. What stands against forgers is the book.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from typing import Final

_MODULUS: Final = 1 << 256
EMPTY: Final = 0


def of_document(key: str, document: bytes) -> int:
    """What one document adds to the digest. Keys hold no NUL."""
    return int.from_bytes(sha256(key.encode() + b"\x00" + document).digest(), "big")


def of_documents(documents: Iterable[tuple[str, bytes]]) -> int:
    """The digest of all these documents."""
    return sum(of_document(key, document) for key, document in documents) % _MODULUS


def moved(digest: int, key: str, before: bytes | None, after: bytes | None) -> int:
    """The digest after one document became another (None: there is none)."""
    if before is not None:
        digest -= of_document(key, before)
    if after is not None:
        digest += of_document(key, after)
    return digest % _MODULUS


def to_text(digest: int) -> str:
    """64 hex digits."""
    return f"{digest:064x}"


def from_text(text: str) -> int:
    """The digest out of its hex digits."""
    return int(text, 16)
