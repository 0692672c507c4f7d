"""A whole service in a test's own process, on loopback ports of its own: its parts are at hand, and its clock."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import trio

from service.address import Address
from service.app import serve
from service.batch import Clock, utc_now
from service.listeners import Listening
from service.parts import Parts, assemble
from service.settings import Settings
from tests.guards.edge import PATIENCE

ANYWHERE = Address("127.0.0.1", 0)


class Whole(NamedTuple):
    """A service that answers: what it is made of, and where it listens."""

    parts: Parts
    listening: Listening


@asynccontextmanager
async def whole(folder: Path, *, clock: Clock = utc_now, **settings: Any) -> AsyncIterator[Whole]:
    """A service over a store in the folder, with cheap hashes, until the block ends."""
    settings = {"argon2_memory_kib": 8, "argon2_time": 1, "stop_grace_seconds": 0, "metrics": None, **settings}
    chosen = Settings(store=f"sqlite:{folder}/gatebook.db", http=ANYWHERE, ws=ANYWHERE, **settings)
    stopping, listening = trio.Event(), trio.Event()
    kept: list[Parts] = []
    heard: list[Listening] = []

    def keeping(*arguments: Any) -> Parts:
        kept.append(assemble(*arguments))
        return kept[0]

    def ready(where: Listening) -> None:
        heard.append(where)
        listening.set()

    interval = sys.getswitchinterval()
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(serve, chosen, ready=ready, clock=clock, stopping=stopping, assembling=keeping))
            with trio.fail_after(PATIENCE):
                await listening.wait()
            yield Whole(kept[0], heard[0])
            stopping.set()
    finally:
        # The threads of other tests take turns as they did before.
        sys.setswitchinterval(interval)
