"""The Merkle tree: RFC 6962's own definition, and the vectors that certificate-transparency implementations share."""

from __future__ import annotations

from hashlib import sha256
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events import merkle

# The leaves and roots of the reference tests of certificate-transparency (and of RFC 9162's implementations after it).
LEAVES = [
    bytes.fromhex(text)
    for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def tree_head(entries: list[bytes]) -> bytes:
    """MTH as section 2.1 of RFC 6962 writes it."""
    if not entries:
        return sha256(b"").digest()
    if len(entries) == 1:
        return sha256(b"\x00" + entries[0]).digest()
    k = 1
    while k * 2 < len(entries):
        k *= 2
    return sha256(b"\x01" + tree_head(entries[:k]) + tree_head(entries[k:])).digest()


def frontier_of(entries: list[bytes]) -> tuple[bytes, ...]:
    return merkle.extend(0, (), map(merkle.leaf_hash, entries))


@pytest.mark.parametrize("size", range(9))
def test_the_vectors_of_certificate_transparency(size: int) -> None:
    assert merkle.root(frontier_of(LEAVES[:size])).hex() == ROOTS[size]
    assert tree_head(LEAVES[:size]).hex() == ROOTS[size]


def test_the_root_of_nothing_is_the_hash_of_nothing() -> None:
    assert merkle.root(()) == merkle.EMPTY_ROOT == sha256(b"").digest()
    assert frontier_of([]) == ()


def test_every_size_agrees_with_the_definition() -> None:
    entries = [f"entry {number}".encode() for number in range(70)]
    frontier: tuple[bytes, ...] = ()
    for size in range(71):
        assert merkle.root(frontier) == tree_head(entries[:size])
        assert len(frontier) == size.bit_count()
        if size < len(entries):
            frontier = merkle.extend(size, frontier, [merkle.leaf_hash(entries[size])])


def test_the_frontier_is_the_perfect_subtrees_largest_first() -> None:
    entries = [bytes([number]) for number in range(22)]
    assert frontier_of(entries) == (tree_head(entries[:16]), tree_head(entries[16:20]), tree_head(entries[20:]))


@given(st.lists(st.binary(max_size=4), max_size=80), st.lists(st.integers(0, 80)))
def test_appending_in_any_parts_is_appending_at_once(entries: list[bytes], cuts: list[int]) -> None:
    frontier: tuple[bytes, ...] = ()
    bounds = [0, *sorted(min(cut, len(entries)) for cut in cuts), len(entries)]
    for start, stop in pairwise(bounds):
        frontier = merkle.extend(start, frontier, map(merkle.leaf_hash, entries[start:stop]))
    assert frontier == frontier_of(entries)


def test_a_leaf_is_never_mistaken_for_a_node() -> None:
    left, right = merkle.leaf_hash(b"left"), merkle.leaf_hash(b"right")
    assert merkle.leaf_hash(left + right) != merkle.node_hash(left, right)
    assert merkle.node_hash(left, right) != merkle.node_hash(right, left)


@given(st.integers(0, 70))
def test_a_packed_frontier_is_unpacked_to_itself(size: int) -> None:
    frontier = frontier_of([bytes([number]) for number in range(size)])
    packed = merkle.pack(frontier)
    assert len(packed) == merkle.HASH_BYTES * size.bit_count()
    assert merkle.unpack(packed) == frontier


@pytest.mark.parametrize("length", [1, 31, 33])
def test_what_is_no_whole_number_of_hashes_is_no_frontier(length: int) -> None:
    with pytest.raises(ValueError, match="whole number of hashes"):
        merkle.unpack(bytes(length))
