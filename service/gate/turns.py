"""Turns: what may be done by one at a time for each account, in order of arrival, and how many may wait for that."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import asynccontextmanager

import trio

from service.errors import Overloaded

__all__ = ["Turns"]


class Turns:
    """See the module. `seconds_each` says how long one turn takes, `longest_wait` how many seconds of them may wait."""

    def __init__(self, *, longest_wait: float, seconds_each: Callable[[], float]) -> None:
        self._longest_wait = longest_wait
        self._seconds_each = seconds_each
        # A lock is there as long as somebody has it or waits for it. Each wait ends with its caller's connection.
        self._locks: dict[Hashable, trio.Lock] = {}
        self._waiting = 0

    @property
    def waiting(self) -> int:
        """How many wait for their turn, over all keys."""
        return self._waiting

    @asynccontextmanager
    async def turn(self, key: Hashable) -> AsyncIterator[None]:
        """The block is done by nobody else meanwhile with that key. Overloaded when too much waits for that already."""
        lock = self._locks.setdefault(key, trio.Lock())
        wait = (lock.statistics().tasks_waiting + lock.locked()) * self._seconds_each()
        if wait > self._longest_wait:
            raise Overloaded("attempts at one account", math.ceil(wait))
        self._waiting += 1
        try:
            await lock.acquire()
        finally:
            self._waiting -= 1
            self._forget(key, lock)
        try:
            yield
        finally:
            lock.release()
            self._forget(key, lock)

    def _forget(self, key: Hashable, lock: trio.Lock) -> None:
        # Released to somebody who waits, it is locked by them at once.
        if not lock.locked() and not lock.statistics().tasks_waiting:
            self._locks.pop(key, None)
