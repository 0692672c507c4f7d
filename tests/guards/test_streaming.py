"""Answers that are made as they go: each piece leaves at once, and the end of one is heard by whoever makes it."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self

import pytest
import trio
from quart import Response
from quart.wrappers.response import ResponseBody
from quart_trio import QuartTrio

from tests.guards.edge import PATIENCE, Edge, read_all, read_until, serving_http
from tests.guards.test_http_guard import get, make_app

END = b"0\r\n\r\n"
"""The last chunk (RFC 9112, 7.1): the answer is whole."""


class Pieces(ResponseBody):
    """The pieces that a test hands in, one by one."""

    def __init__(self) -> None:
        self.hand_in, self._handed_in = trio.open_memory_channel[bytes](1)
        self.taken = 0
        self.begun = trio.Event()
        self.over = trio.Event()
        self.error: type[BaseException] | None = None
        self.fails = False

    async def __aenter__(self) -> Self:
        self.begun.set()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.error = kind
        self.over.set()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            piece = await self._handed_in.receive()
        except trio.EndOfChannel:
            if self.fails:
                raise RuntimeError("a secret") from None
            raise StopAsyncIteration from None
        self.taken += 1
        return piece

    async def ended(self) -> None:
        with trio.fail_after(PATIENCE):
            await self.over.wait()


def streaming(pieces: Pieces) -> QuartTrio:
    app = make_app()

    @app.get("/stream")
    async def stream() -> Response:
        response = Response(pieces, 200, {"content-type": "text/event-stream"})
        response.timeout = None
        return response

    return app


async def test_each_piece_leaves_at_once_and_the_connection_serves_on() -> None:
    pieces = Pieces()
    async with serving_http(streaming(pieces)) as edge, await edge.connect() as stream:
        await stream.send_all(get("/stream"))
        for piece in (b"one\n", b"two\n", b"three\n"):
            await pieces.hand_in.send(piece)
            answer = await read_until(stream, piece + b"\r\n")
            assert answer.endswith(b"%x\r\n%s\r\n" % (len(piece), piece))
            assert answer.startswith(b"HTTP/1.1 200") == (piece == b"one\n")
        await pieces.hand_in.aclose()
        assert await read_until(stream, END) == END
        await pieces.ended()
        assert pieces.error is None
        await stream.send_all(get("/", "connection: close"))
        assert (await read_all(stream)).startswith(b"HTTP/1.1 200")


async def test_a_client_of_http_1_0_has_it_until_the_connection_ends() -> None:
    pieces = Pieces()
    async with serving_http(streaming(pieces)) as edge, await edge.connect() as stream:
        await stream.send_all(b"GET /stream HTTP/1.0\r\n\r\n")
        await pieces.hand_in.send(b"one\n")
        answer = await read_until(stream, b"\r\n\r\none\n")
        assert b"transfer-encoding" not in answer.lower()
        await pieces.hand_in.aclose()
        assert await read_all(stream) == b""


async def gone(edge: Edge, pieces: Pieces, *, after: bytes = b"", reset: bool = False) -> None:
    """A client reads one piece, sends what it still has to say, and goes."""
    stream = await edge.connect()
    if reset:
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    await stream.send_all(get("/stream") + after)
    await pieces.hand_in.send(b"one\n")
    await read_until(stream, b"one\n\r\n")
    await trio.aclose_forcefully(stream)


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
async def test_a_client_that_goes_ends_it(*, reset: bool) -> None:
    pieces = Pieces()
    async with serving_http(streaming(pieces)) as edge:
        await gone(edge, pieces, reset=reset)
        await pieces.ended()
        assert pieces.error is trio.Cancelled
        await edge.until_open(0)
        assert edge.failures == []
        assert await edge.is_answering()


@pytest.mark.parametrize("after", [get(), get()[:10], b"x" * 100_000], ids=["a request", "a part of one", "much"])
async def test_one_that_goes_and_had_more_to_say_ends_it_with_the_next_pieces(after: bytes) -> None:
    pieces = Pieces()
    async with serving_http(streaming(pieces)) as edge:
        await gone(edge, pieces, after=after)
        with trio.fail_after(PATIENCE):
            # What it said is not read while it is being answered; that it has gone shows in what is sent to it.
            while not pieces.over.is_set():
                with trio.move_on_after(0.05):
                    await pieces.hand_in.send(b"more\n")
        await edge.until_open(0)
        assert pieces.taken < 20
        assert edge.failures == []


async def test_a_client_that_does_not_read_is_cut_in_the_middle() -> None:
    pieces = Pieces()
    async with serving_http(streaming(pieces), write_seconds=0.1) as edge, await edge.connect() as stream:
        await stream.send_all(get("/stream"))
        with trio.fail_after(PATIENCE):
            while not pieces.over.is_set():
                with trio.move_on_after(0.05):
                    await pieces.hand_in.send(bytes(65_536))
        assert pieces.error is trio.Cancelled
        # Not more than the connection's buffers hold: nothing is kept for a client.
        assert pieces.taken * 65_536 < 64 * 1024 * 1024
        await edge.until_open(0)
        assert not (await read_all(stream)).endswith(END)
        assert edge.failures == []


async def test_a_slow_client_is_waited_for_piece_by_piece() -> None:
    pieces = Pieces()
    async with serving_http(streaming(pieces), write_seconds=PATIENCE) as edge, await edge.connect() as stream:
        await stream.send_all(get("/stream"))
        async with trio.open_nursery() as nursery:

            async def hand_in() -> None:
                for _ in range(300):
                    await pieces.hand_in.send(bytes(65_536))
                await pieces.hand_in.aclose()

            nursery.start_soon(hand_in)
            await trio.testing.wait_all_tasks_blocked(0.02)
            assert pieces.taken < 300
            size = 0
            with trio.fail_after(PATIENCE):
                while size < 300 * 65_536:
                    size += len(await stream.receive_some(4_096))
        await pieces.ended()
        assert pieces.error is None


async def test_one_that_fails_in_the_middle_is_not_ended_as_if_it_were_whole() -> None:
    pieces = Pieces()
    async with serving_http(streaming(pieces)) as edge, await edge.connect() as stream:
        await stream.send_all(get("/stream"))
        await pieces.hand_in.send(b"one\n")
        await read_until(stream, b"one\n\r\n")
        pieces.fails = True
        await pieces.hand_in.aclose()
        assert await read_all(stream) == b""
        assert [type(error) for error in edge.failures] == [ExceptionGroup]
        assert await edge.is_answering()


async def test_a_stop_lets_it_end_by_itself_and_then_closes() -> None:
    pieces = Pieces()
    async with serving_http(streaming(pieces)) as edge, await edge.connect() as stream:
        await stream.send_all(get("/stream"))
        await pieces.hand_in.send(b"one\n")
        await read_until(stream, b"one\n\r\n")
        edge.stopping.set()
        await pieces.hand_in.send(b"two\n")
        await read_until(stream, b"two\n\r\n")
        await pieces.hand_in.aclose()
        assert await read_all(stream) == END
        with trio.fail_after(PATIENCE):
            await edge.stopped.wait()


async def test_a_stop_waits_no_longer_than_its_grace() -> None:
    pieces = Pieces()
    async with serving_http(streaming(pieces), grace=0.1) as edge, await edge.connect() as stream:
        await stream.send_all(get("/stream"))
        with trio.fail_after(PATIENCE):
            await pieces.begun.wait()
        edge.stopping.set()
        with trio.fail_after(PATIENCE):
            await edge.stopped.wait()
        assert pieces.error is trio.Cancelled
        await read_all(stream)
