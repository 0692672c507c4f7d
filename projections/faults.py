"""A fault: what is wrong in a store, where it stands, and one sentence about it for people."""

from __future__ import annotations

from typing import Final, Literal

from msgspec import Struct

FaultKind = Literal[
    "gap", "too_large", "undecodable", "leaf", "column", "version", "time", "seal", "key", "fold",
    "head", "catalogue", "schema", "state", "row", "document", "index",
]  # fmt: skip
_LONGEST_SHOWN: Final = 100


class Fault(Struct, frozen=True):
    """Where and what.

    `position` is the entry's, or the one that a read model was compared at; `table`, `row`, `column` are the store's.
    The sentence repeats no value out of the store but keys, and those as `shown`.
    """

    kind: FaultKind
    sentence: str
    position: int | None = None
    table: str | None = None
    row: str | None = None
    column: str | None = None


def shown(key: str) -> str:
    """A key as it may be printed: whoever put it there may have meant the terminal."""
    text = ascii(key)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"
