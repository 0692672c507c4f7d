"""Argon2id in a few threads of its own: bounded, and of the same cost for unknown accounts.

The workers are dedicated threads with one queue. A thread borrowed from Trio for each hash costs no more by itself, but
waits for the event loop between two hashes, and while HTTP saturates the loop that is most of the time. On Linux they
are nice: whatever else the service does gets a core before they do.
"""

import math
import os
import secrets
import sys
import threading
import time
from base64 import b64encode
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Final, Generic, Protocol, TypeVar

import trio
from argon2 import PasswordHasher, Type, extract_parameters
from argon2.exceptions import HashingError as Argon2HashingError
from argon2.exceptions import InvalidHashError, VerificationError, VerifyMismatchError
from msgspec import Struct
from outcome import Error, Outcome, capture

from service.errors import Overloaded, Unavailable

__all__ = ["HashingCost", "HashingGauges", "Passwords", "Verified"]

# What one pass over one KiB takes on a plain core: the estimate until the first hashes were measured.
_SECONDS_PER_KIB: Final = 0.45e-6
NICEST: Final = 19
# How much the newest measurement weighs.
_NEWEST: Final = 0.2


class HashingCost(Struct, frozen=True):
    """Parameters of Argon2id (RFC 9106); the defaults are OWASP's. `memory` is in KiB, `time` in passes."""

    memory: int = 19_456
    time: int = 2
    parallelism: int = 1


class Verified(Struct, frozen=True):
    """What came of a check. `needs_rehash`: it matches, and the parameters were raised since it was hashed."""

    matches: bool
    needs_rehash: bool = False


class HashingGauges(Protocol):
    """Who wants to know how busy the workers are. Called on Trio's thread."""

    def hashing(self, *, in_flight: int, waiting: int) -> None:
        """So many hashes are being worked on, so many wait for a worker."""

    def hashing_refused(self) -> None:
        """One was refused because too much was waiting."""


T = TypeVar("T")


class _Job(Generic[T]):
    """One hash or check. `claim` goes to whoever takes it first: a worker to do it, or its caller to withdraw it."""

    # Set before the task is rescheduled.
    outcome: Outcome[T]

    def __init__(self, work: Callable[[], T]) -> None:
        self.work = work
        self.task = trio.lowlevel.current_task()
        self.claim = threading.Lock()
        self.seconds = 0.0


