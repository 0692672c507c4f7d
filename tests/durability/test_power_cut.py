"""The power goes: what was answered is there, what was not may be, and nothing is half."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from events.log import Query
from events.recorded import Entry, Recorded
from service.book import open_book
from tests.durability.disk import Disk, Image, Platter, noting
from tests.durability.look import Part, address_in, connection, faults, laid_out
from tests.durability.traffic import Traffic

PARTS: Final[tuple[Part, ...]] = ("log", "keys")
BATCHES: Final = 50
MOMENTS: Final = 70
SMALL: Final = 40
"""Pages after which a write-ahead log is folded in: few, so that checkpoints and restarts of it are cut into too."""


class Told:
    """One run: everything the disk did, and after how many acts each batch was answered."""

    def __init__(self, disk: Disk, answers: list[tuple[int, list[Recorded]]], entries: list[Entry]) -> None:
        self.acts = disk.acts
        self.answers = answers
        self.entries = entries
        self.ends = {0, *(recorded[-1].position for _, recorded in answers if recorded)}

    def answered_by(self, moment: int) -> list[Recorded]:
        return [one for at, recorded in self.answers if at <= moment for one in recorded]


def told(folder: Path, seed: int, batches: int = BATCHES, syncing: dict[Part, str] | None = None) -> Told:
    """A run from an empty folder on."""
    folder.mkdir()
    disk = noting()
    book = open_book(address_in(folder), create=True, vfs=disk.name)
    for part in PARTS:
        connection(book, part).pragma("wal_autocheckpoint", SMALL)
    for part, level in (syncing or {}).items():
        connection(book, part).pragma("synchronous", level)
    traffic = Traffic(book, seed)
    answers = []
    for _ in range(batches):
        recorded = traffic.batch()
        answers.append((disk.now(), recorded))
    entries = book.log.entries(Query(limit=100_000))
    book.close()
    return Told(disk, answers, entries)


def cuts(run: Told, moments: list[int], chance: random.Random | None) -> Iterator[tuple[int, Image]]:
    """The images after cuts at those moments."""
    platter, played = Platter(), 0
    for moment in sorted(moments):
        platter.play(run.acts[played:moment])
        played = moment
        yield moment, platter.cut(chance)


def found(run: Told, moments: list[int], folder: Path, chance: random.Random | None) -> Iterator[tuple[int, list[str]]]:
    """What is wrong after cuts at those moments."""
    for moment, image in cuts(run, moments, chance):
        address = laid_out(image, folder / f"cut-{moment}")
        wrong = faults(address, run.answered_by(moment), whole=run.entries, ends=run.ends)
        if wrong:
            yield moment, wrong


def test_at_any_moment_what_was_answered_is_there_and_nothing_half(tmp_path: Path) -> None:
    run = told(tmp_path / "run", seed=1)
    chance = random.Random(1)  # noqa: S311 - drawn again from the same seed
    moments = chance.sample(range(len(run.acts) + 1), MOMENTS)
    # A run without checkpoints would show nothing about them.
    assert sum(act.kind == "sync" and act.file == "gatebook.db" for act in run.acts) > 10

    assert list(found(run, moments, tmp_path / "synced", None)) == []
    assert list(found(run, moments, tmp_path / "partly", chance)) == []


def test_as_each_batch_is_answered_its_events_and_keys_are_synced(tmp_path: Path) -> None:
    run = told(tmp_path / "run", 3)

    assert list(found(run, [at for at, _ in run.answers], tmp_path / "cuts", None)) == []


@pytest.mark.parametrize(("part", "expected"), [("log", "is lost"), ("keys", "does not open")])
@pytest.mark.parametrize("level", ["off", "normal"])
def test_a_store_that_does_not_sync_is_found_out(tmp_path: Path, part: Part, expected: str, level: str) -> None:
    run = told(tmp_path / "run", 4, batches=10, syncing={part: level})

    wrong = dict(found(run, [at for at, _ in run.answers], tmp_path / "cuts", None))

    assert any(expected in sentence for sentences in wrong.values() for sentence in sentences)
