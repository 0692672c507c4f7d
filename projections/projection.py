"""What a projection is: a keyed pure fold over recorded events, and nothing else.

One fold serves everywhere: in the write transaction, in a replay or a look at the past in memory, and over the new
table of a rebuild. It has no clock, no randomness and no I/O, and it never refuses: over any sequence of events at all
it gives some documents.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

import msgspec
from msgspec import Struct

from events.recorded import Recorded

Doc = TypeVar("Doc", bound=Struct)
IndexValue = int | str | None


class Index(Struct, Generic[Doc], frozen=True):
    """A value of each document by which documents are found; a document whose value is None is not in the index."""

    name: str
    value: Callable[[Doc], IndexValue]


class Projection(Protocol[Doc]):
    """A fold from recorded events to documents, each under a key.

    `revision` is raised when the fold or its documents change: the read model is then rebuilt beside the old one.
    `handles` are the event types that it looks at. `opened` says whether it needs personal fields in plain text: only
    `names` does; every other folds them sealed. `keyed_by_position` says that a key is the position of the first event
    of what the document is about, so that a key beyond the head is known to have no document.
    """

    @property
    def name(self) -> str:
        """Its name, in the store and for people."""

    @property
    def revision(self) -> int:
        """See the class."""

    @property
    def document(self) -> type[Doc]:
        """The type of its documents."""

    @property
    def indexes(self) -> tuple[Index[Doc], ...]:
        """By what its documents are found."""

    @property
    def handles(self) -> frozenset[type[Struct]]:
        """See the class."""

    @property
    def opened(self) -> bool:
        """See the class."""

    @property
    def keyed_by_position(self) -> bool:
        """See the class."""

    def keys(self, recorded: Recorded) -> tuple[str, ...]:
        """The keys of the documents that the event touches."""

    def evolve(self, key: str, doc: Doc | None, recorded: Recorded) -> Doc | None:
        """The document after the event, None when there is none any more."""


AnyProjection = Projection[Any]

_encoder = msgspec.json.Encoder()


def encode_document(doc: Struct) -> bytes:
    """The document's one encoding: what is stored and what its digest is over."""
    return _encoder.encode(doc)
