"""The single writer of a process: takes the waiting commands as one batch, again and again, in one thread of its own.

A caller is answered when its command is durable, or refused, never before. One that is cancelled before its batch is
taken withdraws its command; after that the command commits, whoever still listens.

The thread takes the next batch by itself, without a turn of the event loop in between: hand-overs are few and large,
since a busy event loop lets another thread have the interpreter only now and then.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any, Final, Protocol

import structlog
import trio
from msgspec import Struct

from events.errors import StoreError
from events.recorded import Recorded
from service.batch import FATAL, BatchRunner, Order, Outcome, order
from service.decisions.command import Command
from service.errors import Overloaded, Unavailable

log = structlog.get_logger("gatebook.writer")

PROBE_SECONDS: Final = 1.0
NOTE_SECONDS: Final = 0.25


class BatchTold(Struct, frozen=True):
    """What observers hear of a batch: its orders with their outcomes, and the seconds from taking it to its commit."""

    orders: Sequence[Order]
    outcomes: Sequence[Outcome]
    seconds: float
    position: int


class Observer(Protocol):
    """Hears of each batch, in the event loop, after the commit and before the callers."""

    def __call__(self, told: BatchTold, /) -> None:
        """Hears of one batch."""


class _Waiting:
    """One caller's command, waiting to be taken or answered."""

    __slots__ = ("order", "outcome", "task")

    def __init__(self, one: Order, task: trio.lowlevel.Task | None) -> None:
        self.order = one
        self.task = task
        self.outcome: Outcome | None = None


