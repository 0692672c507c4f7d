"""A load from a process of its own, on loopback: bounded connections and time, one request after the other on each.

Plain epoll and ready-made requests, so that the client costs far less than what it asks. Prints one JSON object.
"""

from __future__ import annotations

import selectors
import socket
import sys
from time import perf_counter
from typing import cast

import msgspec
from msgspec import Struct

from benchmarks.wire import http_get, is_whole_frame, is_whole_response, masked_text, upgrade

MOST_CONNECTIONS = 200
MOST_SECONDS = 60.0


class Plan(Struct, frozen=True):
    """What to ask, of whom, how often. `path` of a socket is opened first; then `message` goes to and fro."""

    kind: str
    port: int
    path: str
    seconds: float
    connections: int = 50
    token: str = ""
    message: str = ""
    expect: str = "200"


class Result(Struct, frozen=True):
    """What came of it: answers, and seconds a request at the median and at the 99th percentile."""

    answers: int
    seconds: float
    p50: float
    p99: float

    @property
    def rate(self) -> float:
        """Answers a second."""
        return self.answers / self.seconds


def main() -> None:
    """Runs the plan on standard input."""
    print(msgspec.json.encode(run(msgspec.json.decode(sys.stdin.buffer.read(), type=Plan))).decode())


def run(plan: Plan) -> Result:
    """One load, over after `plan.seconds`. Raises RuntimeError for an answer that is not as expected."""
    if plan.connections > MOST_CONNECTIONS or plan.seconds > MOST_SECONDS:
        raise ValueError("a load is bounded")
    web = plan.kind == "http"
    request = http_get(plan.path, plan.token) if web else masked_text(plan.message)
    expected = f"HTTP/1.1 {plan.expect}".encode() if web else plan.expect.encode()
    selector = selectors.DefaultSelector()
    sent: dict[socket.socket, float] = {}
    for _ in range(plan.connections):
        connection = socket.create_connection(("127.0.0.1", plan.port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if not web:
            _upgrade(connection, plan)
        selector.register(connection, selectors.EVENT_READ)
        sent[connection] = perf_counter()
        connection.sendall(request)
    begun: dict[socket.socket, bytes] = {}
    whole = is_whole_response if web else is_whole_frame
    taken: list[float] = []
    started = perf_counter()
    end = started + plan.seconds
    while perf_counter() < end:
        for key, _ in selector.select(0.1):
            connection = cast(socket.socket, key.fileobj)
            answer = begun.pop(connection, b"") + connection.recv(65536)
            if not whole(answer):
                begun[connection] = answer
                continue
            if expected not in answer:
                raise RuntimeError(f"not what was expected: {answer[:200]!r}")
            now = perf_counter()
            taken.append(now - sent[connection])
            sent[connection] = now
            connection.sendall(request)
    seconds = perf_counter() - started
    for connection in sent:
        connection.close()
    taken.sort()
    return Result(len(taken), seconds, taken[len(taken) // 2], taken[int(len(taken) * 0.99)])


def _upgrade(connection: socket.socket, plan: Plan) -> None:
    connection.sendall(upgrade(plan.port, plan.path))
    answer = connection.recv(65536)
    if b" 101 " not in answer:
        raise RuntimeError(f"no upgrade: {answer[:200]!r}")


if __name__ == "__main__":
    main()
