"""The Merkle tree over the entries: leaf and node hashes of RFC 6962, section 2.1, and the frontier that appends need.

The frontier of a tree of n leaves is the roots of its perfect subtrees, largest first: one for each 1 bit of n. It is
all that appending needs, and it is at most 63 hashes of 32 bytes.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from typing import Final

HASH_BYTES: Final = 32
EMPTY_ROOT: Final = sha256(b"").digest()


def leaf_hash(entry: bytes) -> bytes:
    """SHA-256(0x00 ‖ entry), RFC 6962 section 2.1."""
    return sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256(0x01 ‖ left ‖ right), RFC 6962 section 2.1."""
    return sha256(b"\x01" + left + right).digest()


def extend(size: int, frontier: Iterable[bytes], leaves: Iterable[bytes]) -> tuple[bytes, ...]:
    """The frontier after `leaves` (leaf hashes, in order) are appended to a tree of `size` leaves."""
    stack = list(frontier)
    for leaf in leaves:
        node, bit = leaf, size
        while bit & 1:
            node = node_hash(stack.pop(), node)
            bit >>= 1
        stack.append(node)
        size += 1
    return tuple(stack)


def root(frontier: Iterable[bytes]) -> bytes:
    """The tree's head (RFC 6962: MTH) of a frontier; the hash of the empty string for an empty tree."""
    folded: bytes | None = None
    for subtree in reversed(tuple(frontier)):
        folded = subtree if folded is None else node_hash(subtree, folded)
    return EMPTY_ROOT if folded is None else folded


def pack(frontier: Iterable[bytes]) -> bytes:
    """The frontier as one run of bytes, for a column."""
    return b"".join(frontier)


def unpack(packed: bytes) -> tuple[bytes, ...]:
    """The frontier out of its packed bytes; ValueError when they are not whole hashes."""
    if len(packed) % HASH_BYTES:
        raise ValueError("a packed frontier is a whole number of hashes")
    return tuple(packed[at : at + HASH_BYTES] for at in range(0, len(packed), HASH_BYTES))
