"""A client that holds many WebSockets open and notes when each of them hears something. A process of its own.

A line on standard input is one JSON object, and so is its answer. `open` opens a socket for each message, says it and
waits for the reply; `say` says something on the first sockets, all at once, and tells how long it took until all were
answered; `hear` waits until each of those sockets has heard, unasked, what is expected, and tells when they did.
"""

from __future__ import annotations

import os
import selectors
import socket
import sys
from collections.abc import Sequence
from time import perf_counter
from typing import cast

import msgspec
from msgspec import Struct

from benchmarks.descriptors import allow_descriptors
from benchmarks.wire import is_whole_frame, masked_text, upgrade

AT_ONCE = 100
PATIENCE = 30.0


class Open(Struct, tag="open", tag_field="do"):
    """`messages` in their order, one for each socket; each reply holds `expect`."""

    port: int
    path: str
    messages: list[str]
    expect: str


class Say(Struct, tag="say", tag_field="do"):
    messages: list[str]
    expect: str


class Hear(Struct, tag="hear", tag_field="do"):
    sockets: list[int]
    expect: str


class Holder:
    """The sockets, and when each heard what; nothing is taken twice."""

    def __init__(self) -> None:
        self.sockets: list[socket.socket] = []
        self._heard: dict[int, tuple[float, bytes]] = {}
        self._selector = selectors.DefaultSelector()

    def open(self, asked: Open) -> dict[str, float]:
        started = perf_counter()
        for start in range(0, len(asked.messages), AT_ONCE):
            messages = asked.messages[start : start + AT_ONCE]
            opened = [socket.create_connection(("127.0.0.1", asked.port), PATIENCE) for _ in messages]
            for connection in opened:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connection.sendall(upgrade(asked.port, asked.path))
            for connection, message in zip(opened, messages, strict=True):
                answer = connection.recv(4096)
                assert b" 101 " in answer, answer
                connection.sendall(masked_text(message))
            for connection in opened:
                self._selector.register(connection, selectors.EVENT_READ, len(self.sockets))
                self.sockets.append(connection)
            first = len(self.sockets) - len(opened)
            self.hear(Hear([*range(first, len(self.sockets))], asked.expect))
        return {"open": len(self.sockets), "seconds": perf_counter() - started}

    def say(self, asked: Say) -> dict[str, float]:
        started = perf_counter()
        for connection, message in zip(self.sockets, asked.messages, strict=False):
            connection.sendall(masked_text(message))
        moments = self.hear(Hear([*range(len(asked.messages))], asked.expect))["heard"]
        return {"seconds": max(moments) - started}

    def hear(self, asked: Hear) -> dict[str, Sequence[float]]:
        deadline = perf_counter() + PATIENCE
        missing = set(asked.sockets) - self._heard.keys()
        while missing:
            assert perf_counter() < deadline, f"{len(missing)} sockets have not heard"
            missing -= self._listen()
        heard = [self._heard.pop(number) for number in asked.sockets]
        for _, frame in heard:
            assert asked.expect.encode() in frame, frame
        assert not self._heard, f"{len(self._heard)} sockets heard what was for others"
        return {"heard": [moment for moment, _ in heard]}

    def _listen(self) -> set[int]:
        """What has come, each with its moment; a frame of so few bytes comes whole."""
        heard = set()
        for key, _ in self._selector.select(1.0):
            frame = cast(socket.socket, key.fileobj).recv(4096)
            number = cast(int, key.data)
            assert is_whole_frame(frame), frame
            assert number not in self._heard, "a socket heard twice"
            self._heard[number] = perf_counter(), frame
            heard.add(number)
        return heard


def main() -> None:
    """Does what standard input says, until it ends."""
    allow_descriptors()
    holder = Holder()
    lines = os.fdopen(sys.stdin.fileno(), "rb", closefd=False)
    for line in lines:
        asked = msgspec.json.decode(line, type=Open | Say | Hear)
        match asked:
            case Open():
                answer: object = holder.open(asked)
            case Say():
                answer = holder.say(asked)
            case Hear():
                answer = holder.hear(asked)
        print(msgspec.json.encode(answer).decode(), flush=True)


if __name__ == "__main__":
    main()
