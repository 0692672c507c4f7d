"""What the metrics hear, and that nothing which they cannot hear ends the service."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock, wait_all_tasks_blocked

from events.catalogue import UserRegistered
from events.errors import CorruptStoreError, StoreUnavailableError, UndecodableEntryError
from events.follow import Arrivals, Follower
from events.log import EventLog, Query
from events.memory import MemoryLog
from events.recorded import Recorded
from service.batch import raised
from service.errors import InternalError
from service.metrics import Metrics
from service.observation import Observation
from service.writer import BatchTold
from tests.desk import Desk, kinds, orders
from tests.entries import append, opened, registered
from tests.house import Clock, book_in


@pytest.fixture(autouse=True)
def logged() -> Iterator[list[Any]]:
    with capture_logs() as lines:
        yield lines


class Troubled:
    """A log in which looks fail by the errors given, one for each look."""

    def __init__(self, log: EventLog, *errors: Exception) -> None:
        self._log = log
        self._errors = list(errors)

    def __getattr__(self, name: str) -> Any:
        found: Callable[..., Any] = getattr(self._log, name)

        def look(*arguments: Any) -> Any:
            if self._errors:
                raise self._errors.pop(0)
            return found(*arguments)

        return look if name in {"head", "read", "state"} else found


class Unreadable:
    """A log in which the entry at one position cannot be decoded."""

    def __init__(self, log: EventLog, position: int) -> None:
        self._log = log
        self._position = position

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    def read(self, query: Query) -> list[Recorded]:
        page = self._log.read(query)
        if any(one.position == self._position for one in page):
            raise UndecodableEntryError(self._position, "an event of a newer gatebook")
        return page


def counted(metrics: Metrics) -> float:
    found = metrics.registry.collect()
    return sum(s.value for family in found for s in family.samples if s.name == "gatebook_sessions_opened_total")


async def follow(metrics: Metrics, log: Any, nursery: trio.Nursery) -> Arrivals:
    """Starts to count what the log holds."""
    arrivals = Arrivals()
    nursery.start_soon(Observation(metrics).follow, Follower(log, arrivals, Query()))
    await wait_all_tasks_blocked()
    return arrivals


async def test_an_entry_that_cannot_be_decoded_is_not_counted_and_ends_nothing(logged: list[Any]) -> None:
    """A newer gatebook beside this one may write what this one does not know; then it goes unready, not away."""
    log, metrics = MemoryLog(), Metrics()
    append(log, ("user", registered()), ("session", opened()), ("session", opened()), ("session", opened()))

    async with trio.open_nursery() as nursery:
        await follow(metrics, Unreadable(log, 3), nursery)
        nursery.cancel_scope.cancel()

    assert counted(metrics) == 2
    assert metrics.registry.get_sample_value("gatebook_log_position") == 4
    assert [(one["event"], one["position"]) for one in logged] == [("entry_not_counted", 3)]


async def test_a_store_that_cannot_be_read_for_a_while_is_followed_again(
    autojump_clock: MockClock, logged: list[Any]
) -> None:
    log, metrics = MemoryLog(), Metrics()
    append(log, ("user", registered()), ("session", opened()))
    trouble = StoreUnavailableError("disk I/O error")

    async with trio.open_nursery() as nursery:
        await follow(metrics, Troubled(log, trouble, trouble), nursery)
        await trio.sleep(10)
        nursery.cancel_scope.cancel()

    assert counted(metrics) == 1
    assert [one["event"] for one in logged] == ["cannot_follow", "cannot_follow"]


async def test_a_store_that_says_it_is_damaged_ends_the_following() -> None:
    log: Any = Troubled(MemoryLog(), CorruptStoreError("malformed"))
    with trio.fail_after(5), pytest.raises(CorruptStoreError):
        await Observation(Metrics()).follow(Follower(log, Arrivals(), Query()))


async def test_the_watch_outlives_a_store_that_cannot_be_read(autojump_clock: MockClock) -> None:
    """Whoever follows is woken, and finds out by looking."""
    arrivals = Arrivals()
    log: Any = Troubled(MemoryLog(), StoreUnavailableError("disk I/O error"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(arrivals.watch, log, 0.01)
        with trio.fail_after(5):
            await arrivals.next().wait()
        await trio.sleep(1)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("projection", ["users", "activity"])
def test_a_fold_that_fails_is_counted(tmp_path: Path, projection: str) -> None:
    """In the command's own turn, or at the end of the batch, where its documents were loaded together."""
    with book_in(tmp_path) as book:
        desk, metrics = Desk(book, Clock()), Metrics()
        desk.break_(projection, lambda recorded: isinstance(recorded.event, UserRegistered))
        given = orders(desk.register("ada"))
        outcomes = desk.runner.run(given)
        Observation(metrics).batch(BatchTold(given, outcomes, 0.0, 0))

        assert kinds(outcomes) == ["InternalError"]
        with pytest.raises(InternalError):
            raised(outcomes[0])
        assert metrics.registry.get_sample_value("gatebook_fold_failures_total", {"projection": projection}) == 1
