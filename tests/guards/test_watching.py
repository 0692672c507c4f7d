"""What is watched on open sockets: who does not answer a ping, who is here for nothing, who sends too fast."""

from __future__ import annotations

import trio

from service.guards.trio_websocket import SocketConnection, SocketRequest
from tests.guards.edge import PATIENCE, closing_code, frame, read_all, read_until, serving_sockets, upgrade
from tests.guards.test_socket_guard import echo

TEXT, CLOSE, PING, PONG = 1, 8, 9, 10
A_PING = b"\x89\x00"


async def test_a_client_that_answers_no_ping_is_cut() -> None:
    """CWE-772: what is held for somebody who has gone is given back."""
    async with serving_sockets(echo, ping_seconds=0.1) as edge, await edge.connect() as stream:
        await stream.send_all(upgrade())
        assert (await read_all(stream)).endswith(b"\r\n\r\n" + A_PING)
        await edge.until_open(0)
        assert edge.refused == ["silent"]
        assert edge.failures == []


async def test_a_client_that_answers_pings_stays() -> None:
    async with serving_sockets(echo, ping_seconds=0.05) as edge, await edge.connect() as stream:
        await stream.send_all(upgrade())
        await read_until(stream, b"\r\n\r\n")
        for _ in range(5):
            await read_until(stream, A_PING)
            await stream.send_all(frame(PONG))
        await stream.send_all(frame(TEXT, b"here"))
        await read_until(stream, b"\x81\x04here")
        assert edge.refused == []


async def test_whatever_a_client_says_shows_that_it_is_there() -> None:
    async with serving_sockets(echo, ping_seconds=0.1) as edge, await edge.connect() as stream:
        await stream.send_all(upgrade())
        await read_until(stream, b"\r\n\r\n")
        for _ in range(4):
            # Never a pong, though it is pinged.
            await read_until(stream, A_PING)
            await stream.send_all(frame(TEXT, b"x"))
            await read_until(stream, b"\x81\x01x")
        assert edge.refused == []


async def test_a_client_that_we_do_not_listen_to_is_not_taken_for_silent() -> None:
    release = trio.Event()

    async def busy(request: SocketRequest) -> None:
        connection = await request.accept()
        await connection.receive()
        await release.wait()
        while True:
            await connection.send(await connection.receive())

    async with serving_sockets(busy, ping_seconds=0.05) as edge, await edge.connect() as stream:
        await stream.send_all(upgrade())
        await read_until(stream, b"\r\n\r\n")
        # One is with the handler, one waits beside it, and with the third in hand nothing more is read.
        await stream.send_all(frame(TEXT, b"1") + frame(TEXT, b"2") + frame(TEXT, b"3"))
        with trio.move_on_after(0.5):
            await edge.until_open(0)
        assert edge.open == 1
        release.set()
        assert (await read_until(stream, b"\x81\x013")).endswith(b"\x81\x012\x81\x013")


async def test_one_that_does_not_read_its_pings_holds_up_nobody_elses() -> None:
    async with serving_sockets(echo, ping_seconds=0.1) as edge:
        async with await edge.connect() as deaf, await edge.connect() as other:
            for stream in (deaf, other):
                await stream.send_all(upgrade())
                await read_until(stream, b"\r\n\r\n")
            await read_until(other, A_PING)
            await other.send_all(frame(PONG))
            await edge.until_open(1)
            await read_until(other, A_PING)
        assert edge.failures == []


async def test_a_connection_that_does_not_get_what_it_is_for_is_closed() -> None:
    async def expect(request: SocketRequest) -> None:
        connection = await request.accept()
        connection.expect(0.1)
        await connection.receive()

    async with serving_sockets(expect, ping_seconds=0.2) as edge, await edge.connect() as stream:
        await stream.send_all(upgrade())
        answer = await read_until(stream, b"No session was shown in time.")
        assert closing_code(answer) == 1008
        await stream.send_all(frame(CLOSE, b"\x03\xf0"))
        await edge.until_open(0)
        assert edge.refused == ["unused"]
        assert edge.failures == []


async def test_what_is_expected_may_be_put_off_and_called_off() -> None:
    open_ones: list[SocketConnection] = []

    async def expect(request: SocketRequest) -> None:
        connection = await request.accept()
        connection.expect(0.01)
        connection.expect(3600)
        connection.expect(0.01)
        connection.expect(None)
        open_ones.append(connection)
        while True:
            await connection.send(await connection.receive())

    async with serving_sockets(expect, ping_seconds=0.1) as edge, await edge.connect() as stream:
        await stream.send_all(upgrade())
        await read_until(stream, A_PING)
        await stream.send_all(frame(TEXT, b"x"))
        await read_until(stream, b"\x81\x01x")
        open_ones[0].expect(0.01)
        assert closing_code(b"\r\n\r\n" + await read_until(stream, b"in time.")) == 1008
        assert edge.refused == ["unused"]


async def test_messages_and_pings_that_come_too_fast_are_read_more_slowly_and_none_is_lost() -> None:
    """CWE-770; ASVS 5.0: 2.4.1."""
    taken: list[float] = []

    async def note(request: SocketRequest) -> None:
        connection = await request.accept()
        while True:
            await connection.receive()
            taken.append(trio.current_time())

    async with serving_sockets(note, messages_per_second=20, ping_seconds=0.05) as edge, await edge.connect() as stream:
        await stream.send_all(upgrade())
        await read_until(stream, b"\r\n\r\n")
        await stream.send_all(frame(TEXT, b"x") * 30 + frame(PING, b"there?") * 5 + frame(CLOSE, b"\x03\xe8"))
        answer = await read_all(stream)
        assert len(taken) == 30
        assert taken[19] - taken[0] < 0.4
        assert taken[29] - taken[0] > 0.4
        assert answer.count(b"\x8a\x06there?") == 5
        assert edge.slowed == 15
        assert edge.refused == edge.failures == []


async def test_an_open_socket_that_is_stopped_while_it_is_slowed_ends_in_time() -> None:
    async with serving_sockets(echo, messages_per_second=1, close_seconds=0.1) as edge, await edge.connect() as stream:
        await stream.send_all(upgrade())
        await read_until(stream, b"\r\n\r\n")
        await stream.send_all(frame(TEXT, b"x") * 20)
        await read_until(stream, b"\x81\x01x")
        edge.stopping.set()
        with trio.fail_after(PATIENCE / 2):
            await edge.stopped.wait()


async def test_nobody_is_pinged_once_the_connection_is_being_closed() -> None:
    async def close(request: SocketRequest) -> None:
        connection = await request.accept()
        await connection.close(4000, "enough")

    # The client does not agree, so that the connection stays for longer than two pings.
    async with serving_sockets(close, ping_seconds=0.1, close_seconds=0.3) as edge, await edge.connect() as stream:
        await stream.send_all(upgrade())
        assert (await read_all(stream)).endswith(b"enough")
        assert edge.failures == []
