"""Callers of the writer: each opens and ends a session of its own user, again and again, waiting for each answer."""

from __future__ import annotations

from datetime import timedelta
from time import perf_counter

import trio

from projections.catalogue import USERS
from projections.users import User
from service.book import Book
from service.decisions.login import LogIn
from service.decisions.sessions import EndSession
from service.writer import Writer

DIGEST = "0" * 64
DAY = timedelta(days=1)


async def submit_for(writer: Writer, book: Book, callers: int, seconds: float) -> float:
    """Commands a second, each answered, and so durable, with its read models written and its fields sealed."""
    done = 0
    users = [book.decode(USERS, row.document) for row in book.read_models.scan(USERS, limit=callers)]
    started = perf_counter()
    end = started + seconds

    async def call(user: User) -> None:
        nonlocal done
        while perf_counter() < end:
            login = LogIn(user.id, user.password_version, DIGEST, DAY, 100, address="192.0.2.1", agent="benchmark/1.0")
            [opened] = await writer.submit(login, actor=f"user-{user.id}", door="benchmark")
            await writer.submit(EndSession(opened.position, user.id), actor=f"user-{user.id}", door="benchmark")
            done += 2

    async with trio.open_nursery() as nursery:
        for user in users:
            nursery.start_soon(call, user)
    return done / (perf_counter() - started)
