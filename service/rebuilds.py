"""Rebuilds that an admin asks for while the service runs: one at a time, in a child process, with their progress.

The work and its guarantees are those of `projections.rebuild`: whatever becomes of the child, the live read model is a
whole one. That somebody asked stands in the book before the child is started.
"""

from __future__ import annotations

import subprocess
from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import Final, Literal, Self

import msgspec
import structlog
import trio
from msgspec import Struct
from msgspec.structs import replace

from events.catalogue import Moment
from service.audit import DOOR
from service.batch import Clock, utc_now
from service.book import StoreAddress
from service.children import Store, command
from service.decisions.administration import AskRebuild
from service.errors import Conflict
from service.guards.reporting import describe
from service.metrics import Metrics
from service.rebuild_child import Done, Failed, Progress, Told, UnderWay, Work
from service.writer import Writer

log = structlog.get_logger("gatebook.rebuilds")

LONGEST_LINE: Final = 16_384
"""Bytes of one line that a child says: a sentence and some numbers."""
_decode: Final = msgspec.json.Decoder(Told).decode


class RebuildState(Struct, frozen=True, omit_defaults=True):
    """How a rebuild goes, or went: folded up to `position` of a book that ends at `head`.

    `error` is a sentence that says why it failed; the read model then stands as it was.
    """

    projection: str
    state: Literal["running", "done", "failed"]
    position: int
    head: int
    started_at: Moment
    finished_at: Moment | None = None
    error: str | None = None


class Rebuilds:
    """See the module. `run` is the task; `child` is the command line of the child process."""

    def __init__(
        self,
        address: StoreAddress,
        writer: Writer,
        metrics: Metrics,
        clock: Clock = utc_now,
        *,
        child: Sequence[str] = tuple(command("service.rebuild_child")),
    ) -> None:
        self._store = Store.at(address)
        self._writer = writer
        self._metrics = metrics
        self._clock = clock
        self._child = child
        self._states: dict[str, RebuildState] = {}
        self._busy = False
        self._hand_over, self._asked = trio.open_memory_channel["_Job"](1)

    def state(self, projection: str) -> RebuildState | None:
        """How the last rebuild of that read model goes or went, None where there was none since the start."""
        return self._states.get(projection)

    async def ask(self, projection: str, actor: str) -> RebuildState:
        """Has it written down who asked, and a child started; the state once it is at work, or has failed to be.

        Raises Conflict while a rebuild is under way, here or, of the same read model, in another process; Overloaded or
        Unavailable when it cannot be written down.
        """
        if self._busy:
            raise Conflict("A read model is being rebuilt already; wait until that is done.")
        self._busy = True
        try:
            await self._writer.submit(AskRebuild(projection), actor=actor, door=DOOR)
            job = _Job(RebuildState(projection, "running", 0, 0, self._clock()))
            self._hand_over.send_nowait(job)
        except BaseException:
            self._busy = False
            raise
        await job.begun.wait()
        if job.refused is not None:
            raise Conflict(job.refused)
        return job.state

    async def run(self) -> None:
        """Rebuilds what is asked for. Ends never; cancelled, it ends the child, and waits for it."""
        async for job in self._asked:
            self._metrics.rebuilds_running.set(1)
            try:
                await self._carry_out(job)
            finally:
                self._metrics.rebuilds_running.set(0)
                self._busy = False
                job.begun.set()

    async def _carry_out(self, job: _Job) -> None:
        last, status = await self._watch(job)
        projection = job.state.projection
        match last:
            case UnderWay(sentence):
                job.refused = sentence
                outcome = "refused"
            case Done(position, changed):
                log.info("rebuilt", projection=projection, position=position, changed=changed)
                self._note(job, state="done", position=position, head=position, finished_at=self._clock())
                outcome = "done"
            case Failed(sentence, fault):
                self._fail(job, sentence, fault)
                outcome = "failed"
            case _:
                self._fail(job, f"The process of the rebuild ended {_how(status)} before it was done.", None)
                outcome = "failed"
        self._metrics.rebuilds.labels(projection, outcome).inc()

    async def _watch(self, job: _Job) -> tuple[Told | None, int | None]:
        """Starts the child and hears it out: its last word, and its exit status."""
        last: Told | None = None
        run = partial(
            trio.run_process,
            self._child,
            stdin=msgspec.json.encode(Work(self._store, job.state.projection)),
            stdout=subprocess.PIPE,
            # What is to be known of its end, it says; a trace might quote what is in the book.
            stderr=subprocess.DEVNULL,
            check=False,
        )
        process: trio.Process | None = None
        try:
            async with trio.open_nursery() as nursery:
                process = await nursery.start(run)
                async for line in _Lines(process):
                    last = _decode(line)
                    if isinstance(last, Progress):
                        self._note(job, position=last.position, head=last.head)
                        job.begun.set()
        except* (OSError, msgspec.MsgspecError) as errors:
            last = Failed("The process of the rebuild could not be started, or not be understood.", describe(errors))
        return last, None if process is None else process.returncode

    def _note(self, job: _Job, **changes: object) -> None:
        job.state = self._states[job.state.projection] = replace(job.state, **changes)

    def _fail(self, job: _Job, sentence: str, fault: str | None) -> None:
        projection = job.state.projection
        if fault is None:
            log.warning("rebuild_failed", projection=projection, reason=sentence)
        else:
            log.error("rebuild_failed", projection=projection, reason=sentence, fault=fault)
        self._note(job, state="failed", finished_at=self._clock(), error=sentence)


class _Job:
    """One rebuild, from the asking to its end. `begun` is set when it is at work, or is over."""

    def __init__(self, state: RebuildState) -> None:
        self.state = state
        self.begun = trio.Event()
        self.refused: str | None = None


class _Lines:
    """What a child says, line by line, until it says no more."""

    def __init__(self, process: trio.Process) -> None:
        assert process.stdout is not None  # noqa: S101 - for the type checker: it was started with a pipe
        self._stream = process.stdout
        self._lines: deque[bytes] = deque()
        self._rest = b""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        while not self._lines:
            more = await self._stream.receive_some(LONGEST_LINE)
            if not more:
                raise StopAsyncIteration
            *lines, self._rest = (self._rest + more).split(b"\n")
            self._lines.extend(lines)
            if len(self._rest) > LONGEST_LINE:
                raise msgspec.DecodeError("a line without an end")
        return self._lines.popleft()


def _how(status: int | None) -> str:
    """How a process ended, to stand between `ended` and `before`."""
    return f"with status {status}" if status is None or status >= 0 else f"by signal {-status}"
