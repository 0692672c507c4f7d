"""A writer at work over a disk that notes, and who was answered when."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import trio

from events.recorded import Recorded
from service.batch import BatchRunner
from service.book import Book, StoreAddress, open_book
from service.writer import Writer
from tests.durability.disk import Disk
from tests.durability.look import Part, connection, laid_out
from tests.durability.traffic import Traffic

CALLERS: Final = 12
EACH: Final = 4
WALS: Final[dict[Part, str]] = {"log": "gatebook.db-wal", "keys": "gatebook.keys.db-wal"}


class HeardWriter(Writer):
    """A writer of which it is heard when it has found out by itself that its trouble is over."""

    well = trio.Event()

    async def writes_again(self) -> None:
        """Until nothing is in the way of writing."""
        with trio.fail_after(30):
            while self.trouble is not None:
                await self.well.wait()

    def _set_trouble(self, trouble: str | None) -> None:
        super()._set_trouble(trouble)
        if trouble is None:
            self.well.set()
            self.well = trio.Event()


class Desk:
    """A writer over a noted disk; `register` gives what was answered, and notes when. `book` is to be read alone."""

    def __init__(self, disk: Disk, writer: HeardWriter, book: Book, address: StoreAddress) -> None:
        self.disk = disk
        self.writer = writer
        self.book = book
        self.address = address
        self._traffic = Traffic(book, seed=1)
        self.answered: list[tuple[int, tuple[Recorded, ...]]] = []
        self.ended = 0
        """How many acts there were when the writer had ended."""

    async def register(self) -> tuple[Recorded, ...]:
        command = self._traffic.registration().command
        recorded = await self.writer.submit(command, actor="somebody", door="a-door")
        self.answered.append((self.disk.now(), recorded))
        return recorded

    async def register_many(self) -> None:
        async def caller() -> None:
            for _ in range(EACH):
                await self.register()

        async with trio.open_nursery() as nursery:
            for _ in range(CALLERS):
                nursery.start_soon(caller)

    def events(self) -> list[Recorded]:
        return [one for _, recorded in self.answered for one in recorded]


@asynccontextmanager
async def desk(folder: Path, disk: Disk, *, syncing: dict[Part, str] | None = None) -> AsyncIterator[Desk]:
    """A writer at work in a folder of its own until the block ends."""
    address = laid_out({}, folder)
    book = open_book(address, create=True, vfs=disk.name)
    owns: list[Book] = []

    def runner() -> BatchRunner:
        own = open_book(address, vfs=disk.name)
        owns.append(own)
        for part, level in (syncing or {}).items():
            connection(own, part).pragma("synchronous", level)
        return BatchRunner(own)

    writer = HeardWriter(runner, batch_size=5, most_waiting=1_000, observer=lambda _: None)
    at_desk = Desk(disk, writer, book, address)
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(writer.run)
            yield at_desk
            nursery.cancel_scope.cancel()
    finally:
        at_desk.ended = disk.now()
        # A writer that had to end leaves its book as it is: the process would be gone.
        for own in owns:
            for part in WALS:
                connection(own, part).close()
        book.close()
