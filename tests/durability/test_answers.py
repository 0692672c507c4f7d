"""The writer answers what is synced, and ends where a sync fails."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import apsw
import pytest
import trio

from events.errors import DurabilityError
from events.recorded import Recorded
from service.book import open_book
from service.errors import Unavailable
from tests.durability.desk import CALLERS, EACH, WALS, Desk, desk
from tests.durability.disk import Act, Image, Platter, noting
from tests.durability.look import Part, connection, faults, laid_out
from tests.durability.traffic import Traffic


def images(at_desk: Desk) -> list[tuple[list[Recorded], Image]]:
    """What was synced as each caller was answered, and who had been answered until then."""
    platter, played, told, found = Platter(), 0, list[Recorded](), []
    for moment, recorded in at_desk.answered:
        platter.play(at_desk.disk.acts[played:moment])
        played = moment
        told += recorded
        found.append((list(told), platter.cut()))
    return found


def wrong(at_desk: Desk, folder: Path) -> list[str]:
    return [
        sentence
        for number, (answered, image) in enumerate(images(at_desk))
        for sentence in faults(laid_out(image, folder / f"answer-{number}"), answered)
    ]


async def test_no_answer_precedes_the_sync_that_covers_it(tmp_path: Path) -> None:
    disk = noting()
    async with desk(tmp_path / "store", disk) as at_desk:
        await at_desk.register_many()
        syncs = sum(act.file == WALS["log"] and act.kind in {"sync", "folder"} for act in disk.acts)

    assert len(at_desk.answered) == CALLERS * EACH
    assert wrong(at_desk, tmp_path) == []
    # One sync for a batch, not for a command: otherwise the batches, which are the danger, were not tried.
    assert syncs < CALLERS * EACH


@pytest.mark.parametrize(("part", "expected"), [("log", "is lost"), ("keys", "does not open")])
async def test_answers_of_a_store_that_does_not_sync_are_found_out(tmp_path: Path, part: Part, expected: str) -> None:
    disk = noting()
    async with desk(tmp_path / "store", disk, syncing={part: "off"}) as at_desk:
        await at_desk.register_many()

    assert any(expected in sentence for sentence in wrong(at_desk, tmp_path))


@pytest.mark.parametrize("part", ["log", "keys"])
async def test_a_sync_that_fails_ends_the_writer_and_is_not_tried_again(tmp_path: Path, part: Part) -> None:
    refused: list[str] = []
    failed: list[int] = []

    def failing(act: Act) -> int | None:
        if failed or act.file != WALS[part] or act.kind not in {"sync", "folder"}:
            return None
        # Only the first fails: one that is tried again would succeed, and lie.
        failed.append(disk.now())
        return apsw.SQLITE_IOERR_FSYNC

    async def caller(at_desk: Desk) -> None:
        try:
            await at_desk.register()
        except Unavailable as refusal:
            refused.append(refusal.reason)

    disk = noting()
    with pytest.RaisesGroup(DurabilityError):
        async with desk(tmp_path / "store", disk) as at_desk, trio.open_nursery() as nursery:
            await at_desk.register_many()
            disk.failing = failing
            for _ in range(CALLERS):
                nursery.start_soon(caller, at_desk)

    assert len(refused) == CALLERS
    assert len(at_desk.answered) == CALLERS * EACH
    afterwards = disk.acts[failed[0] : at_desk.ended]
    assert afterwards[0] == Act(WALS[part], "lost")
    assert [act for act in afterwards if act.kind in {"sync", "folder"}] == []
    platter = Platter()
    platter.play(disk.acts[: at_desk.ended])
    assert faults(laid_out(platter.cut(), tmp_path / "after"), at_desk.events()) == []
    with pytest.raises(Unavailable):
        await at_desk.register()


def test_a_checkpoint_whose_sync_fails_loses_nothing(tmp_path: Path) -> None:
    failed: list[Act] = []

    def failing(act: Act) -> int | None:
        if act.file != "gatebook.db" or act.kind != "sync" or len(failed) == 3:
            return None
        failed.append(act)
        return apsw.SQLITE_IOERR_FSYNC

    disk = noting()
    book = open_book(laid_out({}, tmp_path / "store"), create=True, vfs=disk.name)
    connection(book, "log").pragma("wal_autocheckpoint", 20)
    disk.failing = failing
    traffic = Traffic(book, seed=5)
    for _ in range(30):
        # The commit before the checkpoint stands, and SQLite goes on; that an exception comes out of it is apsw's.
        with suppress(DurabilityError):
            traffic.batch()
    platter = Platter()
    platter.play(disk.acts)
    book.close()

    assert len(failed) == 3
    assert faults(laid_out(platter.cut(), tmp_path / "after"), traffic.answered) == []
