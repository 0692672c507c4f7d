"""Following: history, then what is appended, with no gap and no repeat."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from events.follow import Arrivals, Follower
from events.log import EventLog, Query
from events.memory import MemoryLog
from events.sqlite import SQLiteLog
from tests.entries import append, closed, opened, registered


@pytest.fixture(params=["memory", "sqlite"])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EventLog]:
    store: EventLog = MemoryLog() if request.param == "memory" else SQLiteLog(tmp_path / "gatebook.db")
    yield store
    store.close()


async def take(follower: Follower, count: int) -> list[int]:
    """The positions of the next pages, until there are that many."""
    positions: list[int] = []
    while len(positions) < count:
        positions += [recorded.position for recorded in await follower.page()]
    return positions


async def test_history_comes_first_page_by_page(log: EventLog) -> None:
    append(log, *[("user", registered(f"user-{n}")) for n in range(5)])
    follower = Follower(log, Arrivals(), Query(limit=2))

    assert [len(await follower.page()) for _ in range(3)] == [2, 2, 1]
    assert (follower.position, follower.lag()) == (5, 0)


async def test_then_it_waits_for_what_is_announced(log: EventLog, autojump_clock: MockClock) -> None:
    append(log, ("user", registered()))
    arrivals = Arrivals()
    follower = Follower(log, arrivals, Query())
    assert await take(follower, 1) == [1]
    heard: list[int] = []

    async def listen() -> None:
        heard.extend(await take(follower, 2))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(listen)
        await wait_all_tasks_blocked()
        assert heard == []
        append(log, ("session", opened()))
        append(log, ("session-2", closed()))
        arrivals.announce()

    assert heard == [2, 3]


async def test_what_is_appended_between_looking_and_waiting_is_not_missed(log: EventLog) -> None:
    """The announcement comes after the look at the log and before the wait: the follower must hear it all the same."""
    arrivals = Arrivals()

    class AppendsMeanwhile:
        """A log to which something is appended just when it was found to have nothing new."""

        def __getattr__(self, name: str) -> object:
            return getattr(log, name)

        def read(self, query: Query) -> object:
            found = log.read(query)
            if not found:
                append(log, ("user", registered()))
                arrivals.announce()
            return found

    follower = Follower(AppendsMeanwhile(), arrivals, Query())  # type: ignore[arg-type] # it hands on to a log
    with trio.fail_after(5):
        assert await take(follower, 1) == [1]


async def test_what_does_not_match_is_passed_over_once(log: EventLog) -> None:
    append(log, ("user", registered()), ("session", opened()), ("session-2", closed()), ("session", opened()))
    follower = Follower(log, Arrivals(), Query(type="session.opened"))

    assert await take(follower, 2) == [2, 4]


async def test_a_follower_says_how_far_it_is_behind(log: EventLog) -> None:
    append(log, *[("user", registered(f"user-{n}")) for n in range(3)])
    follower = Follower(log, Arrivals(), Query(after=1, limit=1))

    assert follower.lag() == 2
    await follower.page()
    assert follower.lag() == 1


async def test_another_processs_events_are_announced_by_the_watch(tmp_path: Path, autojump_clock: MockClock) -> None:
    ours, theirs = SQLiteLog(tmp_path / "gatebook.db"), SQLiteLog(tmp_path / "gatebook.db")
    arrivals = Arrivals()
    follower = Follower(ours, arrivals, Query())
    heard: list[int] = []

    async def listen() -> None:
        heard.extend(await take(follower, 1))
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(arrivals.watch, ours, 0.01)
        nursery.start_soon(listen)
        append(theirs, ("user", registered()))

    assert heard == [1]
    ours.close()
    theirs.close()


async def test_what_was_committed_before_the_watch_looks_for_the_first_time_is_announced_too(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """The follower has looked and waits, another process commits, and only then the watch begins."""
    ours, theirs = SQLiteLog(tmp_path / "gatebook.db"), SQLiteLog(tmp_path / "gatebook.db")
    arrivals = Arrivals()
    follower = Follower(ours, arrivals, Query())
    heard: list[int] = []

    async def listen() -> None:
        heard.extend(await take(follower, 1))
        nursery.cancel_scope.cancel()

    with trio.move_on_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen)
            await wait_all_tasks_blocked()
            append(theirs, ("user", registered()))
            nursery.start_soon(arrivals.watch, ours, 0.01)

    assert heard == [1]
    ours.close()
    theirs.close()
