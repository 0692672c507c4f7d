"""Replay: the fold in memory, over the book from its first entry, to a position, to a moment, or to the end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from msgspec import Struct

from events.errors import BookError, FoldError
from events.log import EventLog, Query, pages
from events.recorded import Recorded
from projections import digest
from projections.projection import AnyProjection, encode_document

Opener = Callable[[Recorded], Recorded]
Progress = Callable[[int], None]


_Fold = tuple[
    str,
    Opener | None,
    Callable[[Recorded], tuple[str, ...]],
    Callable[[str, Any, Recorded], Any],
    dict[str, Any],
]


class Replay:
    """Documents folded in memory. `documents[name][key]` is the state after `position`.

    Projections that need plain text are folded with `opener`; without one they are left out.
    """

    def __init__(self, projections: Iterable[AnyProjection], opener: Opener | None = None) -> None:
        self.projections: Sequence[AnyProjection] = [p for p in projections if opener is not None or not p.opened]
        self.documents: dict[str, dict[str, Any]] = {p.name: {} for p in self.projections}
        self.position = 0
        self._folds: dict[type[Struct], list[_Fold]] = {}
        for projection in self.projections:
            for kind in projection.handles:
                opens = opener if projection.opened else None
                fold = (projection.name, opens, projection.keys, projection.evolve, self.documents[projection.name])
                self._folds.setdefault(kind, []).append(fold)

    def fold(self, page: Iterable[Recorded]) -> None:
        """Folds the events, which follow the ones folded before; FoldError stops at the first that fails."""
        folds, recorded, name = self._folds, None, ""
        try:
            for recorded in page:
                for name, opened, keys, evolve, documents in folds.get(type(recorded.event), ()):  # noqa: B007 - in the error
                    seen = recorded if opened is None else opened(recorded)
                    for key in keys(seen):
                        doc = evolve(key, documents.get(key), seen)
                        if doc is None:
                            documents.pop(key, None)
                        else:
                            documents[key] = doc
                self.position = recorded.position
        except BookError:
            raise
        except Exception as error:
            # Whatever a fold raises is a fault of ours; it is named with its place and never passed over.
            raise FoldError(name, recorded.position if recorded else 0, repr(error)) from error

    def digest(self, name: str) -> str:
        """The digest of one projection's documents, as a store keeps it."""
        documents = self.documents[name]
        return digest.to_text(digest.of_documents((key, encode_document(doc)) for key, doc in documents.items()))


def replay(
    log: EventLog,
    projections: Iterable[AnyProjection],
    *,
    until: int | None = None,
    opener: Opener | None = None,
    progress: Progress | None = None,
) -> Replay:
    """The state after position `until` (None: the end). `progress` hears the position after each page."""
    folded = Replay(projections, opener)
    catch_up(folded, log, until=until, progress=progress)
    return folded


def catch_up(folded: Replay, log: EventLog, *, until: int | None = None, progress: Progress | None = None) -> None:
    """Folds what follows, up to position `until` (None: the end)."""
    for page in pages(log, Query(after=folded.position, until=until)):
        folded.fold(page)
        if progress is not None:
            progress(folded.position)
    # A position that holds nothing these projections look at has been passed all the same.
    if until is not None:
        folded.position = max(folded.position, min(until, log.head().position))
