"""A client of the tail: reads server-sent events as WHATWG HTML, 9.2.6, has a client read them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import trio

from tests.guards.edge import PATIENCE


class Told(NamedTuple):
    """One event as a client has it: its type, the id that it left, its data."""

    type: str
    id: str
    data: Any


class Following:
    """An open tail."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._raw = b""
        self._text = b""
        self.status = 0
        self.head = ""
        self.ended = False
        self.cut = False
        self.last_id = ""
        self.retry: int | None = None
        self.comments = 0
        self.largest = 0

    async def begin(self) -> None:
        """Reads the status and the headers."""
        while b"\r\n\r\n" not in self._raw:
            assert await self._more(), self._raw
        head, _, self._raw = self._raw.partition(b"\r\n\r\n")
        self.head = head.decode()
        self.status = int(self.head.split(" ")[1])

    async def next(self) -> Told | None:
        """The next event; None where the stream ends."""
        data: list[str] = []
        kind = ""
        while (line := await self._line()) is not None:
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if line == "":
                if data:
                    return Told(kind or "message", self.last_id, json.loads("\n".join(data)))
                kind = ""
            elif name == "":
                self.comments += 1
            elif name == "id":
                self.last_id = value
            elif name == "event":
                kind = value
            elif name == "data":
                data.append(value)
            elif name == "retry":
                self.retry = int(value)
            else:
                raise AssertionError(f"no such field: {line}")
        return None

    async def some(self, number: int) -> list[Told]:
        """So many events."""
        with trio.fail_after(PATIENCE):
            found = [await self.next() for _ in range(number)]
        assert None not in found, f"it ended after {found}"
        return [one for one in found if one is not None]

    async def rest(self) -> list[Told]:
        """Everything until it ends."""
        found: list[Told] = []
        with trio.fail_after(PATIENCE):
            while (one := await self.next()) is not None:
                found.append(one)
        return found

    async def until_comment(self) -> None:
        """Waits for the next heartbeat; no event comes before it."""
        before = self.comments
        with trio.fail_after(PATIENCE):
            while self.comments == before:
                line = await self._line()
                assert line is not None
                assert not line.startswith("data")
                self.comments += line.startswith(":")
            line = await self._line()
        assert line is not None
        assert line.startswith("id: ")
        self.last_id = line.removeprefix("id: ")

    async def _line(self) -> str | None:
        while b"\n" not in self._text:
            if not await self._chunk():
                assert self._text == b"" or self.cut
                return None
        line, _, self._text = self._text.partition(b"\n")
        return line.decode()

    async def _chunk(self) -> bool:
        """Takes one chunk of the answer (RFC 9112, 7.1)."""
        if self.ended:
            return False
        while b"\r\n" not in self._raw:
            if not await self._more():
                return False
        size, _, self._raw = self._raw.partition(b"\r\n")
        length = int(size, 16)
        self.largest = max(self.largest, length)
        while len(self._raw) < length + 2:
            if not await self._more():
                return False
        self._text += self._raw[:length]
        assert self._raw[length : length + 2] == b"\r\n"
        self._raw = self._raw[length + 2 :]
        self.ended = length == 0
        return not self.ended

    async def _more(self) -> bool:
        """Reads on; False where the connection was closed before the answer was whole."""
        try:
            more = await self._stream.receive_some(65_536)
        except trio.BrokenResourceError:
            more = b""
        self._raw += more
        self.cut = not more
        return bool(more)


@asynccontextmanager
async def following(
    port: int, token: str | None, query: str = "", *, method: str = "GET", **headers: str
) -> AsyncIterator[Following]:
    """A tail, begun; further headers as keywords (`Last_Event_ID`)."""
    lines = [f"{method} /admin/api/events/follow{query} HTTP/1.1", "Host: x"]
    lines += [] if token is None else [f"Authorization: Bearer {token}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    try:
        await stream.send_all("\r\n".join([*lines, "", ""]).encode())
        found = Following(stream)
        with trio.fail_after(PATIENCE):
            await found.begin()
        yield found
    finally:
        await trio.aclose_forcefully(stream)
