"""Two processes on one store, one of which is stopped, then killed, with the write lock in its hand."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from service.errors import Unavailable
from tests.durability.desk import CALLERS, EACH, desk
from tests.durability.disk import noting
from tests.durability.holder import HOLDING, PLACES
from tests.durability.look import faults

PATIENCE = 30.0


@asynccontextmanager
async def holder(folder: Path, place: str) -> AsyncIterator[trio.Process]:
    """Another process that holds the write lock of the store, stopped at that place of a batch."""
    command = [sys.executable, "-m", "tests.durability.holder", str(folder), place]
    process = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2])
    assert process.stdout is not None
    try:
        with trio.fail_after(PATIENCE):
            assert await process.stdout.receive_some() == HOLDING
        yield process
    finally:
        with trio.CancelScope(shield=True):
            process.kill()
            await process.wait()
            await process.stdout.aclose()


@pytest.mark.parametrize("place", PLACES)
async def test_whoever_waits_goes_on_when_the_holder_of_the_lock_is_killed(tmp_path: Path, place: str) -> None:
    disk = noting()
    async with desk(tmp_path / "store", disk) as at_desk:
        await at_desk.register_many()
        async with holder(at_desk.address.path.parent, place) as other, trio.open_nursery() as nursery:
            nursery.start_soon(at_desk.register_many)
            await trio.testing.wait_all_tasks_blocked()
            assert len(at_desk.answered) == CALLERS * EACH
            other.send_signal(signal.SIGKILL)
            assert await other.wait() == -signal.SIGKILL
    wrong = faults(at_desk.address, at_desk.events())

    assert wrong == []
    # The positions that the dead process had taken were given out again.
    assert max(one.position for one in at_desk.events()) == 2 * CALLERS * EACH == len(at_desk.answered)


async def test_a_holder_that_is_only_stopped_is_waited_for_no_longer_than_the_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("events.sqlite.BUSY_TIMEOUT_MS", 50)
    monkeypatch.setattr("service.writer.PROBE_SECONDS", 0.02)
    disk = noting()
    async with desk(tmp_path / "store", disk) as at_desk:
        await at_desk.register()
        async with holder(at_desk.address.path.parent, "entries written") as other:
            with pytest.raises(Unavailable) as refused:
                await at_desk.register()
            assert at_desk.book.log.head().position == 1
            other.send_signal(signal.SIGKILL)
            await other.wait()
            await at_desk.writer.writes_again()
        await at_desk.register()
    wrong = faults(at_desk.address, at_desk.events())

    assert wrong == []
    assert "locked" in refused.value.reason
    assert [one.position for one in at_desk.events()] == [1, 2]
