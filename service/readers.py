"""Readers: worker threads with books of their own, for what is too long to be looked up in the event loop.

A book is used by one thread at a time; those at rest are kept for the next look. Each bound has a name: books open at
once, and looks that wait for one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, TypeVar

import msgspec
import structlog
import trio

from events.errors import BookError, StoreError
from service.book import Book
from service.errors import InternalError, Overloaded, Unavailable

log = structlog.get_logger("gatebook.readers")
T = TypeVar("T")

BOOKS: Final = 2
MOST_WAITING: Final = 50


class Readers:
    """See the module. `open_book` is called in a worker thread, at the first look that finds no book at rest."""

    def __init__(self, open_book: Callable[[], Book], *, books: int = BOOKS, most_waiting: int = MOST_WAITING) -> None:
        self._open_book = open_book
        self._limiter = trio.CapacityLimiter(books)
        self._most_waiting = most_waiting
        self._resting: deque[Book] = deque()
        self._closed = False

    async def look(self, ask: Callable[[Book], T]) -> T:
        """What `ask` finds, in a worker thread; refusals that it raises are raised.

        Nobody can end an `ask` that has begun, so each is bounded: a page, or the entries of one subject. Raises
        Overloaded when too many looks wait, Unavailable when the store cannot say, InternalError for a faulty book.
        """
        if self._limiter.statistics().tasks_waiting >= self._most_waiting:
            raise Overloaded("looks")
        try:
            return await trio.to_thread.run_sync(self._look, ask, limiter=self._limiter)
        except StoreError as error:
            raise Unavailable(str(error)) from error
        except msgspec.DecodeError as error:
            # As in the gate's lookups: a newer gatebook has rebuilt the read model beside us.
            raise Unavailable("a read model holds documents that this gatebook does not know") from error
        except BookError as error:
            log.error("look_failed", error=str(error))  # noqa: TRY400 - the sentence names the place, a trace adds nothing
            raise InternalError from error

    def close(self) -> None:
        """Closes the books at rest; one that is in use is closed when its look ends."""
        self._closed = True
        while self._resting:
            self._resting.pop().close()

    def _look(self, ask: Callable[[Book], T]) -> T:
        try:
            book = self._resting.pop()
        except IndexError:
            book = self._open_book()
        sound = True
        try:
            return ask(book)
        except StoreError:
            # The file may have been replaced, or its lock lost: the next look starts anew.
            sound = False
            raise
        finally:
            if sound and not self._closed:
                self._resting.append(book)
            else:
                book.close()
