"""The contract of the read-model store: documents under keys, found by declared indexes. It knows nothing of users.

Every store keeps, for each projection, its revision, position, number of documents and digest, moved in the same
transaction as the documents themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Protocol

from msgspec import Struct

from events.log import Transaction
from projections import digest
from projections.projection import AnyProjection, IndexValue

PAGE: Final = 1_000


class ReadModelState(Struct, frozen=True):
    """Where a read model stands. `digest` is 64 hex digits, see `projections.digest`."""

    revision: int
    position: int = 0
    documents: int = 0
    digest: str = digest.to_text(digest.EMPTY)


class Row(Struct, frozen=True):
    """A document as it is stored, with the values of its index columns, for whoever checks them against each other."""

    key: str
    document: bytes
    indexed: dict[str, IndexValue]


class Change(Struct, frozen=True):
    """What becomes of one document: its stored bytes before (None: there was none), and after, with index values."""

    before: bytes | None
    after: bytes | None
    indexed: tuple[IndexValue, ...] = ()


class ReadModelTransaction(Protocol):
    """The read models inside the write transaction. Reads and writes go set by set, never row by row."""

    def states(self) -> dict[str, ReadModelState]:
        """Where each read model stands."""

    def load(self, projection: AnyProjection, keys: Iterable[str]) -> dict[str, bytes]:
        """The stored documents under those keys, in one read."""

    def load_found(self, projection: AnyProjection, index: str, values: Iterable[IndexValue]) -> dict[str, bytes]:
        """The stored documents whose index has one of the values, in one read."""

    def count_found(self, projection: AnyProjection, index: str, values: Iterable[IndexValue]) -> dict[IndexValue, int]:
        """How many documents have each of these values in the index, in one read."""

    def write(self, projection: AnyProjection, changes: Mapping[str, Change]) -> None:
        """Puts and deletes documents: one write for each of the two."""

    def put_states(self, states: Mapping[str, ReadModelState]) -> None:
        """Says where the read models stand now, in one write."""


class ReadModels(Protocol):
    """The read models as they were committed last. One object is used by one thread at a time."""

    def states(self) -> dict[str, ReadModelState]:
        """Where each read model stands; empty before the first start."""

    def outdated(self) -> list[AnyProjection]:
        """The projections whose read model an older revision wrote, or that stands behind the log: to be rebuilt.

        Raises NewerStoreError when a newer gatebook has written one.
        """

    def get(self, projection: AnyProjection, key: str) -> bytes | None:
        """The document under the key: a point lookup."""

    def find(
        self, projection: AnyProjection, index: str, value: IndexValue, *, after: str = "", limit: int = PAGE
    ) -> list[tuple[str, bytes]]:
        """Documents whose index has that value, in order of key, from beyond `after`."""

    def count(self, projection: AnyProjection, index: str, value: IndexValue = None) -> int:
        """How many documents have that value in the index; without one, how many have any."""

    def up_to(self, projection: AnyProjection, index: str, value: int, *, limit: int = PAGE) -> list[tuple[str, bytes]]:
        """Documents whose index is at most that value, lowest first."""

    def scan(self, projection: AnyProjection, *, after: str = "", limit: int = PAGE) -> list[Row]:
        """All rows in order of key, from beyond `after`. Keys that are positions are ordered as numbers."""

    def within(self, transaction: Transaction) -> ReadModelTransaction:
        """The read models inside a write transaction of the log that they stand beside."""


def moved(state: ReadModelState, changes: Mapping[str, Change], position: int) -> ReadModelState:
    """Where a read model stands after these changes, at that position of the log."""
    total, documents = digest.from_text(state.digest), state.documents
    for key, change in changes.items():
        total = digest.moved(total, key, change.before, change.after)
        documents += (change.after is not None) - (change.before is not None)
    return ReadModelState(state.revision, position, documents, digest.to_text(total))
