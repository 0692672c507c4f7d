"""Canaries: secrets that nothing else in the world spells, and every spelling in which one could get out."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Collection, Iterable, Iterator
from secrets import token_hex
from urllib.parse import quote

SHORTEST = 8
"""Bytes below which a spelling may stand somewhere by chance."""

PIECE = 65_536
"""Bytes that are looked through at a time."""


def fresh_word(prefix: str = "") -> str:
    """Letters and digits in one case that are in no dictionary, good for any field."""
    return f"{prefix}{token_hex(8)}"


class Canaries:
    """What must not get out, each under a name that a test may say."""

    def __init__(self) -> None:
        self._spelt: dict[str, set[bytes]] = {}
        self._hashed: dict[str, set[bytes]] = {}
        self._beginnings: set[bytes] = set()

    def add(self, name: str, value: str) -> str:
        """Takes one more, and gives it back. One name may stand for several."""
        spelt, hashed = spellings(value), hashes(value)
        self._spelt.setdefault(name, set()).update(spelt)
        self._hashed.setdefault(name, set()).update(hashed)
        self._beginnings.update(needle[:SHORTEST] for needle in spelt | hashed)
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self._spelt)

    def found_in(self, data: bytes, *, besides: Collection[str] = (), hashed: Collection[str] = ()) -> list[str]:
        """The names of those that the data holds, in any spelling, or as a hash that anybody could make.

        Those named in `besides` may stand there, those in `hashed` as their hash alone.
        """
        begun = self._begun(data)
        return [
            name
            for name in self._spelt
            if name not in besides
            and (_any(self._spelt[name], begun, data) or (name not in hashed and _any(self._hashed[name], begun, data)))
        ]

    def _begun(self, data: bytes) -> set[bytes]:
        """The first bytes of whatever might stand there: to look for each by itself takes long."""
        found: set[bytes] = set()
        for start in range(0, len(data), PIECE):
            piece = data[start : start + PIECE + SHORTEST - 1]
            found |= self._beginnings.intersection(
                [piece[at : at + SHORTEST] for at in range(len(piece) - SHORTEST + 1)]
            )
        return found


def spellings(value: str) -> set[bytes]:
    """The text in the encodings that programs write texts in."""
    plain = value.encode()
    found = {
        plain, value.encode("utf-16-le"), value.encode("utf-16-be"), json.dumps(value)[1:-1].encode(),
        quote(value, safe="").encode(), quote(value).encode(), repr(value)[1:-1].encode(), repr(plain)[2:-1].encode(),
        plain.hex().encode(), plain.hex().upper().encode(), plain.decode("latin-1").encode(),
    }  # fmt: skip
    found.update(_in_base64(plain))
    assert min(map(len, found)) >= SHORTEST, f"{value!r} could stand anywhere by chance"
    return found


def hashes(value: str) -> set[bytes]:
    """What fast hashes without a key make of the text: whoever has one of these tries all names there are."""
    found: set[bytes] = set()
    for algorithm in ("md5", "sha1", "sha256"):
        digest = hashlib.new(algorithm, value.encode(), usedforsecurity=False)
        found |= {digest.digest(), digest.hexdigest().encode(), digest.hexdigest().upper().encode()}
        found.update(_in_base64(digest.digest()))
    return found


def _in_base64(data: bytes) -> Iterable[bytes]:
    """What is certain to stand in base64 of anything that holds the data, wherever it begins there."""
    for before in range(3):
        written = base64.b64encode(bytes(before) + data)
        # The first and the last group share their bits with the neighbours.
        sure = written[(before * 8 + 5) // 6 :]
        sure = sure.rstrip(b"=")[: len(data) * 8 // 6 - 1]
        yield sure
        yield sure.translate(bytes.maketrans(b"+/", b"-_"))


def _any(needles: Iterable[bytes], begun: Collection[bytes], data: bytes) -> bool:
    return any(needle[:SHORTEST] in begun and needle in data for needle in needles)
