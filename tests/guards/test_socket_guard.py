"""The WebSocket listener: whatever one client does, the next one is served."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import h11
import pytest
import trio
import trio.testing
from trio_websocket import ConnectionClosed, WebSocketConnection, open_websocket_url
from wsproto.events import Event as WireEvent
from wsproto.events import TextMessage

from service.guards.trio_websocket import SocketRequest, by_path
from service.guards.websocket_wire import WireConnection
from tests.guards.edge import PATIENCE, Edge, closing_code, frame, read_all, read_until, serving_sockets, upgrade

ACCEPTED = b"HTTP/1.1 101 "
TEXT, BINARY, CLOSE, PING = 1, 2, 8, 9
MORE = 0


async def echo(request: SocketRequest) -> None:
    connection = await request.accept()
    while True:
        await connection.send(await connection.receive())


@asynccontextmanager
async def client(edge: Edge, path: str = "/") -> AsyncIterator[WebSocketConnection]:
    async with open_websocket_url(f"ws://127.0.0.1:{edge.port}{path}") as socket:
        yield socket
        # When the server closes first, trio-websocket's client leaves its TCP connection open.
        await trio.aclose_forcefully(socket._stream)


async def is_answering(edge: Edge) -> bool:
    with trio.fail_after(PATIENCE):
        async with client(edge) as socket:
            await socket.send_message("honest")
            return bool(await socket.get_message() == "honest")


HANDSHAKES = {
    "a subprotocol that is not ASCII": upgrade(Sec_WebSocket_Protocol=b"caf\xe9"),
    "an extension that is not ASCII": upgrade(Sec_WebSocket_Extensions=b"caf\xe9"),
    "a host that is not ASCII": upgrade(Host=b"caf\xe9"),
    "a host that is no IDNA": upgrade(Host=b"xn--" + b"\xff" * 80),
    "a path that is not ASCII": upgrade("/caf\u00e9"),
    "a connection header that is not ASCII": upgrade(Connection=b"Upgrade, caf\xe9"),
    "no upgrade": b"GET / HTTP/1.1\r\nhost: x\r\n\r\n",
    "no key": upgrade().replace(b"sec-websocket-key", b"x"),
    "a key that is none": upgrade(Sec_WebSocket_Key=b"short"),
    "a key of fewer bytes": upgrade(Sec_WebSocket_Key=b"c2hvcnQ="),
    "two keys": upgrade().replace(b"\r\n\r\n", b"\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"),
    "HTTP/1.0": upgrade().replace(b"HTTP/1.1", b"HTTP/1.0"),
    "a version of HTTP that does not exist": upgrade().replace(b"HTTP/1.1", b"HTTP/9.9"),
    "a host with a user": upgrade(Host=b"user@x"),
    "a host that goes on in the next line": upgrade(Host=b"x\r\n y: z"),
    "another method": upgrade().replace(b"GET", b"POST"),
    "another version": upgrade(Sec_WebSocket_Version=b"12"),
    "bytes after the request": upgrade() + frame(TEXT, b"early"),
    "a body": upgrade(Content_Length=b"5") + b"hello",
    "headers that are too large": upgrade(X=b"y" * 200_000),
    "headers without an end": b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 10_000,
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9),
    "garbage": bytes(range(256)) + b"\r\n\r\n",
}


@pytest.mark.parametrize("sent", HANDSHAKES.values(), ids=HANDSHAKES.keys())
async def test_a_hostile_handshake_is_refused_and_the_next_client_served(sent: bytes) -> None:
    async with serving_sockets(echo) as edge:
        answer = await edge.tell(sent)
        assert answer.startswith(b"HTTP/1.1 4")
        assert edge.refused == ["malformed"]
        assert await is_answering(edge)
        assert edge.failures == []


async def test_a_client_that_does_not_wait_to_be_accepted_is_refused_once() -> None:
    asked, release = trio.Event(), trio.Event()
    outcome: list[str] = []

    async def hesitate(request: SocketRequest) -> None:
        asked.set()
        await release.wait()
        try:
            await request.accept()
        except ConnectionClosed:
            outcome.append("closed")

    async with serving_sockets(hesitate) as edge, await edge.connect() as stream:
        await stream.send_all(upgrade())
        await asked.wait()
        await stream.send_all(frame(TEXT, b"early"))
        answer = await read_until(stream, b"\r\n\r\n")
        release.set()
        answer += await read_all(stream)
        assert answer.startswith(b"HTTP/1.1 400")
        assert answer.count(b"HTTP/1.1") == 1
        await edge.until_open(1)
        await stream.aclose()
        await edge.until_open(0)
        assert outcome == ["closed"]
        assert edge.failures == []


FRAMES = {
    "too many fragments": (frame(TEXT, final=False) + frame(MORE, final=False) * 100, 1009),
    "fragments without end": (frame(TEXT, final=False) + frame(MORE, final=False) * 1_000_000, 1009),
    "a frame that is too large": (frame(TEXT, b"x" * 65_537), 1009),
    "text that is too large in bytes only": (frame(TEXT, "\u20ac".encode() * 21_846), 1009),
    "fragments that are too large together": (
        frame(BINARY, b"x" * 40_000, final=False) + frame(MORE, b"x" * 40_000),
        1009,
    ),
    "a frame that claims to be enormous": (frame(BINARY)[:1] + b"\xff" + bytes([0x10] + [0] * 7) + bytes(70_000), 1009),
    "text that is not UTF-8": (frame(TEXT, b"\xff\xfe"), 1007),
    "a frame without a mask": (b"\x81\x05hello", 1002),
    "an opcode that does not exist": (frame(11), 1002),
    "a reserved bit": (b"\xc1" + frame(TEXT, b"x")[1:], 1002),
    "a fragmented ping": (frame(PING, final=False), 1002),
    "a continuation of nothing": (frame(MORE), 1002),
    "a close code that does not exist": (frame(CLOSE, b"\x00\x01"), 1002),
    "garbage": (bytes(range(0x70, 0xFF)), 1002),
}


@pytest.mark.parametrize(("sent", "code"), FRAMES.values(), ids=FRAMES.keys())
async def test_a_hostile_frame_closes_its_own_connection_with_a_code(sent: bytes, code: int) -> None:
    async with serving_sockets(echo, close_seconds=0.2) as edge:
        async with await edge.connect() as stream:
            await stream.send_all(upgrade())
            answer = await read_until(stream, b"\r\n\r\n")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(send_what_is_taken, stream, sent)
                answer += await read_all(stream)
        assert answer.startswith(ACCEPTED)
        assert closing_code(answer) == code
        assert await is_answering(edge)
        await edge.until_open(0)
        assert edge.failures == []


async def send_what_is_taken(stream: trio.SocketStream, data: bytes) -> None:
    try:
        await stream.send_all(data)
    except trio.BrokenResourceError:
        assert len(data) > 100_000, "it was cut off although there was little to send"


async def test_a_handshake_may_arrive_byte_by_byte() -> None:
    async with serving_sockets(echo) as edge, await edge.connect() as stream:
        for byte in upgrade():
            await stream.send_all(bytes([byte]))
        assert (await read_until(stream, b"\r\n\r\n")).startswith(ACCEPTED)


async def test_a_message_of_exactly_the_limits_is_taken() -> None:
    async with serving_sockets(echo) as edge, client(edge) as socket:
        for message in ("x" * 65_536, "\u20ac" * 21_845, b"x" * 65_536):
            await socket.send_message(message)
            assert await socket.get_message() == message


async def test_a_message_in_as_many_fragments_as_allowed_is_taken_even_byte_by_byte() -> None:
    async with serving_sockets(echo) as edge, await edge.connect() as stream:
        await stream.send_all(upgrade())
        await read_until(stream, b"\r\n\r\n")
        sent = frame(TEXT, b"", final=False) + frame(MORE, b"x", final=False) * 62 + frame(MORE, b"y" * 125)
        for number in range(len(sent)):
            await stream.send_all(sent[number : number + 1])
        assert await read_until(stream, b"y" * 125) == b"\x81\x7e\x00\xbb" + b"x" * 62 + b"y" * 125


async def test_a_client_that_just_drops_harms_nobody() -> None:
    async with serving_sockets(echo) as edge:
        for sent in (b"", upgrade()[:20], upgrade(), upgrade() + frame(TEXT, b"lost")):
            stream = await edge.connect()
            await stream.send_all(sent)
            await trio.aclose_forcefully(stream)
        async with await edge.connect() as stream:
            await stream.send_all(upgrade())
            await read_until(stream, b"\r\n\r\n")
            await stream.send_all(frame(TEXT, b"half a frame")[:-3])
        assert await is_answering(edge)
        await edge.until_open(0)
        assert edge.failures == []


async def test_a_fault_that_nobody_foresaw_ends_one_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    take = WireConnection._take

    async def fault(self: WireConnection, event: WireEvent) -> bool:
        if isinstance(event, TextMessage) and event.data == "fault":
            raise LookupError
        return await take(self, event)

    monkeypatch.setattr(WireConnection, "_take", fault)
    async with serving_sockets(echo) as edge, client(edge) as other:
        async with client(edge) as socket:
            await socket.send_message("fault")
            with pytest.raises(ConnectionClosed):
                await socket.get_message()
        await edge.until_open(1)
        assert len(edge.failures) == 1
        await other.send_message("still here")
        assert await other.get_message() == "still here"


async def test_a_ping_is_answered_and_one_during_the_close_ignored() -> None:
    async def close_at_once(request: SocketRequest) -> None:
        await (await request.accept()).close(4000, "enough")

    async with serving_sockets(by_path({"/": echo, "/close": close_at_once})) as edge:
        async with await edge.connect() as stream:
            await stream.send_all(upgrade())
            await read_until(stream, b"\r\n\r\n")
            await stream.send_all(frame(PING, b"there?"))
            assert await read_until(stream, b"there?") == b"\x8a\x06there?"
        async with await edge.connect() as stream:
            await stream.send_all(upgrade("/close"))
            await read_until(stream, b"enough")
            await stream.send_all(frame(PING) * 10 + frame(CLOSE, b"\x0f\xa0"))
            assert await read_all(stream) == b""
        assert edge.failures == []


async def test_an_error_of_the_handler_closes_its_own_connection() -> None:
    async def fail(request: SocketRequest) -> None:
        connection = await request.accept()
        raise RuntimeError(await connection.receive())

    async def fail_before_answering(request: SocketRequest) -> None:
        raise RuntimeError

    async with serving_sockets(by_path({"/": echo, "/fail": fail, "/early": fail_before_answering})) as edge:
        async with client(edge, "/fail") as socket:
            await socket.send_message("secret")
            with pytest.raises(ConnectionClosed) as closed:
                await socket.get_message()
            assert closed.value.reason is not None
            assert closed.value.reason.code == 1011
            assert "secret" not in str(closed.value)
        assert (await edge.tell(upgrade("/early"))).startswith(b"HTTP/1.1 500")
        assert await is_answering(edge)
        await edge.until_open(0)
        assert len(edge.failures) == 2


async def test_a_path_that_nobody_serves_is_not_found() -> None:
    async with serving_sockets(by_path({"/": echo})) as edge:
        assert (await edge.tell(upgrade("/nowhere"))).startswith(b"HTTP/1.1 404")
        async with client(edge, "/?a=b") as socket:
            await socket.send_message("x")
            assert await socket.get_message() == "x"


async def test_a_client_that_sends_no_more_opens_nothing_and_is_no_fault_of_ours() -> None:
    async def answer_late(request: SocketRequest) -> None:
        while request._conversation.wire._close_reason is None:
            await trio.lowlevel.checkpoint()  # until the listener has seen that the client sends no more
        await request.accept()

    async with serving_sockets(answer_late) as edge, await edge.connect() as stream:
        await stream.send_all(upgrade())
        await stream.send_eof()
        assert (await read_all(stream)).startswith(b"HTTP/1.1 400")
        assert edge.failures == []


async def test_a_handler_that_forgets_to_answer_is_not_waited_for() -> None:
    async def forget(request: SocketRequest) -> None:
        pass

    async with serving_sockets(forget) as edge:
        assert (await edge.tell(upgrade())).startswith(b"HTTP/1.1 500")


async def test_a_protocol_of_text_takes_no_bytes() -> None:
    async def text_only(request: SocketRequest) -> None:
        connection = await request.accept()
        while True:
            await connection.send(await connection.receive_text())

    async with serving_sockets(text_only) as edge, client(edge) as socket:
        await socket.send_message("text")
        assert await socket.get_message() == "text"
        await socket.send_message(b"bytes")
        with pytest.raises(ConnectionClosed, match="1003"):
            await socket.get_message()


async def test_a_slow_handshake_is_cut() -> None:
    async with serving_sockets(echo, handshake_seconds=0.1) as edge:
        assert await edge.tell(upgrade()[:30]) == b""
        assert edge.refused == ["too_slow"]
        assert await is_answering(edge)


async def test_one_connection_too_many_is_told_so() -> None:
    async with serving_sockets(echo, connections=1) as edge:
        async with client(edge), await edge.connect() as second:
            assert (await read_all(second)).startswith(b"HTTP/1.1 503")
            assert edge.refused == ["full"]
        await edge.until_open(0)
        assert await is_answering(edge)


async def flood(request: SocketRequest) -> None:
    connection = await request.accept()
    while True:
        await connection.send(bytes(65_536))


async def test_a_client_that_does_not_read_is_cut() -> None:
    async with serving_sockets(flood, write_seconds=0.1) as edge, await edge.connect() as stream:
        await stream.send_all(upgrade())
        await edge.until_open(1)
        await edge.until_open(0)
        assert edge.failures == []


async def test_a_client_that_does_not_read_does_not_hold_up_a_stop() -> None:
    async with serving_sockets(flood, grace=0.2, close_seconds=0.1) as edge, await edge.connect() as stream:
        await stream.send_all(upgrade())
        await edge.until_open(1)
        edge.stopping.set()
        with trio.fail_after(PATIENCE):
            await edge.stopped.wait()


async def test_a_client_that_does_not_answer_a_close_does_not_hold_up_a_stop() -> None:
    serving = serving_sockets(echo, close_seconds=0.1, grace=10 * PATIENCE)
    async with serving as edge, await edge.connect() as stream, await edge.connect() as half:
        await stream.send_all(upgrade())
        await half.send_all(upgrade()[:30])
        await read_until(stream, b"\r\n\r\n")
        await edge.until_open(2)
        edge.stopping.set()
        with trio.fail_after(PATIENCE):
            await edge.stopped.wait()
        assert await read_all(stream) == b"\x88\x02\x03\xe9"
        assert await read_all(half) == b""


async def test_a_stop_says_1001_to_the_idle_and_answers_what_was_accepted() -> None:
    taken, release = trio.Event(), trio.Event()

    async def work(request: SocketRequest) -> None:
        connection = await request.accept()
        while True:
            message = await connection.receive_text()
            taken.set()
            await release.wait()
            await connection.send(f"done: {message}")

    async with serving_sockets(by_path({"/": echo, "/work": work})) as edge:
        async with client(edge) as idle, client(edge, "/work") as busy:
            await busy.send_message("first")
            await taken.wait()
            await busy.send_message("second, not accepted")
            edge.stopping.set()
            with pytest.raises(ConnectionClosed, match="1001"):
                await idle.get_message()
            with pytest.raises(OSError, match="connect"):
                await edge.connect()
            release.set()
            assert await busy.get_message() == "done: first"
            with pytest.raises(ConnectionClosed, match="1001"):
                await busy.get_message()
        with trio.fail_after(PATIENCE):
            await edge.stopped.wait()
        assert edge.failures == []


async def test_answers_that_are_made_side_by_side_are_all_sent_before_a_stop_closes() -> None:
    taken, release = trio.Event(), trio.Event()

    async def work(request: SocketRequest) -> None:
        connection = await request.accept()

        async def answer(message: str) -> None:
            await release.wait()
            await connection.send(message)

        async with trio.open_nursery() as answers:
            try:
                for _ in ("one", "two"):
                    answers.start_soon(answer, await connection.receive_text())
                taken.set()
                await connection.receive_text()
            except ConnectionClosed:
                assert connection.stopping

    async with serving_sockets(work) as edge, client(edge) as socket:
        await socket.send_message("one")
        await socket.send_message("two")
        await taken.wait()
        edge.stopping.set()
        release.set()
        assert {await socket.get_message(), await socket.get_message()} == {"one", "two"}
        with pytest.raises(ConnectionClosed, match="1001"):
            await socket.get_message()


async def test_a_handler_that_does_not_end_is_cancelled_in_time_to_say_1001() -> None:
    taken = trio.Event()

    async def stuck(request: SocketRequest) -> None:
        await (await request.accept()).receive()
        taken.set()
        await trio.sleep_forever()

    async with serving_sockets(stuck, grace=0.3, close_seconds=0.2) as edge, client(edge) as socket:
        await socket.send_message("x")
        await taken.wait()
        edge.stopping.set()
        with pytest.raises(ConnectionClosed, match="1001"):
            await socket.get_message()
        with trio.fail_after(PATIENCE):
            await edge.stopped.wait()


async def test_a_request_that_is_answered_after_the_stop_is_told_503() -> None:
    asked = trio.Event()

    async def hesitate(request: SocketRequest) -> None:
        asked.set()
        await edge.stopping.wait()
        await trio.testing.wait_all_tasks_blocked()
        await request.accept()

    async with serving_sockets(hesitate) as edge, await edge.connect() as stream:
        await stream.send_all(upgrade())
        await asked.wait()
        edge.stopping.set()
        assert (await read_all(stream)).startswith(b"HTTP/1.1 503")


async def test_a_connection_can_be_cut_from_beside_its_handler_also_in_the_middle_of_a_write() -> None:
    """The client that reads nothing is the one that `cut` is for; whoever reads or writes hears that it is over."""
    heard: list[str] = []

    async def cut_while_it_reads_and_writes(request: SocketRequest) -> None:
        connection = await request.accept()

        async def told(name: str, wait: Callable[[], Awaitable[object]]) -> None:
            try:
                while True:
                    await wait()
            except ConnectionClosed:
                heard.append(name)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(told, "reader", connection.receive)
            nursery.start_soon(told, "writer", partial(connection.send, bytes(65_536)))
            await trio.testing.wait_all_tasks_blocked(0.01)
            connection.cut()
            connection.cut()

    async with serving_sockets(cut_while_it_reads_and_writes) as edge, await edge.connect() as stream:
        await stream.send_all(upgrade())
        await edge.until_open(1)
        await edge.until_open(0)
        assert sorted(heard) == ["reader", "writer"]
        assert edge.failures == []


async def test_an_open_connection_keeps_nothing_of_its_handshake() -> None:
    def parsers() -> int:
        gc.collect()
        found = [one for one in gc.get_objects() if isinstance(one, h11.Connection)]
        return sum(one.our_role is h11.SERVER for one in found)

    before = parsers()
    async with serving_sockets(echo) as edge, client(edge) as socket:
        await socket.send_message("hello")
        assert await socket.get_message() == "hello"
        assert parsers() == before