class Passwords:
    """Hashes passwords and checks them. The async half needs `run` running; the sync half is for the command line.

    `workers` is the number of threads, 0 for one per core; `longest_wait` how many seconds of estimated work may wait
    before another is refused.
    """

    def __init__(
        self,
        cost: HashingCost | None = None,
        *,
        workers: int = 0,
        longest_wait: float = 2.0,
        gauges: HashingGauges | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.cost = cost or HashingCost()
        self.workers = workers or usable_cores()
        self._longest_wait = longest_wait
        self._gauges = gauges
        self._clock = clock
        self._hasher = PasswordHasher(
            time_cost=self.cost.time,
            memory_cost=self.cost.memory,
            parallelism=self.cost.parallelism,
            hash_len=32,
            salt_len=16,
            type=Type.ID,
        )
        self._unknown = _hash_of_nobody(self.cost)
        self._seconds_each = self.cost.memory * self.cost.time * _SECONDS_PER_KIB
        # Unbounded by itself: `_refuse_when_behind` is the bound.
        self._queue: SimpleQueue[_Job[Any] | None] = SimpleQueue()
        self._dispatched = 0
        self._running = False

    @property
    def seconds_each(self) -> float:
        """How long one hash takes, as estimated from the latest ones."""
        return self._seconds_each

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the workers until cancelled. Started in the nursery that holds the service's other tasks.

        When it ends, whoever still waits is told that the service cannot answer; hashes under way are finished first.
        """
        token = trio.lowlevel.current_trio_token()
        threads = [
            threading.Thread(target=self._work, args=(token,), name=f"passwords-{number}", daemon=True)
            for number in range(1, self.workers + 1)
        ]
        self._running = True
        for thread in threads:
            thread.start()
        try:
            task_status.started()
            await trio.sleep_forever()
        finally:
            self._running = False
            self._refuse_all_waiting()
            for _ in threads:
                self._queue.put(None)
            with trio.CancelScope(shield=True):
                # At most one hash long: nothing is left in the queue.
                for thread in threads:
                    await trio.to_thread.run_sync(thread.join)

    async def hash(self, password: str) -> str:
        """Return the encoded hash of a prepared password, with a salt of its own.

        Raises:
            Overloaded: too much is waiting already.
            Unavailable: the hash could not be computed (no memory), or the workers are not running.
        """
        return await self._done(lambda: self.hash_now(password))

    async def verify(self, encoded: str | None, password: str) -> Verified:
        """Check a prepared password against an encoded hash; None stands for an account that does not exist.

        Who is cancelled before a worker has taken the check withdraws it; after that it is finished and told, so that
        nobody guesses for nothing by leaving early.

        Raises:
            Overloaded: too much is waiting already.
            Unavailable: the check could not be made. It says nothing about the password.
        """
        return await self._done(lambda: self.verify_now(encoded, password))

    def hash_now(self, password: str) -> str:
        """Return the encoded hash, on the calling thread.

        Raises:
            Unavailable: it could not be computed.
        """
        try:
            return self._hasher.hash(password)
        except Argon2HashingError as fault:
            raise Unavailable(f"Argon2 could not hash: {fault}") from None

    def verify_now(self, encoded: str | None, password: str) -> Verified:
        """Check on the calling thread; see `verify`.

        Raises:
            Unavailable: the check could not be made.
        """
        try:
            self._hasher.verify(self._unknown if encoded is None else encoded, password)
        except VerifyMismatchError:
            return Verified(matches=False)
        except (InvalidHashError, VerificationError) as fault:
            raise Unavailable(f"Argon2 could not verify: {type(fault).__name__}") from None
        # Nobody knows a password for the hash of nobody, and if they did it would still be nobody's.
        return Verified(matches=encoded is not None, needs_rehash=encoded is not None and self._is_weaker(encoded))

    def _is_weaker(self, encoded: str) -> bool:
        kept = extract_parameters(encoded)
        return (
            kept.type is not Type.ID
            or kept.version < 19  # noqa: PLR2004  # 0x13, the version of RFC 9106
            or kept.memory_cost < self.cost.memory
            or kept.time_cost < self.cost.time
        )

    async def _done(self, work: Callable[[], T]) -> T:
        await trio.lowlevel.checkpoint_if_cancelled()
        if not self._running:
            raise Unavailable("the password workers are not running")
        self._refuse_when_behind()
        job = _Job(work)
        self._dispatched += 1
        self._queue.put(job)
        self._show()

        def leave(_raise_cancel: Any) -> trio.lowlevel.Abort:  # noqa: ANN401 - trio's own type
            if not job.claim.acquire(blocking=False):
                return trio.lowlevel.Abort.FAILED
            self._release()
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(leave)
        return job.outcome.unwrap()

    def _refuse_when_behind(self) -> None:
        wait = max(0, self._dispatched - self.workers + 1) * self._seconds_each / self.workers
        if wait > self._longest_wait:
            if self._gauges is not None:
                self._gauges.hashing_refused()
            raise Overloaded("hashing", math.ceil(wait))

    def _work(self, token: trio.lowlevel.TrioToken) -> None:
        """Run in each worker thread."""
        _be_nice()
        while (job := self._queue.get()) is not None:
            if not job.claim.acquire(blocking=False):
                continue
            started = self._clock()
            job.outcome = capture(job.work)
            job.seconds = self._clock() - started
            try:
                token.run_sync_soon(self._finish, job)
            except trio.RunFinishedError:
                return

    def _finish(self, job: _Job[Any]) -> None:
        self._seconds_each += _NEWEST * (job.seconds - self._seconds_each)
        self._release()
        trio.lowlevel.reschedule(job.task)

    def _release(self) -> None:
        """Forget a dispatched job."""
        self._dispatched -= 1
        self._show()

    def _refuse_all_waiting(self) -> None:
        while not self._queue.empty():
            job = self._queue.get()
            if job is not None and job.claim.acquire(blocking=False):
                job.outcome = Error(Unavailable("the password workers have stopped"))
                self._release()
                trio.lowlevel.reschedule(job.task)

    def _show(self) -> None:
        if self._gauges is not None:
            in_flight = min(self._dispatched, self.workers)
            self._gauges.hashing(in_flight=in_flight, waiting=self._dispatched - in_flight)


def _be_nice() -> None:
    """Let everybody else go before this thread, where there is more to do than there are cores.

    Linux alone takes the number of a thread where POSIX says that of a process: elsewhere it might be a stranger's.
    """
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICEST)


def usable_cores() -> int:
    """Return how many cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _hash_of_nobody(cost: HashingCost) -> str:
    """Return a well-formed hash of no known password: checking against it costs what any other check does."""
    salt, tag = (b64encode(secrets.token_bytes(size)).rstrip(b"=").decode() for size in (16, 32))
    return f"$argon2id$v=19$m={cost.memory},t={cost.time},p={cost.parallelism}${salt}${tag}"
