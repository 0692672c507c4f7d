"""The past of one document: as it was after a position, folded from the book.

What has the events of one subject or one hour is folded in a reader's thread, from these events alone. What can be
touched by any entry of the book (a name, a throttle) takes a replay, and a replay runs in a child process: this module,
run as `python -m service.past`, which reads one `Question` from standard input, where no process list shows it.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import Any, Final

import msgspec
import structlog
import trio
from msgspec import Struct

from events.errors import BookError, MasterKeyError, SealError, StoreError
from events.recorded import Recorded
from events.sealing import open_event
from projections.history import history_of
from projections.projection import AnyProjection, encode_document
from service.book import Book, StoreAddress, open_book
from service.children import Store, command
from service.errors import InternalError, Overloaded, Unavailable
from service.readers import Readers

log = structlog.get_logger("gatebook.past")

REPLAY_SECONDS: Final = 60.0
REPLAYS_WAITING: Final = 4
FOLDED_BY_A_READER: Final = frozenset({"users", "sessions", "activity"})
"""The projections whose documents each have few entries, which the log finds by an index."""
STORE_FAILED: Final = 3
"""Exit status of the child: the store or its keys could not be read, so nobody can say."""
BOOK_FAULTY: Final = 4
"""Exit status of the child: the book was read, and something in it cannot be decoded or folded."""


class Question(Struct, frozen=True):
    """What the child is asked."""

    store: Store
    projection: str
    key: str
    until: int

    def __repr__(self) -> str:
        return f"Question({self.projection}/{self.key} at {self.until})"


class Past:
    """See the module. One replay runs at a time; it is given up after `seconds`."""

    def __init__(self, address: StoreAddress, readers: Readers, *, seconds: float = REPLAY_SECONDS) -> None:
        self._store = Store.at(address)
        self._readers = readers
        self._seconds = seconds
        self._one = trio.CapacityLimiter(1)

    async def document(self, projection: AnyProjection, key: str, until: int) -> Any:  # noqa: ANN401 - the document of any projection
        """The document as it was after position `until`, None where there was none.

        Raises Overloaded, Unavailable, or InternalError when the book cannot be folded.
        """
        if projection.name in FOLDED_BY_A_READER:
            return await self._readers.look(lambda book: history_of(book.log, projection, key, until=until))
        if self._one.statistics().tasks_waiting >= REPLAYS_WAITING:
            raise Overloaded("replays")
        async with self._one:
            return await self._replayed(projection, Question(self._store, projection.name, key, until))

    async def _replayed(self, projection: AnyProjection, question: Question) -> Any:  # noqa: ANN401 - as above
        run = partial(
            trio.run_process,
            command("service.past"),
            stdin=msgspec.json.encode(question),
            capture_stdout=True,
            capture_stderr=True,
            check=False,
        )
        with trio.move_on_after(self._seconds) as scope:
            ended = await run()
        if scope.cancelled_caught:
            raise Overloaded("a replay", retry_after=int(self._seconds) + 1)
        if ended.returncode == STORE_FAILED:
            raise Unavailable(ended.stderr.decode(errors="replace").strip())
        if ended.returncode == BOOK_FAULTY:
            # The same answer as where a reader folds: that will not be better when somebody asks again.
            log.error("look_failed", error=ended.stderr.decode(errors="replace").strip())
            raise InternalError
        if ended.returncode != 0:
            log.error("replay_failed", asked=repr(question), status=ended.returncode)
            raise InternalError
        return msgspec.json.decode(ended.stdout, type=projection.document | None)


def _opened(recorded: Recorded, book: Book) -> Recorded:
    try:
        return open_event(recorded, book.keyring)
    except SealError:
        # As in every fold: what cannot be opened is nobody's name.
        return recorded


def main() -> int:
    """The child: answers one question with the document's JSON, or `null`."""
    question = msgspec.json.decode(sys.stdin.buffer.read(), type=Question)
    try:
        book = open_book(question.store.address)
        projection = book.projection(question.projection)
        if projection is None:
            return 1
        doc = history_of(book.log, projection, question.key, until=question.until, opener=partial(_opened, book=book))
        book.close()
    except (StoreError, MasterKeyError) as error:
        sys.stderr.write(f"{error}\n")
        return STORE_FAILED
    except BookError as error:
        sys.stderr.write(f"{error}\n")
        return BOOK_FAULTY
    sys.stdout.buffer.write(b"null" if doc is None else encode_document(doc))
    return 0


if __name__ == "__main__":
    sys.exit(main())
