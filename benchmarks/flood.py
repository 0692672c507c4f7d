"""Clients that log in again and again, all at once, from a process of its own; each logs in to an account of its own.

Who is told 503 comes back after the time that it was told, and up to a second more. With plain epoll and ready-made
requests it takes about a hundredth of a core: what it asks for is all that it costs.
"""

from __future__ import annotations

import heapq
import json
import random
import re
import selectors
import socket
import sys
from time import perf_counter
from typing import cast

import msgspec
from msgspec import Struct

from benchmarks.wire import http_post, is_whole_response

MOST_CLIENTS = 200
MOST_SECONDS = 60.0
_RETRY_AFTER = re.compile(rb"retry-after: *([0-9]+)", re.IGNORECASE)


class Flood(Struct, frozen=True):
    """So many clients, `user-2` and those that follow, each on a connection of its own, for so long."""

    port: int
    password: str
    clients: int
    seconds: float


class Flooded(Struct, frozen=True):
    """How many were let in, how many were told 503, in how many seconds."""

    logins: int
    refused: int
    seconds: float


def main() -> None:
    """Runs the flood on standard input."""
    print(msgspec.json.encode(run(msgspec.json.decode(sys.stdin.buffer.read(), type=Flood))).decode())


def run(flood: Flood) -> Flooded:
    """Raises RuntimeError for an answer that is neither a login nor a 503 with Retry-After."""
    if flood.clients > MOST_CLIENTS or flood.seconds > MOST_SECONDS:
        raise ValueError("a load is bounded")
    selector = selectors.DefaultSelector()
    requests: dict[socket.socket, bytes] = {}
    for number in range(2, flood.clients + 2):
        connection = socket.create_connection(("127.0.0.1", flood.port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        selector.register(connection, selectors.EVENT_READ)
        body = json.dumps({"identifier": f"user-{number}", "password": flood.password}).encode()
        requests[connection] = http_post("/api/session", body)
    begun: dict[socket.socket, bytes] = {}
    later: list[tuple[float, int, socket.socket]] = []
    logins = refused = 0
    started = perf_counter()
    for connection, request in requests.items():
        connection.sendall(request)
    while (now := perf_counter()) < started + flood.seconds:
        while later and later[0][0] <= now:
            _, _, connection = heapq.heappop(later)
            connection.sendall(requests[connection])
        for key, _ in selector.select(0.05):
            connection = cast("socket.socket", key.fileobj)
            answer = begun.pop(connection, b"") + connection.recv(65536)
            if not is_whole_response(answer):
                begun[connection] = answer
            elif answer.startswith(b"HTTP/1.1 201"):
                logins += 1
                connection.sendall(requests[connection])
            elif answer.startswith(b"HTTP/1.1 503") and (after := _RETRY_AFTER.search(answer)):
                refused += 1
                back = perf_counter() + int(after[1]) + random.random()  # noqa: S311 - nothing is secret
                heapq.heappush(later, (back, connection.fileno(), connection))
            else:
                raise RuntimeError(f"not what was expected: {answer[:200]!r}")
    seconds = perf_counter() - started
    for connection in requests:
        connection.close()
    return Flooded(logins, refused, seconds)


if __name__ == "__main__":
    main()
