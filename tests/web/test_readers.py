"""Readers: books are kept for the next look, are never shared, and their number is bounded."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from events.errors import CorruptStoreError, FoldError
from projections.catalogue import USERS
from service.book import Book, open_book, parse_address
from service.errors import InternalError, NotFound, Overloaded, Unavailable
from service.readers import Readers
from tests.house import book_in


class Shelf:
    """Opens books over one store and remembers them."""

    def __init__(self, folder: Path) -> None:
        self.address = parse_address(f"sqlite:{folder}/gatebook.db")
        self.opened: list[Book] = []
        self.closed: list[Book] = []

    def __call__(self) -> Book:
        book = open_book(self.address)
        close = book.close

        def noted() -> None:
            self.closed.append(book)
            close()

        book.close = noted  # type: ignore[method-assign]  # the shelf hears of it
        self.opened.append(book)
        return book


def raising(error: Exception) -> Callable[[Book], None]:
    def ask(_: Book) -> None:
        raise error

    return ask


async def test_a_book_is_kept_for_the_next_look_and_closed_at_the_end(tmp_path: Path) -> None:
    with book_in(tmp_path):
        shelf = Shelf(tmp_path)
        readers = Readers(shelf)
        assert shelf.opened == []
        assert [await readers.look(lambda book: book.log.head().position) for _ in range(3)] == [0, 0, 0]
        assert len(shelf.opened) == 1
        readers.close()
        assert shelf.closed == shelf.opened


async def test_looks_wait_for_a_book_and_no_more_than_so_many(tmp_path: Path) -> None:
    with book_in(tmp_path):
        shelf = Shelf(tmp_path)
        readers = Readers(shelf, books=2, most_waiting=1)
        going, begun = threading.Event(), threading.Semaphore(0)
        seen: list[Book] = []

        def hold(book: Book) -> None:
            seen.append(book)
            begun.release()
            going.wait(10)

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(readers.look, hold)
            for _ in range(2):
                await trio.to_thread.run_sync(begun.acquire)
            with pytest.raises(Overloaded):
                await readers.look(hold)
            going.set()
        assert len(seen) == 3
        assert len({id(book) for book in seen[:2]}) == 2
        assert len(shelf.opened) == 2
        readers.close()


async def test_faults_become_refusals_and_refusals_stay(tmp_path: Path) -> None:
    with book_in(tmp_path):
        shelf = Shelf(tmp_path)
        readers = Readers(shelf)
        with pytest.raises(NotFound):
            await readers.look(raising(NotFound()))
        with pytest.raises(InternalError):
            await readers.look(raising(FoldError("users", 1, "…")))
        assert shelf.closed == []
        with pytest.raises(Unavailable):
            await readers.look(raising(CorruptStoreError("…")))
        assert shelf.closed == shelf.opened
        await readers.look(lambda book: book.log.head())
        assert len(shelf.opened) == 2
        readers.close()
        assert shelf.closed == shelf.opened


async def test_documents_of_a_newer_making_are_nothing_that_we_can_speak_of(tmp_path: Path) -> None:
    with book_in(tmp_path) as book:
        shelf = Shelf(tmp_path)
        readers = Readers(shelf)
        with pytest.raises(Unavailable) as refusal:
            await readers.look(lambda _: book.decode(USERS, b'{"id":"seventeen"}'))
        assert "does not know" in refusal.value.reason
        assert shelf.closed == []
        readers.close()


async def test_a_book_in_use_is_closed_when_its_look_ends(tmp_path: Path) -> None:
    with book_in(tmp_path):
        shelf = Shelf(tmp_path)
        readers = Readers(shelf)
        going, begun = threading.Event(), threading.Event()

        def hold(_: Book) -> None:
            begun.set()
            going.wait(10)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(readers.look, hold)
            await trio.to_thread.run_sync(begun.wait)
            readers.close()
            assert shelf.closed == []
            going.set()
        assert shelf.closed == shelf.opened
