"""The registry of open sockets: who is dropped, who is told, and that nobody holds up or ends anybody else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock, wait_all_tasks_blocked
from trio_websocket import CloseReason, ConnectionClosed

from events.catalogue import SessionClosed
from events.errors import CorruptStoreError, StoreUnavailableError, UndecodableEntryError
from events.follow import Arrivals, Follower
from events.log import EventLog, Query
from events.memory import MemoryLog
from events.recorded import Recorded
from service.errors import Unavailable
from service.metrics import Metrics
from service.sockets.registry import ENDING, Registry
from tests.entries import append, closed, opened, registered

TELL_SECONDS: Final = 30.0


@pytest.fixture(autouse=True)
def logged() -> Iterator[list[Any]]:
    with capture_logs() as lines:
        yield lines


async def nothing() -> None:
    """A client that takes at once what it is told."""


class Client:
    """A connection that holds sessions: what it was dropped from, how often it was told, whether it was cut."""

    def __init__(self, telling: Callable[[], Awaitable[None]] = nothing, *, door: str = "react-auth") -> None:
        self.door = door
        self.dropped: list[int] = []
        self.told = 0
        self.was_cut = False
        self.heard = trio.Event()
        self._telling = telling

    def drop(self, session_id: int) -> bool:
        self.dropped.append(session_id)
        return True

    async def tell(self) -> None:
        await self._telling()
        self.told += 1
        self.heard.set()

    def cut(self) -> None:
        self.was_cut = True


class Silent(Client):
    """A connection whose contract has no word for it."""

    def drop(self, session_id: int) -> bool:
        self.dropped.append(session_id)
        return False


class Broken(Client):
    """A connection with a fault of ours."""

    def drop(self, session_id: int) -> bool:
        raise RuntimeError(f"a secret of session {session_id}")


class Desk:
    """A registry at work over a log in memory; `over` are the sessions that a look finds to be over."""

    def __init__(self, log: EventLog, limit: int = 100) -> None:
        self.log = log
        self.metrics = Metrics()
        self.over: set[int] = set()
        self.trouble: Unavailable | None = None
        self.looks: list[int] = []
        self.registry = Registry(self._lives, self.metrics, tell_seconds=TELL_SECONDS)
        self._arrivals = Arrivals()
        self.follower = Follower(log, self._arrivals, Query(after=log.head().position, type=ENDING, limit=limit))

    def hold(self, session_id: int, *clients: Client) -> None:
        for client in clients:
            self.registry.hold(session_id, client)

    async def end(self, *session_ids: int) -> None:
        """Another process ends them in one transaction; waits until nothing moves any more."""
        append(self.log, *[(f"session-{session_id}", closed()) for session_id in session_ids])
        self.announce()
        await wait_all_tasks_blocked()

    def announce(self) -> None:
        self._arrivals.announce()

    def counted(self, outcome: str) -> float:
        return self.value("session_end_notifications_total", outcome=outcome) or 0

    def holding(self, door: str = "react-auth") -> float | None:
        return self.value("sockets_holding_a_session", door=door)

    def value(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"gatebook_{name}", labels)

    def _lives(self, session_id: int) -> bool:
        self.looks.append(session_id)
        if self.trouble is not None:
            raise self.trouble
        return session_id not in self.over


def book_of_sessions(count: int = 3) -> MemoryLog:
    """A book in which the sessions 2, 3, … of user 1 are open."""
    log = MemoryLog()
    append(log, ("user", registered()), *[("session", opened()) for _ in range(count)])
    return log


@asynccontextmanager
async def at_work(log: EventLog | None = None, **options: Any) -> AsyncIterator[Desk]:
    desk = Desk(log or book_of_sessions(), **options)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(desk.registry.run, desk.follower)
        await wait_all_tasks_blocked()
        yield desk
        nursery.cancel_scope.cancel()


async def test_whoever_holds_a_session_that_ends_is_dropped_and_told_and_nobody_else() -> None:
    async with at_work() as desk:
        first, second, other = Client(), Client(), Client()
        desk.hold(2, first, second)
        desk.hold(3, other)
        await desk.end(2)

        assert (first.dropped, second.dropped, other.dropped) == ([2], [2], [])
        assert (first.told, second.told, other.told) == (1, 1, 0)
        assert not desk.registry.holds(2, first)
        assert desk.registry.holds(3, other)
        assert (desk.counted("told"), desk.holding()) == (2, 1)


async def test_who_need_not_be_told_is_not() -> None:
    async with at_work() as desk:
        silent = Silent(door="route-v2")
        desk.hold(2, silent)
        assert desk.holding("route-v2") == 1
        await desk.end(2)

        assert (silent.dropped, silent.told, desk.holding("route-v2")) == ([2], 0, 0)


async def test_all_are_dropped_before_the_first_is_told() -> None:
    async with at_work(book_of_sessions(4), limit=100) as desk:
        clients: list[Client] = []
        dropped_by_then: list[int] = []

        async def look_around() -> None:
            dropped_by_then.append(sum(len(client.dropped) for client in clients))

        clients += [Client(look_around) for _ in range(6)]
        for session_id, client in zip([2, 2, 3, 3, 4, 4], clients, strict=True):
            desk.hold(session_id, client)
        await desk.end(2, 3, 4)

        assert dropped_by_then == [6] * 6


async def test_who_has_let_go_hears_nothing() -> None:
    async with at_work() as desk:
        client = Client()
        desk.hold(2, client)
        desk.hold(2, client)
        assert desk.holding() == 1
        assert desk.registry.release(2, client)
        assert not desk.registry.release(2, client)
        assert not desk.registry.release(3, client)
        await desk.end(2)

        assert (client.dropped, client.told, desk.holding()) == ([], 0, 0)


async def test_who_was_dropped_learns_so_from_letting_go() -> None:
    async with at_work() as desk:
        client = Client()
        desk.hold(2, client)
        await desk.end(2)

        assert not desk.registry.release(2, client)
        assert desk.holding() == 0


async def test_a_slow_client_holds_up_nobody_and_is_cut_at_last(autojump_clock: MockClock) -> None:
    async with at_work() as desk:
        slow, quick, later = Client(trio.sleep_forever), Client(), Client()
        desk.hold(2, slow, quick)
        desk.hold(3, later)
        await desk.end(2)
        await desk.end(3)
        assert (quick.told, later.told, slow.was_cut) == (1, 1, False)
        await trio.sleep(TELL_SECONDS + 1)

        assert (slow.told, slow.was_cut, quick.was_cut) == (0, True, False)
        assert (desk.counted("told"), desk.counted("too_slow")) == (2, 1)


async def test_a_fault_in_telling_or_dropping_is_one_connections(logged: list[Any]) -> None:
    async def fail() -> None:
        raise RuntimeError("a secret of the client's")

    async with at_work() as desk:
        untellable, broken, well = Client(fail), Broken(), Client()
        desk.hold(2, untellable, broken, well)
        await desk.end(2)

        assert (untellable.was_cut, broken.was_cut, well.was_cut, well.told) == (True, True, False, 1)
        assert (desk.counted("failed"), desk.counted("told"), desk.holding()) == (2, 1, 0)
    assert [(line["event"], line["error"].partition(" ")[0]) for line in logged] == [
        ("notification_failed", "RuntimeError")
    ] * 2
    assert "secret" not in repr(logged)


async def test_a_client_that_is_gone_is_nobodys_fault(logged: list[Any]) -> None:
    async def gone() -> None:
        raise ConnectionClosed(CloseReason(1006, None))

    async with at_work() as desk:
        client = Client(gone)
        desk.hold(2, client)
        await desk.end(2)

        assert (desk.counted("gone"), client.was_cut) == (1, False)
    assert logged == []


async def test_who_is_being_told_is_told_once_more_and_no_oftener_however_much_ends() -> None:
    release = trio.Event()
    async with at_work(book_of_sessions(5)) as desk:
        client = Client(release.wait)
        for session_id in (2, 3, 4, 5):
            desk.hold(session_id, client)
            await desk.end(session_id)
        assert client.dropped == [2, 3, 4, 5]
        release.set()
        await wait_all_tasks_blocked()
        assert client.told == 2
        # And it is as before: the next ending is told again.
        desk.hold(6, client)
        await desk.end(6)
        assert client.told == 3


async def test_more_endings_than_a_page_holds_are_all_heard() -> None:
    async with at_work(book_of_sessions(10), limit=3) as desk:
        clients = {session_id: Client() for session_id in range(2, 12)}
        for session_id, client in clients.items():
            desk.hold(session_id, client)
        await desk.end(*clients)

        assert [client.told for client in clients.values()] == [1] * 10
        assert desk.value("follower_lag_entries", follower="sockets") == 0


async def test_thousands_that_end_at_once_leave_room_for_others() -> None:
    """Between the first and the last of 5,000 that are told, whatever else has to be done has its turn many times."""
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    at: list[int] = []

    async def note() -> None:
        at.append(turns)

    sessions = range(2, 1_002)
    log = book_of_sessions(len(sessions))
    async with at_work(log, limit=1_000) as desk:
        clients = [Client(note) for _ in range(5 * len(sessions))]
        for number, client in enumerate(clients):
            desk.hold(sessions[number % len(sessions)], client)
        append(log, *[(f"session-{session_id}", closed()) for session_id in sessions])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(turn)
            desk.announce()
            for client in clients:
                await client.heard.wait()
            nursery.cancel_scope.cancel()

    assert all(len(client.dropped) == client.told == 1 for client in clients)
    assert at[-1] - at[0] >= 50


async def test_an_ending_that_stands_in_no_sessions_stream_ends_nothing_and_nobody() -> None:
    async with at_work() as desk:
        client = Client()
        desk.hold(2, client)
        append(desk.log, ("service", SessionClosed(1, "logout")), ("user-2", SessionClosed(1, "logout")))
        await desk.end(3)
        assert client.dropped == []
        await desk.end(2)
        assert client.dropped == [2]


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


async def test_an_ending_that_cannot_be_read_has_every_session_looked_up(logged: list[Any]) -> None:
    log: Any = Unreadable(book_of_sessions(), 6)
    async with at_work(log) as desk:
        clients = {session_id: Client() for session_id in (2, 3, 4)}
        for session_id, client in clients.items():
            desk.hold(session_id, client)
        desk.over = {3}
        await desk.end(2, 3, 4)

        # Entry 6 ended session 3; it cannot be read, and what stands before and behind it can.
        assert {session_id: client.told for session_id, client in clients.items()} == {2: 1, 3: 1, 4: 1}
    assert [(line["event"], line.get("position")) for line in logged] == [("ending_not_read", 6)]


async def test_in_doubt_those_are_dropped_whose_session_is_over_and_no_others() -> None:
    async with at_work() as desk:
        lives, over = Client(), Client()
        desk.hold(2, lives)
        desk.hold(3, over)
        desk.over = {3}
        desk.registry.doubt()
        await wait_all_tasks_blocked()

        assert (lives.told, over.told, desk.holding()) == (0, 1, 1)
        assert desk.looks == [2, 3]


async def test_in_doubt_nobody_is_dropped_while_the_store_cannot_say_and_it_is_asked_again(
    autojump_clock: MockClock, logged: list[Any]
) -> None:
    async with at_work() as desk:
        lives, over = Client(), Client()
        desk.hold(2, lives)
        desk.hold(3, over)
        desk.over, desk.trouble = {3}, Unavailable("disk I/O error")
        desk.registry.doubt()
        await trio.sleep(2.5)
        assert (lives.dropped, over.dropped) == ([], [])
        assert [line["event"] for line in logged] == ["sessions_in_doubt"] * 3
        desk.trouble = None
        await trio.sleep(1)

        assert (lives.dropped, over.dropped) == ([], [3])
        looked = len(desk.looks)
        await trio.sleep(10)
        assert len(desk.looks) == looked


class Troubled:
    """A log in which reading fails by the errors given, one for each read."""

    def __init__(self, log: EventLog, *errors: Exception) -> None:
        self._log = log
        self.errors = list(errors)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    def read(self, query: Query) -> list[Recorded]:
        if self.errors:
            raise self.errors.pop(0)
        return self._log.read(query)


async def test_what_ends_while_the_store_cannot_be_read_is_heard_afterwards(
    autojump_clock: MockClock, logged: list[Any]
) -> None:
    log: Any = Troubled(book_of_sessions())
    async with at_work(log) as desk:
        client = Client()
        desk.hold(2, client)
        log.errors = [StoreUnavailableError("disk I/O error")] * 2
        await desk.end(2)
        await trio.sleep(5)

        assert (client.dropped, client.told) == ([2], 1)
    assert [line["event"] for line in logged] == ["cannot_follow"] * 2


async def test_a_store_that_says_it_is_damaged_ends_the_process() -> None:
    log: Any = Troubled(book_of_sessions(), CorruptStoreError("malformed"))
    desk = Desk(log)
    with trio.fail_after(5), pytest.raises(ExceptionGroup) as raised:
        await desk.registry.run(desk.follower)
    assert isinstance(raised.value.exceptions[0], CorruptStoreError)
