"""Rebuilding a read model from the book: beside the live table, compared with it by digest, then put in its place.

Everything that takes long happens without the write lock, so that the service goes on writing. A crash leaves the live
table as it was, and perhaps a table of another name, which the next rebuild removes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from typing import Final, Protocol

from msgspec import Struct

from events.errors import BookError, FoldError, SealError
from events.keys import Keyring
from events.log import EventLog, Query, pages
from events.recorded import Recorded
from events.sealing import needs_key, open_event
from projections.projection import AnyProjection, encode_document
from projections.replay import Replay
from projections.store import Change, ReadModelState, moved

Progress = Callable[[int, int], None]
"""Hears the position folded to and the position that the book ended at, after each page."""

ROWS_A_TRANSACTION: Final = 500
"""How many documents are written before the write lock is given up again: one statement's worth."""
NEARLY_THERE: Final = 500
"""How many entries may be left to fold under the write lock."""
MOST_ROUNDS: Final = 20
"""How often a rebuild goes after the service without the lock before it takes it and folds whatever is left."""


class Rebuilt(Struct, frozen=True):
    """What came of a rebuild, at `position`. Digests are 64 hex digits.

    `before` is recomputed from the rows that were replaced, None where there was no such table; `maintained` is what
    had been kept up for them, None where this revision had kept up nothing. `changed` says whether the rebuild made a
    difference: whether either was not `after`.
    """

    projection: str
    revision: int
    position: int
    documents: int
    before: str | None
    maintained: str | None
    after: str

    @property
    def changed(self) -> bool:
        """See the class."""
        return self.before != self.after or self.maintained != self.after


class FreshTable(Protocol):
    """A table of one projection beside the live one, and the means to put it in its place.

    `put`, `live` and `switch` are for inside `locked`; the others take the write lock themselves where they need it.
    """

    @property
    def projection(self) -> AnyProjection:
        """Whose table it is."""

    def alone(self) -> AbstractContextManager[None]:
        """A block in which nobody else rebuilds this projection: RebuildUnderWayError when somebody does already.

        The table is made when the block begins, and what a crashed rebuild left is removed. When it ends, what is no
        longer needed is removed: the replaced table, or this one where it did not come to be put in place.
        """

    def locked(self) -> AbstractContextManager[int]:
        """The write lock, with the position of the head; what was done is committed when the block ends."""

    def put(self, changes: Mapping[str, Change]) -> None:
        """Puts and deletes documents in it."""

    def live(self) -> ReadModelState | None:
        """Where the live read model stands; NewerStoreError when a newer gatebook keeps it."""

    def switch(self, state: ReadModelState) -> None:
        """Puts it in the place of the live one, which steps aside, and says where it stands."""

    def replaced_digest(self) -> str | None:
        """The digest of the rows that stepped aside, recomputed; None where there was no table."""


def rebuild(
    log: EventLog, table: FreshTable, *, keyring: Keyring | None = None, progress: Progress | None = None
) -> Rebuilt:
    """Rebuilds the read model from the book and puts it in the place of the live one, whatever that holds.

    Works while the service writes: the lock is held for some documents at a time, and at the end for the entries that
    came since. Raises RebuildUnderWayError, NewerStoreError, SealError for a projection that folds with keys when there
    is no keyring, FoldError, UndecodableEntryError, and the errors of a transaction; the live read model then stands as
    it was.
    """
    projection = table.projection
    if projection.opened and keyring is None:
        raise SealError(f"The projection {projection.name} folds with keys, and there are none at hand.")
    with table.alone():
        fold = _Fold(log, projection, keyring, progress)
        for part in fold.everything():
            with table.locked():
                table.put(part)
        for _ in range(MOST_ROUNDS):
            if log.head().position - fold.state.position <= NEARLY_THERE:
                break
            changes = fold.catch_up(log.head().position)
            for part in _parts(changes):
                with table.locked():
                    table.put(part)
        with table.locked() as head:
            table.put(fold.catch_up(head))
            live = table.live()
            table.switch(fold.state)
        before = table.replaced_digest()
    state = fold.state
    kept_up = live is not None and (live.revision, live.position) == (state.revision, state.position)
    return Rebuilt(
        projection.name,
        state.revision,
        state.position,
        state.documents,
        before,
        live.digest if live is not None and kept_up else None,
        state.digest,
    )


class _Fold:
    """The projection's fold in memory. `state` is where the fresh table stands once it has been given every change."""

    def __init__(
        self, log: EventLog, projection: AnyProjection, keyring: Keyring | None, progress: Progress | None
    ) -> None:
        self._log = log
        self._projection = projection
        self._keyring = keyring
        self._progress = progress
        self._replay = Replay([projection], self._opened)
        self._documents = self._replay.documents[projection.name]
        self.state = ReadModelState(projection.revision)

    def everything(self) -> Iterator[dict[str, Change]]:
        """Folds the book up to its present end, and gives every document, some at a time."""
        end = self._log.head().position
        for page in self._pages(end):
            self._replay.fold(page)
            self._told(end)
        digest = self._replay.digest(self._projection.name)
        self.state = ReadModelState(self._projection.revision, end, len(self._documents), digest)
        keys = list(self._documents)
        for start in range(0, len(keys), ROWS_A_TRANSACTION):
            yield {key: self._change(key, None) for key in keys[start : start + ROWS_A_TRANSACTION]}

    def catch_up(self, until: int) -> dict[str, Change]:
        """Folds what follows, up to that position, and gives what it changed."""
        before: dict[str, bytes | None] = {}
        for page in self._pages(until):
            for recorded in page:
                for key in self._keys(recorded):
                    if key not in before:
                        doc = self._documents.get(key)
                        before[key] = None if doc is None else encode_document(doc)
            self._replay.fold(page)
            self._told(until)
        changes = {key: self._change(key, stored) for key, stored in before.items()}
        self.state = moved(self.state, changes, until)
        return changes

    def _pages(self, until: int) -> Iterator[list[Recorded]]:
        for page in pages(self._log, Query(after=self._replay.position, until=until)):
            if self._projection.opened and self._keyring is not None:
                # One read of the key store for the page. A key that does not open is named by what needs it.
                with suppress(SealError):
                    self._keyring.prepare(subject for one in page if (subject := needs_key(one.stream, one.event)))
            yield page

    def _keys(self, recorded: Recorded) -> tuple[str, ...]:
        projection = self._projection
        if type(recorded.event) not in projection.handles:
            return ()
        try:
            return projection.keys(self._opened(recorded) if projection.opened else recorded)
        except BookError:
            raise
        except Exception as error:
            # Whatever a fold raises is a fault of ours; it is named with its place.
            raise FoldError(projection.name, recorded.position, repr(error)) from error

    def _change(self, key: str, before: bytes | None) -> Change:
        doc = self._documents.get(key)
        if doc is None:
            return Change(before, None)
        return Change(before, encode_document(doc), tuple(index.value(doc) for index in self._projection.indexes))

    def _opened(self, recorded: Recorded) -> Recorded:
        return recorded if self._keyring is None else open_event(recorded, self._keyring)

    def _told(self, end: int) -> None:
        if self._progress is not None:
            self._progress(self._replay.position, end)


def _parts(changes: dict[str, Change]) -> Iterator[dict[str, Change]]:
    keys = list(changes)
    for start in range(0, len(keys), ROWS_A_TRANSACTION):
        yield {key: changes[key] for key in keys[start : start + ROWS_A_TRANSACTION]}
