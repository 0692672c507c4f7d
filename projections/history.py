"""Time travel for one document: what stood under a key after a position, folded from the entries that can touch it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import MAXYEAR, UTC, datetime, timedelta
from heapq import merge
from operator import attrgetter
from typing import Any, Final

from events.catalogue import is_position, wire_name
from events.errors import BookError, FoldError, SealError
from events.log import EventLog, Query, pages
from events.recorded import EPOCH, Recorded
from events.upcasting import UPCASTERS
from projections.projection import AnyProjection

_FEW_TYPES: Final = 2


def history_of(
    log: EventLog,
    projection: AnyProjection,
    key: str,
    *,
    until: int,
    opener: Callable[[Recorded], Recorded] | None = None,
) -> Any:  # noqa: ANN401 - the document of any projection
    """One document as it was after position `until`, None where there was none. Any text may be asked for as a key.

    Reads only the entries that can touch the document: a user's, a session's, an hour's; for `names` all that take or
    free names; for `throttles` the whole book, since no column names a throttle. Raises SealError for a projection that
    folds in plain text when there is no `opener`, FoldError as every fold.
    """
    if projection.opened and opener is None:
        raise SealError(f"The projection {projection.name} folds with keys, and there are none at hand.")
    doc: Any = None
    for recorded in _entries_about(log, projection, key, until):
        if type(recorded.event) not in projection.handles:
            continue
        seen = opener(recorded) if projection.opened and opener is not None else recorded
        try:
            if key in projection.keys(seen):
                doc = projection.evolve(key, doc, seen)
        except BookError:
            raise
        except Exception as error:
            # Whatever a fold raises is a fault of ours; it is named with its place.
            raise FoldError(projection.name, recorded.position, repr(error)) from error
    return doc


def _entries_about(log: EventLog, projection: AnyProjection, key: str, until: int) -> Iterator[Recorded]:
    """All entries that can touch the document, and perhaps more, in order; a test holds this against a whole replay."""
    match projection.name:
        case "users":
            return _read(log, *([Query(user=int(key), until=until)] if is_position(key) else []))
        case "sessions":
            return _read(log, *([Query(stream=f"session-{key}", until=until)] if is_position(key) else []))
        case "activity":
            hour = _hour(key)
            return _read(log, *([Query(since=hour, before=hour + timedelta(hours=1), until=until)] if hour else []))
    if len(projection.handles) > _FEW_TYPES:
        return _read(log, Query(until=until))
    # A retired shape stands in the book under its old wire name, whatever it is raised to on reading.
    types = {wire_name(kind) for kind in projection.handles} | UPCASTERS.keys()
    return _read(log, *(Query(type=name, until=until) for name in sorted(types)))


def _read(log: EventLog, *queries: Query) -> Iterator[Recorded]:
    def events(query: Query) -> Iterable[Recorded]:
        return (recorded for page in pages(log, query) for recorded in page)

    return merge(*map(events, queries), key=attrgetter("position"))


def _hour(key: str) -> datetime | None:
    """The first moment of an hour out of its key, `2026-11-21T01`; None for any other text."""
    try:
        hour = datetime.strptime(key, "%Y-%m-%dT%H").replace(tzinfo=UTC)
    except ValueError:
        return None
    # Nothing was ever recorded outside these, and arithmetic beside them would overflow.
    return hour if hour >= EPOCH and hour.year < MAXYEAR else None