class Writer:
    """See the module. `run` is its task; `trouble` says why nothing can be written at the moment, or is None."""

    def __init__(
        self, open_runner: Callable[[], BatchRunner], *, batch_size: int, most_waiting: int, observer: Observer
    ) -> None:
        self._open_runner = open_runner
        self._batch_size = batch_size
        self._most_waiting = most_waiting
        self._observer = observer
        self._queue: deque[_Waiting] = deque()
        self._behind: deque[_Waiting] = deque()
        self._wake = threading.Condition()
        self._stopping = False
        self._running = False
        self._ended = trio.Event()
        self._fatal: BaseException | None = None
        # The thread's own knowledge of `trouble`, which the event loop learns of only in its next turn.
        self._failing = False
        self.trouble: str | None = None

    @property
    def waiting(self) -> int:
        """How many commands wait to be taken."""
        return len(self._queue) + len(self._behind)

    async def submit(self, command: Command, *, actor: str, door: str, behind: bool = False) -> tuple[Recorded, ...]:
        """The command's recorded events, in plain text, once they are durable.

        Raises what the decision refused with; Overloaded when `most_waiting` commands wait already; Unavailable when
        nothing can be written. `behind` lets every other waiting command go first.
        """
        if not self._accepting:
            raise Unavailable("the writer is not running")
        if self.waiting >= self._most_waiting:
            raise Overloaded("waiting commands")
        await trio.lowlevel.checkpoint_if_cancelled()
        item = _Waiting(order(command, actor=actor, door=door), trio.lowlevel.current_task())
        queue = self._behind if behind else self._queue
        self._hand_in(item, queue)

        def withdraw(_raise_cancel: Any) -> trio.lowlevel.Abort:  # noqa: ANN401 - trio's own type
            # One that was taken already commits, and the caller hears of it before it hears of the cancellation.
            return trio.lowlevel.Abort.SUCCEEDED if self._withdrawn(item, queue) else trio.lowlevel.Abort.FAILED

        await trio.lowlevel.wait_task_rescheduled(withdraw)
        outcome = item.outcome
        if isinstance(outcome, tuple):
            return outcome
        raise outcome if outcome is not None else Unavailable("the writer ended")

    async def note(self, command: Command, *, actor: str, door: str) -> None:
        """Hands in a command that nobody misses, and waits a moment for it: `NOTE_SECONDS`, whatever comes of it.

        Dropped as soon as anything waits, and while nothing can be written. Raises nothing.
        """
        await trio.lowlevel.checkpoint()
        if not self._accepting or self.waiting or self.trouble is not None:
            return
        item = _Waiting(order(command, actor=actor, door=door), trio.lowlevel.current_task())
        self._hand_in(item, self._queue)

        def leave(_raise_cancel: Any) -> trio.lowlevel.Abort:  # noqa: ANN401 - trio's own type
            # It may have been taken already: then it commits, and nobody listens.
            self._withdrawn(item, self._queue)
            item.task = None
            return trio.lowlevel.Abort.SUCCEEDED

        with trio.move_on_after(NOTE_SECONDS):
            await trio.lowlevel.wait_task_rescheduled(leave)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Starts the thread and stays until cancelled; then what waits is still written, and the thread ends.

        Raises DurabilityError or CorruptStoreError, after which the process must end.
        """
        token = trio.lowlevel.current_trio_token()
        opened = trio.Event()
        thread = threading.Thread(target=self._work, args=(token, opened), name="gatebook-writer", daemon=True)
        thread.start()
        try:
            await opened.wait()
            if self._fatal is None:
                self._running = True
                task_status.started()
            await self._ended.wait()
        finally:
            with self._wake:
                self._stopping = True
                self._wake.notify()
            with trio.CancelScope(shield=True):
                await self._ended.wait()
            self._running = False
            # Cancelled or not: a process that ends so must not look as if it had ended well.
            if self._fatal is not None:
                raise self._fatal

    @property
    def _accepting(self) -> bool:
        return self._running and not self._stopping and self._fatal is None

    def _hand_in(self, item: _Waiting, queue: deque[_Waiting]) -> None:
        with self._wake:
            queue.append(item)
            self._wake.notify()

    def _withdrawn(self, item: _Waiting, queue: deque[_Waiting]) -> bool:
        """Takes the item back, unless the thread has taken it; says whether it did."""
        with self._wake:
            try:
                queue.remove(item)
            except ValueError:
                return False
        return True

    def _work(self, token: trio.lowlevel.TrioToken, opened: trio.Event) -> None:
        """The thread. Nothing escapes it: what ends it is told to the task that watches it."""
        try:
            runner = self._open_runner()
            token.run_sync_soon(opened.set)
            while (batch := self._take(runner, token)) is not None:
                self._write(runner, batch, token)
            runner.close()
        except BaseException as error:  # noqa: BLE001 - raised again by `run`, in the event loop, where it ends the service
            self._fatal = error
        finally:
            token.run_sync_soon(opened.set)
            # The last word: once it is heard, the event loop may be gone.
            token.run_sync_soon(self._end)

    def _take(self, runner: BatchRunner, token: trio.lowlevel.TrioToken) -> list[_Waiting] | None:
        """The next batch; waits for one; None when there is nothing left to do."""
        while True:
            with self._wake:
                self._wake.wait_for(self._has_work, PROBE_SECONDS if self._failing else None)
                if self._queue or self._behind:
                    return self._next_batch()
                if self._stopping:
                    return None
            # Outside the lock: the store may keep a probe waiting, and the event loop must not wait with it.
            self._probe(runner, token)

    def _next_batch(self) -> list[_Waiting]:
        """What waits, in order; what goes behind takes the room that is left, so that it never waits for ever."""
        room = self._batch_size
        batch = [self._queue.popleft() for _ in range(min(len(self._queue), room))]
        return batch + [self._behind.popleft() for _ in range(min(len(self._behind), room - len(batch)))]

    def _has_work(self) -> bool:
        return bool(self._queue or self._behind or self._stopping)

    def _probe(self, runner: BatchRunner, token: trio.lowlevel.TrioToken) -> None:
        """Nobody may be asking any more, since readiness says no: look whether the trouble is over."""
        try:
            runner.probe()
        except FATAL:
            raise
        except StoreError as error:
            token.run_sync_soon(self._set_trouble, str(error))
        else:
            self._failing = False
            token.run_sync_soon(self._set_trouble, None)

    def _write(self, runner: BatchRunner, batch: list[_Waiting], token: trio.lowlevel.TrioToken) -> None:
        started = perf_counter()
        orders = [item.order for item in batch]
        outcomes: Sequence[Outcome] = [Unavailable("the writer failed") for _ in orders]
        trouble: str | None = None
        try:
            outcomes = runner.run(orders)
        except StoreError as error:
            trouble = str(error)
            outcomes = [Unavailable(trouble) for _ in orders]
            if isinstance(error, FATAL):
                raise
        finally:
            self._failing = trouble is not None
            told = BatchTold(orders, outcomes, perf_counter() - started, _last_position(outcomes))
            token.run_sync_soon(self._deliver, batch, told, trouble)

    def _deliver(self, batch: list[_Waiting], told: BatchTold, trouble: str | None) -> None:
        self._set_trouble(trouble)
        try:
            self._observer(told)
        except Exception:
            # Whoever only looks on keeps nobody from an answer.
            log.exception("observer_failed")
        for item, outcome in zip(batch, told.outcomes, strict=True):
            self._answer(item, outcome)

    def _answer(self, item: _Waiting, outcome: Outcome) -> None:
        item.outcome = outcome
        if item.task is not None:
            trio.lowlevel.reschedule(item.task)

    def _set_trouble(self, trouble: str | None) -> None:
        if trouble != self.trouble and trouble is not None:
            log.error("cannot_write", reason=trouble)
        elif trouble != self.trouble:
            log.info("can_write_again")
        self.trouble = trouble

    def _end(self) -> None:
        """The thread is over: whoever still waits is told so."""
        self._running = False
        with self._wake:
            left = [*self._queue, *self._behind]
            self._queue.clear()
            self._behind.clear()
        for item in left:
            self._answer(item, Unavailable("the writer ended"))
        self._ended.set()


def _last_position(outcomes: Sequence[Outcome]) -> int:
    return max((outcome[-1].position for outcome in outcomes if isinstance(outcome, tuple) and outcome), default=0)
