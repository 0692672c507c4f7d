"""The child process of a rebuild: `python -m service.rebuild_child` reads one `Work`, and tells how it goes.

What it tells are lines of JSON on standard output, each one of the messages below; the last says how it ended. It ends
by itself when whoever started it has gone. SIGTERM and SIGINT end it between two statements, and the table that it was
building goes with it; a child that is killed leaves that to the next rebuild.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from time import monotonic
from typing import Final

import msgspec
from msgspec import Struct

from events.errors import BookError, FoldError, RebuildUnderWayError, StoreError
from projections.rebuild import rebuild
from service.book import fresh_table, open_book
from service.children import Store
from service.guards.reporting import describe

TELL_SECONDS: Final = 0.1
"""How often it says where it is, at most."""


class Work(Struct, frozen=True):
    """What the child is asked to do."""

    store: Store
    projection: str


class Progress(Struct, frozen=True, tag="progress"):
    """It has folded up to that position; the book ends at `head`. Said for the first time when nobody else rebuilds."""

    position: int
    head: int


class Done(Struct, frozen=True, tag="done"):
    """The rebuilt read model is in its place, at that position; `changed` says whether it made a difference."""

    position: int
    changed: bool


class UnderWay(Struct, frozen=True, tag="under_way"):
    """Somebody else rebuilds that read model at this moment; nothing was done."""

    sentence: str


class Failed(Struct, frozen=True, tag="failed"):
    """It could not be rebuilt, and stands as it was. `fault` is the place of a fault of ours, for the log."""

    sentence: str
    fault: str | None = None


Told = Progress | Done | UnderWay | Failed


def work(asked: Work, tell: Callable[[Told], None]) -> None:
    """Rebuilds, and tells of it."""
    told_at = -TELL_SECONDS

    def progress(position: int, head: int) -> None:
        nonlocal told_at
        if (now := monotonic()) - told_at >= TELL_SECONDS or position == head:
            told_at = now
            tell(Progress(position, head))

    book = open_book(asked.store.address)
    try:
        projection = book.projection(asked.projection)
        if projection is None:
            raise LookupError(asked.projection)
        done = rebuild(book.log, fresh_table(book, projection), keyring=book.keyring, progress=progress)
    finally:
        book.close()
    tell(Done(done.position, done.changed))


def _tell(told: Told) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(told) + b"\n")
    sys.stdout.buffer.flush()


def main() -> int:
    """The child."""
    # As Ctrl-C does everywhere else: what is under way is rolled back and tidied up on the way out.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        work(msgspec.json.decode(sys.stdin.buffer.read(), type=Work), _tell)
    except (KeyboardInterrupt, BrokenPipeError):
        return 1
    except RebuildUnderWayError as error:
        _tell(UnderWay(str(error)))
    except FoldError as error:
        # Its own text may quote what was folded.
        _tell(Failed(f"The projection failed on the entry at position {error.position}.", describe(error)))
    except (StoreError, BookError) as error:
        _tell(Failed(str(error)))
    except Exception as error:  # noqa: BLE001 - the last word of the child
        _tell(Failed("Something went wrong on our side.", describe(error)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
