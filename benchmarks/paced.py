"""Requests at a fixed modest pace, from a process of its own; each is timed from the moment when it was due.

So a stall counts for all that came due in it, not only for the one request that met it. Where it may, the client runs
before the other processes: what is measured is how long the service takes, not how long the client waits for a core.
"""

from __future__ import annotations

import os
import random
import select
import socket
import sys
from collections import deque
from contextlib import suppress
from time import perf_counter

import msgspec
from msgspec import Struct

from benchmarks.wire import http_get, is_whole_response

MOST_CONNECTIONS = 20
MOST_SECONDS = 60.0
FIRST = -10
"""The client's nice value."""


class Asked(Struct, frozen=True):
    """One kind of request: so many a second in all, each on whichever connection is free."""

    path: str
    rate: float
    connections: int
    token: str = ""


class Pace(Struct, frozen=True):
    """All that is asked of one port, and how long."""

    port: int
    seconds: float
    asked: list[Asked]


class Kind:
    """The requests of one kind: what is due, which connections are free, how long each answer took."""

    def __init__(self, port: int, asked: Asked, start: float) -> None:
        self.request = http_get(asked.path, asked.token)
        self.step = 1 / asked.rate
        self.next = start + random.uniform(0, self.step)  # noqa: S311 - nothing is secret
        self.due: deque[float] = deque()
        self.free = [socket.create_connection(("127.0.0.1", port)) for _ in range(asked.connections)]
        for connection in self.free:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.taken: list[float] = []

    def come_due(self, now: float, end: float) -> None:
        while self.next <= now and self.next < end:
            self.due.append(self.next)
            # About the same pace, but never in step with anything else.
            self.next += self.step * random.uniform(0.5, 1.5)  # noqa: S311 - as above


def main() -> None:
    """Runs the pace on standard input; prints, for each kind, the seconds that each answer took."""
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, FIRST)
    print(msgspec.json.encode(run(msgspec.json.decode(sys.stdin.buffer.read(), type=Pace))).decode())


def run(pace: Pace) -> list[list[float]]:
    """Raises RuntimeError for any answer but 200."""
    if sum(asked.connections for asked in pace.asked) > MOST_CONNECTIONS or pace.seconds > MOST_SECONDS:
        raise ValueError("a load is bounded")
    start = perf_counter()
    end = start + pace.seconds
    kinds = [Kind(pace.port, asked, start) for asked in pace.asked]
    under_way: dict[socket.socket, tuple[Kind, float, bytes]] = {}
    while under_way or any(kind.due or kind.next < end for kind in kinds):
        now = perf_counter()
        for kind in kinds:
            kind.come_due(now, end)
            while kind.due and kind.free:
                connection = kind.free.pop()
                under_way[connection] = kind, kind.due.popleft(), b""
                connection.sendall(kind.request)
        # Not epoll, which counts in whole milliseconds.
        pause = max(0.0, min(kind.next for kind in kinds) - perf_counter())
        for connection in select.select(list(under_way), [], [], min(pause, 1.0))[0]:
            kind, due, begun = under_way[connection]
            answer = begun + connection.recv(65536)
            if not is_whole_response(answer):
                under_way[connection] = kind, due, answer
                continue
            kind.taken.append(perf_counter() - due)
            if not answer.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(f"not what was expected: {answer[:200]!r}")
            del under_way[connection]
            kind.free.append(connection)
    return [kind.taken for kind in kinds]


if __name__ == "__main__":
    main()
