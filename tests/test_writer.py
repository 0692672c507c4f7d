"""The writer: who is answered when, who may still withdraw, and what becomes of everybody when the store refuses."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest
import trio
from msgspec import Struct
from structlog.testing import capture_logs
from trio.testing import wait_all_tasks_blocked

from events.catalogue import AuditRead
from events.errors import CorruptStoreError, DurabilityError, StoreBusyError, StoreError, StoreFullError
from events.recorded import Recorded
from service.batch import BatchRunner, Order, Outcome
from service.decisions.command import Proposed, Reads, State
from service.errors import Conflict, Overloaded, Unavailable
from service.writer import BatchTold, Writer

FULL = StoreFullError("There is no room left.")


class Say(Struct, frozen=True):
    """A command that stands for any."""

    word: str

    def reads(self) -> Reads:
        return Reads()

    def decide(self, state: State) -> Sequence[Proposed]:
        return ()


class HeldRunner(BatchRunner):
    """Takes batches, and finishes each when it is let go, by the error that is next in `fails`, if any.

    A command that says `no` is refused.
    """

    def __init__(self) -> None:
        self.taken: list[list[str]] = []
        self.fails: list[BaseException | None] = []
        self.probe_fails: StoreError | None = None
        self.probes = 0
        self.probe_held = False
        self.closed = False
        self.held = True
        self.strays = 0
        self._changed = threading.Condition()
        self._let_go = 0
        self._position = 0

    def run(self, orders: Sequence[Order]) -> list[Outcome]:
        words = [one.command.word for one in orders if isinstance(one.command, Say)]
        with self._changed:
            self.taken.append(words)
            self._changed.notify_all()
            assert self._changed.wait_for(lambda: not self.held or self._let_go > 0, timeout=10)
            self._let_go -= 1
            if self.fails and (error := self.fails.pop(0)):
                raise error
            return [Conflict() if word == "no" else (self._recorded(word),) for word in words]

    def probe(self) -> None:
        with self._changed:
            self.probes += 1
            self._changed.notify_all()
            assert self._changed.wait_for(lambda: not self.probe_held, timeout=10)
            if self.probe_fails:
                raise self.probe_fails

    def close(self) -> None:
        self.closed = True

    def let_go(self, batches: int = 1) -> None:
        with self._changed:
            self._let_go += batches
            self._changed.notify_all()

    def change(self, **what: Any) -> None:
        """Sets attributes while nothing is under way."""
        with self._changed:
            for name, value in what.items():
                setattr(self, name, value)
            self._changed.notify_all()

    async def until(self, so: Callable[[], bool]) -> None:
        """Waits until something about the runner is so."""

        def wait() -> None:
            with self._changed:
                assert self._changed.wait_for(so, timeout=10)

        await trio.to_thread.run_sync(wait)

    async def until_taken(self, batches: int) -> None:
        await self.until(lambda: len(self.taken) >= batches)

    def _recorded(self, word: str) -> Recorded:
        self._position += 1
        at = datetime(2026, 11, 21, tzinfo=UTC)
        return Recorded(self._position, "service", self._position, at, "a", "d", "c", AuditRead(word))


class Desk:
    """A writer that is running, its runner, and what became of everybody."""

    def __init__(self, runner: HeldRunner, nursery: trio.Nursery, **settings: Any) -> None:
        self.runner = runner
        self.nursery = nursery
        self.told: list[BatchTold] = []
        self.events: list[str] = []
        self.answers: dict[str, tuple[Recorded, ...] | Exception] = {}
        self.ended: BaseException | None = None
        self.scope = trio.CancelScope()
        self.changed = trio.Event()
        self.writer = Writer(
            lambda: runner, **{"batch_size": 10, "most_waiting": 10, "observer": self.hear, **settings}
        )  # fmt: skip

    def hear(self, told: BatchTold) -> None:
        self.told.append(told)
        self.events.append("told")
        self._wake()

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        try:
            with self.scope:
                await self.writer.run(task_status=task_status)
        except Exception as error:  # noqa: BLE001 - kept for the test to look at
            self.ended = error
        self._wake()

    async def submit(self, word: str, **how: bool) -> None:
        """Submits, and keeps what became of it under the word."""
        try:
            self.answers[word] = await self.writer.submit(Say(word), actor="a", door="d", **how)
        except Exception as error:  # noqa: BLE001 - kept for the test to look at
            self.answers[word] = error
        self.events.append(word)
        self._wake()

    async def note(self, word: str) -> None:
        """Begins to note it, until it waits or is dropped."""
        self.nursery.start_soon(partial(self.writer.note, Say(word), actor="a", door="d"))
        await wait_all_tasks_blocked()

    async def say(self, *words: str, **how: bool) -> None:
        """Begins to submit each, one after another, until all of them wait."""
        for word in words:
            self.nursery.start_soon(partial(self.submit, word, **how))
            await wait_all_tasks_blocked()

    async def until(self, so: Callable[[], bool]) -> None:
        """Waits until something is so."""
        with trio.fail_after(10):
            while not so():
                await self.changed.wait()

    async def until_answered(self, *words: str) -> None:
        await self.until(lambda: all(word in self.answers for word in words))

    async def until_trouble(self, reason: str | None) -> None:
        """Waits until the writer says that of itself."""
        with trio.fail_after(10):
            while self.writer.trouble != reason:
                await trio.lowlevel.checkpoint()

    def position(self, word: str) -> int:
        answer = self.answers[word]
        assert isinstance(answer, tuple), answer
        return answer[0].position

    def refusal(self, word: str) -> Exception:
        answer = self.answers[word]
        assert isinstance(answer, Exception), answer
        return answer

    def _wake(self) -> None:
        self.changed.set()
        self.changed = trio.Event()


@asynccontextmanager
async def running(runner: HeldRunner | None = None, **settings: Any) -> AsyncIterator[Desk]:
    async with trio.open_nursery() as nursery:
        desk = Desk(runner or HeldRunner(), nursery, **settings)
        await nursery.start(desk.run)
        try:
            yield desk
        finally:
            desk.runner.change(held=False, probe_held=False)
            desk.scope.cancel()


@pytest.fixture
def eager_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.writer.PROBE_SECONDS", 0.001)


# Batches


async def test_nobody_is_answered_before_the_batch_is_durable() -> None:
    async with running() as desk:
        await desk.say("hello")
        await desk.runner.until_taken(1)
        await wait_all_tasks_blocked()
        assert desk.answers == {}
        desk.runner.let_go()
        await desk.until_answered("hello")
        assert desk.position("hello") == 1


async def test_what_waits_is_taken_as_one_batch_in_order() -> None:
    async with running() as desk:
        await desk.say("first")
        await desk.runner.until_taken(1)
        await desk.say("a", "b", "c")
        assert desk.writer.waiting == 3
        desk.runner.let_go(2)
        await desk.until_answered("a", "b", "c")
        assert desk.runner.taken == [["first"], ["a", "b", "c"]]
        assert [desk.position(word) for word in "abc"] == [2, 3, 4]


async def test_a_batch_takes_no_more_than_its_size() -> None:
    async with running(batch_size=2) as desk:
        await desk.say("first")
        await desk.runner.until_taken(1)
        await desk.say("a", "b", "c")
        desk.runner.let_go(3)
        await desk.until_answered("a", "b", "c")
        assert desk.runner.taken == [["first"], ["a", "b"], ["c"]]


async def test_each_hears_of_its_own_outcome() -> None:
    async with running() as desk:
        await desk.say("first")
        await desk.runner.until_taken(1)
        await desk.say("a", "no", "b")
        desk.runner.let_go(2)
        await desk.until_answered("a", "no", "b")
        assert isinstance(desk.refusal("no"), Conflict)
        assert (desk.position("a"), desk.position("b")) == (2, 3)


async def test_observers_hear_of_a_batch_before_its_callers() -> None:
    async with running() as desk:
        await desk.say("first")
        await desk.runner.until_taken(1)
        await desk.say("a", "no")
        desk.runner.let_go()
        await desk.until_answered("first")
        assert desk.events == ["told", "first"]
        desk.runner.let_go()
        await desk.until_answered("a", "no")
        assert desk.events[2] == "told"
        told = desk.told[1]
        assert [one.actor for one in told.orders] == ["a", "a"]
        assert told.position == 2
        assert told.seconds > 0
        assert isinstance(told.outcomes[1], Conflict)


async def test_an_observer_that_fails_keeps_nobody_from_an_answer() -> None:
    def fails(_: BatchTold) -> None:
        raise KeyError("a fault of an onlooker")

    async with running(observer=fails) as desk:
        await desk.say("a")
        desk.runner.let_go()
        await desk.until_answered("a")
        assert isinstance(desk.answers["a"], tuple)


async def test_what_goes_behind_lets_every_other_command_go_first() -> None:
    async with running() as desk:
        await desk.say("first")
        await desk.runner.until_taken(1)
        await desk.say("behind", behind=True)
        await desk.say("a", "b")
        desk.runner.let_go(3)
        await desk.until_answered("behind")
        assert desk.runner.taken == [["first"], ["a", "b", "behind"]]


async def test_what_goes_behind_waits_where_a_batch_has_no_room_for_it() -> None:
    async with running(batch_size=2) as desk:
        await desk.say("first")
        await desk.runner.until_taken(1)
        await desk.say("behind", behind=True)
        await desk.say("a", "b", "c")
        desk.runner.let_go(3)
        await desk.until_answered("behind")
        assert desk.runner.taken == [["first"], ["a", "b"], ["c", "behind"]]


# Withdrawing


async def test_whoever_is_cancelled_before_the_batch_is_taken_withdraws() -> None:
    async with running() as desk:
        await desk.say("first")
        await desk.runner.until_taken(1)
        for behind in (False, True):
            with trio.move_on_after(0) as scope:
                await desk.writer.submit(Say("withdrawn"), actor="a", door="d", behind=behind)
            assert scope.cancelled_caught
        async with trio.open_nursery() as leaving:
            for behind in (False, True):
                leaving.start_soon(partial(desk.submit, "withdrawn", behind=behind))
            await wait_all_tasks_blocked()
            assert desk.writer.waiting == 2
            leaving.cancel_scope.cancel()
        assert desk.writer.waiting == 0
        await desk.say("last")
        desk.runner.let_go(2)
        await desk.until_answered("first", "last")
        assert desk.runner.taken == [["first"], ["last"]]
        assert set(desk.answers) == {"first", "last"}


async def test_whoever_is_cancelled_after_the_batch_is_taken_hears_that_it_was_written() -> None:
    async with running() as desk:
        left: list[str] = []

        async def leave(scope: trio.CancelScope) -> None:
            with scope:
                recorded = await desk.writer.submit(Say("taken"), actor="a", door="d")
                left.append(f"written at {recorded[0].position}")
                await trio.lowlevel.checkpoint()
                left.append("not reached")

        scope = trio.CancelScope()
        async with trio.open_nursery() as leaving:
            leaving.start_soon(leave, scope)
            await desk.runner.until_taken(1)
            scope.cancel()
            await wait_all_tasks_blocked()
            assert left == []
            desk.runner.let_go()
        assert left == ["written at 1"]
        assert scope.cancelled_caught


# Bounds


async def test_one_more_than_may_wait_is_refused() -> None:
    async with running(most_waiting=2) as desk:
        await desk.say("first")
        await desk.runner.until_taken(1)
        await desk.say("a")
        await desk.say("b", behind=True)
        await desk.submit("c")
        await desk.submit("d", behind=True)
        for word in "cd":
            refusal = desk.refusal(word)
            assert isinstance(refusal, Overloaded)
            assert refusal.what == "waiting commands"
        desk.runner.let_go(2)
        await desk.until_answered("a", "b")
        assert desk.runner.taken == [["first"], ["a", "b"]]


async def test_a_note_that_nobody_misses_is_dropped_when_anything_waits() -> None:
    async with running() as desk:
        await desk.note("note")
        await desk.runner.until_taken(1)
        # What is under way does not wait any more.
        await desk.note("another note")
        await desk.note("one too many")
        desk.runner.let_go(2)
        await desk.runner.until_taken(2)
        assert desk.runner.taken == [["note"], ["another note"]]


async def test_whoever_notes_something_waits_no_longer_than_a_moment_and_it_is_written_all_the_same() -> None:
    async with running() as desk:
        await desk.runner.until_taken(0)
        await desk.writer.note(Say("note"), actor="a", door="d")
        assert desk.told == [], "the runner still holds it"
        desk.runner.let_go()
        await desk.until(lambda: len(desk.told) == 1)
        assert isinstance(desk.told[0].outcomes[0], tuple)


async def test_a_note_that_was_not_taken_within_its_moment_is_withdrawn() -> None:
    async with running() as desk:
        await desk.say("first")
        await desk.runner.until_taken(1)
        await desk.writer.note(Say("note"), actor="a", door="d")
        desk.runner.let_go()
        await desk.until_answered("first")
        assert desk.runner.taken == [["first"]]
        assert desk.writer.waiting == 0


async def test_while_nothing_can_be_written_nothing_is_noted() -> None:
    async with running() as desk:
        desk.writer.trouble = "the disk is full"
        await desk.writer.note(Say("note"), actor="a", door="d")
        assert desk.runner.taken == []


# A store that refuses


async def test_a_full_store_is_told_to_everybody_in_the_batch_and_to_whoever_asks_how_it_is() -> None:
    async with running() as desk:
        with capture_logs() as logged:
            desk.runner.change(fails=[None, FULL, FULL])
            await desk.say("first")
            await desk.runner.until_taken(1)
            await desk.say("a", "b")
            desk.runner.let_go(2)
            await desk.until_answered("a", "b")
            refusal = desk.refusal("a")
            assert isinstance(refusal, Unavailable)
            assert refusal.reason == "There is no room left."
            assert isinstance(desk.refusal("b"), Unavailable)
            assert desk.writer.trouble == "There is no room left."
            assert len(desk.told) == 2
            await desk.say("c")
            desk.runner.let_go()
            await desk.until_answered("c")
        # Said once, not with each batch.
        assert [line["event"] for line in logged] == ["cannot_write"]


async def test_the_next_batch_that_is_written_ends_the_trouble() -> None:
    async with running() as desk:
        with capture_logs() as logged:
            desk.runner.change(fails=[FULL], held=False)
            await desk.submit("a")
            assert isinstance(desk.refusal("a"), Unavailable)
            await desk.submit("b")
            assert desk.position("b") == 1
            await desk.until_trouble(None)
        assert [line["event"] for line in logged] == ["cannot_write", "can_write_again"]


@pytest.mark.usefixtures("eager_probe")
async def test_without_anybody_asking_a_probe_finds_that_the_trouble_is_over() -> None:
    async with running() as desk:
        with capture_logs() as logged:
            desk.runner.change(fails=[FULL], probe_fails=StoreBusyError("Somebody else is writing."), held=False)
            await desk.submit("a")
            await desk.runner.until(lambda: desk.runner.probes >= 3)
            await desk.until_trouble("Somebody else is writing.")
            desk.runner.change(probe_fails=None)
            await desk.until_trouble(None)
        assert [line["event"] for line in logged] == ["cannot_write", "cannot_write", "can_write_again"]
        probes = desk.runner.probes
        await desk.submit("b")
        assert desk.position("b") == 1
        assert desk.runner.probes == probes


@pytest.mark.usefixtures("eager_probe")
async def test_a_probe_that_takes_long_holds_up_nobody() -> None:
    async with running() as desk:
        desk.runner.change(fails=[FULL], probe_held=True, held=False)
        await desk.submit("a")
        await desk.runner.until(lambda: desk.runner.probes == 1)
        # The store keeps the probe waiting; the event loop goes on, and whoever changes their mind may still leave.
        await desk.say("b")
        async with trio.open_nursery() as leaving:
            leaving.start_soon(desk.submit, "withdrawn")
            await wait_all_tasks_blocked()
            leaving.cancel_scope.cancel()
        assert desk.writer.waiting == 1
        desk.runner.change(probe_held=False)
        await desk.until_answered("b")
        assert desk.position("b") == 1


@pytest.mark.parametrize("error", [DurabilityError("a sync failed"), CorruptStoreError("damaged")])
async def test_an_error_after_which_nobody_knows_ends_the_writer(error: StoreError) -> None:
    async with running() as desk:
        desk.runner.change(fails=[error])
        await desk.say("a")
        await desk.runner.until_taken(1)
        await desk.say("b")
        await desk.say("c", behind=True)
        desk.runner.let_go()
        await desk.until(lambda: desk.ended is not None)
        assert desk.ended is error
        await desk.until_answered("a", "b", "c")
        assert all(isinstance(desk.refusal(word), Unavailable) for word in "abc")
        assert desk.runner.taken == [["a"]]
        await desk.submit("d")
        assert isinstance(desk.refusal("d"), Unavailable)


@pytest.mark.usefixtures("eager_probe")
async def test_a_probe_after_which_nobody_knows_ends_the_writer() -> None:
    async with running() as desk:
        error = DurabilityError("a sync failed")
        desk.runner.change(fails=[FULL], probe_fails=error, held=False)
        await desk.submit("a")
        await desk.until(lambda: desk.ended is not None)
        assert desk.ended is error


async def test_a_fault_of_ours_answers_the_batch_and_ends_the_writer() -> None:
    async with running() as desk:
        fault = ZeroDivisionError("a fault")
        desk.runner.change(fails=[fault])
        await desk.say("a")
        await desk.runner.until_taken(1)
        await desk.say("b")
        desk.runner.let_go()
        await desk.until_answered("a", "b")
        assert isinstance(desk.refusal("a"), Unavailable)
        assert isinstance(desk.refusal("b"), Unavailable)
        await desk.until(lambda: desk.ended is not None)
        assert desk.ended is fault


# Beginning and ending


async def test_what_waits_when_the_writer_stops_is_written() -> None:
    async with running() as desk:
        await desk.say("first")
        await desk.runner.until_taken(1)
        await desk.say("a")
        await desk.say("b", behind=True)
        desk.scope.cancel()
        await wait_all_tasks_blocked()
        await desk.submit("too late")
        assert isinstance(desk.refusal("too late"), Unavailable)
        desk.runner.let_go(3)
        await desk.until_answered("first", "a", "b")
        assert [desk.position(word) for word in ("first", "a", "b")] == [1, 2, 3]
        assert desk.runner.closed
        assert desk.ended is None


async def test_an_error_after_which_nobody_knows_is_raised_while_stopping_too() -> None:
    async with running() as desk:
        error = DurabilityError("a sync failed")
        desk.runner.change(fails=[error])
        await desk.say("a")
        await desk.runner.until_taken(1)
        desk.scope.cancel()
        await wait_all_tasks_blocked()
        desk.runner.let_go()
        await desk.until(lambda: desk.ended is not None)
        assert desk.ended is error


async def test_a_writer_that_does_not_run_takes_nothing() -> None:
    writer = Writer(HeldRunner, batch_size=1, most_waiting=1, observer=lambda _: None)
    with pytest.raises(Unavailable):
        await writer.submit(Say("a"), actor="a", door="d")


async def test_a_book_that_cannot_be_opened_is_the_end_before_the_beginning() -> None:
    def no_book() -> BatchRunner:
        raise CorruptStoreError("damaged")

    writer = Writer(no_book, batch_size=1, most_waiting=1, observer=lambda _: None)
    async with trio.open_nursery() as nursery:
        with pytest.raises(CorruptStoreError):
            await nursery.start(writer.run)
    with pytest.raises(Unavailable):
        await writer.submit(Say("a"), actor="a", door="d")


async def test_without_trouble_nothing_is_probed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.writer.PROBE_SECONDS", 0)
    async with running() as desk:
        desk.runner.change(held=False)
        for word in ("a", "b"):
            await desk.submit(word)
        assert desk.runner.probes == 0
