"""A process that stops in the middle of a batch, with the write lock in its hand: `python -m tests.durability.holder`.

Its arguments are the folder of the store and the place to stop at. It says `holding` and waits to be killed.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from typing import Final, Literal, NoReturn, get_args

from service.batch import utc_now
from service.book import Book, open_book
from tests.durability.desk import WALS
from tests.durability.disk import Act, noting
from tests.durability.look import address_in
from tests.durability.traffic import Traffic

HOLDING: Final = b"holding\n"
Place = Literal["keys written", "entries written", "commit unsynced"]
PLACES: Final[tuple[Place, ...]] = get_args(Place)


def hold() -> NoReturn:
    """Says that it is there, and is there until it is killed."""
    os.write(sys.stdout.fileno(), HOLDING)
    threading.Event().wait()
    raise AssertionError("nobody ends this wait")


def main(folder: Path, place: str) -> None:
    """Registers two people in one batch, and stops there."""
    disk = noting()
    book: Book = open_book(address_in(folder), vfs=disk.name)
    traffic = Traffic(book, seed=99, start=utc_now())
    orders = [traffic.registration(), traffic.registration()]
    match place:
        case "keys written":
            keep = book.keyring.keep
            setattr(book.keyring, "keep", lambda keys: (keep(keys), hold()))  # noqa: B010 - a method, for this one batch
        case "entries written":
            setattr(book.log, "_commit", hold)  # noqa: B010 - as above
        case _:
            # Valid frames with a commit's mark lie in the write-ahead log then, of which no index knows.
            disk.failing = _holding_at_the_sync
    traffic.run(orders)


def _holding_at_the_sync(act: Act) -> int | None:
    if act.file == WALS["log"] and act.kind in {"sync", "folder"}:
        hold()
    return None


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
