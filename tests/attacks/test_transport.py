"""Attacks on the transport of a running service. Each says what it shows: a requirement of ASVS 5.0, or a CWE.

An honest client talks with both listeners all the while, on connections that were there before.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.lowlevel

from tests.attacks.honest import attacked, connect, honest
from tests.attacks.hostile import (
    BOMB,
    CLOSE,
    HANDSHAKES,
    HTTP,
    MORE,
    OPEN,
    PATH,
    PING,
    SMUGGLING,
    SPOKEN,
    TEXT,
    request,
)
from tests.conformance.running import FAST, PATIENCE, Running, running
from tests.guards.edge import closing_code, frame, read_all, read_until, upgrade

LIMIT = 1
"""Seconds that a client has for its headers, its body, or for reading an answer."""
PLACES = 30
"""Connections that each listener takes."""
GET = request("connection: close", method="GET", path="/health/live")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    settings: dict[str, Any] = {
        "head_seconds": LIMIT,
        "body_seconds": LIMIT,
        "write_seconds": LIMIT,
        "max_connections_http": PLACES,
        "max_connections_ws": PLACES,
    }
    with running(tmp_path_factory.mktemp("attacked"), **FAST, **settings) as found:
        yield found


def resident(service: Running) -> int:
    """Bytes of memory that the service has."""
    status = Path(f"/proc/{service.process.pid}/status").read_text(encoding="ascii")
    found = re.search(r"^VmRSS:\s+(\d+) kB$", status, re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


async def send_what_is_taken(stream: trio.SocketStream, data: bytes) -> None:
    try:
        await stream.send_all(data)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        assert len(data) > 10_000, "it was cut off although there was little to send"


async def send_until_cut(stream: trio.SocketStream, data: bytes) -> None:
    with trio.fail_after(PATIENCE), suppress(trio.BrokenResourceError):
        while True:
            await stream.send_all(data)


async def told(address: str, data: bytes) -> bytes:
    """Sends some bytes, and reads until the listener closes."""
    async with connect(address) as stream, trio.open_nursery() as nursery:
        nursery.start_soon(send_what_is_taken, stream, data)
        answer = await read_all(stream)
        nursery.cancel_scope.cancel()
    return answer


async def closed_with(service: Running, data: bytes) -> int | None:
    """Sends some bytes on an open socket; the code with which it is closed."""
    async with connect(service.ws) as stream:
        await stream.send_all(upgrade(PATH))
        answer = await read_until(stream, b"\r\n\r\n")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send_what_is_taken, stream, data)
            with trio.fail_after(PATIENCE):
                while (code := closing_code(answer)) is None:
                    more = await stream.receive_some()
                    assert more, answer[-200:]
                    answer += more
            nursery.cancel_scope.cancel()
    return code


def test_there_are_sixty_hostile_inputs_for_each_listener() -> None:
    assert len(HTTP) >= 60
    assert len(HANDSHAKES) + len(OPEN) + len(SPOKEN) >= 60


@pytest.mark.parametrize("sent", HTTP.values(), ids=HTTP.keys())
async def test_hostile_http_ends_its_own_connection_and_nothing_else(service: Running, sent: bytes) -> None:
    """CWE-20, CWE-248; ASVS 5.0: 16.5.3 (it fails closed, and goes on)."""
    async with honest(service) as client, attacked(client):
        answer = await told(service.http, sent)
        statuses = [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3})", answer)]
        assert all(400 <= status < 600 for status in statuses), answer[:300]
        assert 500 not in statuses


@pytest.mark.parametrize("sent", HANDSHAKES.values(), ids=HANDSHAKES.keys())
async def test_a_hostile_handshake_opens_nothing(service: Running, sent: bytes) -> None:
    """CWE-20, CWE-248, CWE-1385; ASVS 5.0: 4.4.2."""
    async with honest(service) as client, attacked(client):
        assert re.match(rb"HTTP/1\.1 4\d\d ", await told(service.ws, sent))


@pytest.mark.parametrize(("sent", "code"), OPEN.values(), ids=OPEN.keys())
async def test_hostile_frames_close_their_own_socket(service: Running, sent: bytes, code: int) -> None:
    """CWE-20, CWE-248."""
    async with honest(service) as client, attacked(client):
        assert await closed_with(service, sent) == code


@pytest.mark.parametrize("sent", SPOKEN.values(), ids=SPOKEN.keys())
@pytest.mark.parametrize("path", [PATH, "/react-auth"])
async def test_hostile_messages_are_answered_and_the_socket_goes_on(service: Running, path: str, sent: bytes) -> None:
    """CWE-20, CWE-674, CWE-915; ASVS 5.0: 2.2.1."""
    async with honest(service) as client, attacked(client), connect(service.ws) as stream:
        await stream.send_all(upgrade(path))
        await read_until(stream, b"\r\n\r\n")
        for _ in range(2):
            await stream.send_all(sent)
            # An error of the one contract, or of the other.
            answer = await read_until(stream, b"}")
            assert re.search(rb'"error":true|"success":false', answer), answer


@pytest.mark.parametrize("sent", SMUGGLING.values(), ids=SMUGGLING.keys())
async def test_no_request_is_smuggled_inside_another(service: Running, sent: bytes) -> None:
    """CWE-444; ASVS 5.0: 4.2.1."""
    async with honest(service) as client, attacked(client):
        answer = await told(service.http, sent + GET)
        assert re.findall(rb"HTTP/1\.1 (\d)\d\d ", answer) == [b"4"]
        assert b"connection: close" in answer.lower()
        assert b"no_such_route" not in answer


async def test_chunk_extensions_and_equal_lengths_mean_what_they_mean_elsewhere(service: Running) -> None:
    """CWE-444; ASVS 5.0: 4.2.1: what may be taken is taken as every other parser takes it."""
    kind = "content-type: application/json"
    for sent in (
        request(kind, "transfer-encoding: chunked", body=b"2;a=b\r\n{}\r\n0;c\r\nx: y\r\n\r\n"),
        request(kind, "content-length: 2", "content-length: 2", body=b"{}"),
        request(kind, "content-length: 2, 2", body=b"{}"),
        request(kind, "Content-Length:2", body=b"{}"),
    ):
        answer = await told(service.http, sent + GET)
        assert [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3})", answer)] == [400, 200]
        assert b'"malformed"' in answer


@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_a_connection_that_was_to_be_closed_is_closed(service: Running, version: str) -> None:
    """CWE-772."""
    asked = f"GET /health/live HTTP/{version}\r\nhost: x\r\nconnection: close\r\n\r\n".encode()
    for _ in range(PLACES + 5):
        # More than there are places: each was given back.
        assert (await told(service.http, asked)).startswith(b"HTTP/1.1 200")


async def test_slow_headers_are_cut_though_they_keep_coming(service: Running) -> None:
    """Slowloris (CWE-400; ASVS 5.0: 13.1.3, 15.2.2)."""
    async with honest(service) as client, attacked(client), AsyncExitStack() as open_ones:
        slow = [await open_ones.enter_async_context(connect(service.http)) for _ in range(PLACES // 2)]
        answers = await trickled(slow, b"GET / HTTP/1.1\r\nhost: x\r\n", b"x: y\r\n")
        assert all(answer.startswith(b"HTTP/1.1 408") for answer in answers)


async def test_slow_bodies_are_cut_though_they_keep_coming(service: Running) -> None:
    """R.U.D.Y. (CWE-400; ASVS 5.0: 13.1.3, 15.2.2)."""
    async with honest(service) as client, attacked(client), AsyncExitStack() as open_ones:
        slow = [await open_ones.enter_async_context(connect(service.http)) for _ in range(PLACES // 2)]
        head = request("content-type: application/json", "content-length: 60000")
        answers = await trickled(slow, head, b" ")
        assert all(answer.startswith(b"HTTP/1.1 408") for answer in answers)


async def test_slow_handshakes_of_sockets_are_cut_though_they_keep_coming(service: Running) -> None:
    """CWE-400; ASVS 5.0: 13.1.3, 15.2.2."""
    async with honest(service) as client, attacked(client), AsyncExitStack() as open_ones:
        slow = [await open_ones.enter_async_context(connect(service.ws)) for _ in range(PLACES // 2)]
        assert all(answer in {b"", b"<reset>"} for answer in await trickled(slow, upgrade(PATH)[:-2], b"x: y\r\n"))


async def trickled(streams: list[trio.SocketStream], head: bytes, more: bytes) -> list[bytes]:
    """Sends a head on each, and then a little now and then; what they hear, until all are closed."""
    answers: list[bytes] = []

    async def hear(stream: trio.SocketStream) -> None:
        answers.append(await read_all(stream))

    async def trickle(stream: trio.SocketStream) -> None:
        try:
            while True:
                await stream.send_all(more)
                await trio.sleep(LIMIT / 10)  # an attacker's own pace
        except trio.BrokenResourceError:
            pass

    async with trio.open_nursery() as trickling:
        async with trio.open_nursery() as hearing:
            for stream in streams:
                await stream.send_all(head)
                hearing.start_soon(hear, stream)
                trickling.start_soon(trickle, stream)
        trickling.cancel_scope.cancel()
    assert len(answers) == len(streams)
    return answers


async def test_clients_that_do_not_read_are_cut_and_cost_little(service: Running) -> None:
    """Slow read (CWE-400, CWE-770; ASVS 5.0: 15.2.2)."""
    before = resident(service)
    async with honest(service) as client, attacked(client), AsyncExitStack() as open_ones:
        async with trio.open_nursery() as nursery:
            for _ in range(PLACES // 2):
                stream = await open_ones.enter_async_context(connect(service.http))
                nursery.start_soon(send_until_cut, stream, request(method="GET", path="/openapi.json") * 1_000)
        assert resident(service) - before < 64 * 2**20


async def test_sockets_that_do_not_read_are_cut_and_cost_little(service: Running) -> None:
    """Slow read (CWE-400, CWE-770; ASVS 5.0: 15.2.2)."""
    before = resident(service)
    packet = json.dumps({"route": "auth.nothing", "receipt": "x" * 60_000}).encode()
    async with honest(service) as client, attacked(client), AsyncExitStack() as open_ones:
        async with trio.open_nursery() as nursery:
            for _ in range(PLACES // 2):
                stream = await open_ones.enter_async_context(connect(service.ws))
                await stream.send_all(upgrade(PATH))
                await read_until(stream, b"\r\n\r\n")
                nursery.start_soon(send_until_cut, stream, frame(TEXT, packet) * 100)
        assert resident(service) - before < 64 * 2**20


@pytest.mark.parametrize("listener", ["http", "ws"])
async def test_a_flood_of_connections_is_turned_away_and_leaves_nothing_behind(service: Running, listener: str) -> None:
    """CWE-770; ASVS 5.0: 15.2.2."""
    address = getattr(service, listener)
    async with honest(service) as client:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.go_on)
            async with AsyncExitStack() as open_ones:
                # The honest client has one of the places. Until the rest are taken, connections stay.
                for _ in range(PLACES - 1):
                    await open_ones.enter_async_context(connect(address))
                answered = client.answered
                for _ in range(50):
                    answer = await told(address, b"")
                    assert answer.startswith(b"HTTP/1.1 503 ")
                    assert b"retry-after" in answer.lower()
                with trio.fail_after(PATIENCE):
                    while client.answered < answered + 5:
                        await trio.lowlevel.checkpoint()  # until it has been served in the middle of the flood
            nursery.cancel_scope.cancel()
        await until_there_is_room(address)
        await client.is_served()


async def until_there_is_room(address: str) -> None:
    """The listener has seen that the flood is over."""
    request_of = {"http": GET, "ws": upgrade(PATH)}[address.partition(":")[0]]
    with trio.fail_after(PATIENCE):
        while True:
            async with connect(address) as stream:
                try:
                    await stream.send_all(request_of)
                    if not (await stream.receive_some()).startswith(b"HTTP/1.1 503"):
                        return
                except trio.BrokenResourceError:
                    pass


async def test_one_client_takes_no_more_sockets_than_one_may(tmp_path: Path) -> None:
    """CWE-770; ASVS 5.0: 15.2.2. Whose connections they are says the proxy, whom nobody else can play (CWE-348)."""
    settings = FAST | {"connections_per_address": 5, "trusted_proxies": "127.0.0.1"}
    with running(tmp_path, **settings) as service:
        async with honest(service) as client, attacked(client), AsyncExitStack() as open_ones:
            outcomes = []
            for number in range(8):
                stream = await open_ones.enter_async_context(connect(service.ws))
                said = f"198.51.100.{number}, 203.0.113.9".encode()
                await stream.send_all(upgrade(PATH, X_Forwarded_For=said))
                outcomes.append(int((await read_until(stream, b"\r\n\r\n")).split()[1]))
            assert outcomes == [101] * 5 + [503] * 3
            stream = await open_ones.enter_async_context(connect(service.ws))
            await stream.send_all(upgrade(PATH, X_Forwarded_For=b"203.0.113.10"))
            assert (await read_until(stream, b"\r\n\r\n")).startswith(b"HTTP/1.1 101")


async def test_a_flood_of_fragments_costs_no_memory(service: Running) -> None:
    """CWE-770; ASVS 5.0: 15.2.2."""
    before = resident(service)
    async with honest(service) as client, attacked(client):
        for _ in range(5):
            flood = frame(TEXT, final=False) + frame(MORE, final=False) * 300_000
            assert await closed_with(service, flood) == 1009
        assert resident(service) - before < 32 * 2**20


async def test_nothing_is_decompressed(service: Running) -> None:
    """CWE-409; ASVS 5.0: 5.2.3 (what is small on the wire stays small)."""
    before = resident(service)
    offers = b"permessage-deflate; client_max_window_bits, permessage-deflate"
    async with honest(service) as client, attacked(client):
        async with connect(service.ws) as stream:
            await stream.send_all(upgrade(PATH, Sec_WebSocket_Extensions=offers))
            answer = await read_until(stream, b"\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 101")
            assert b"sec-websocket-extensions" not in answer.lower()
            await stream.send_all(b"\xc1" + frame(TEXT, BOMB[:60_000])[1:])
            heard = b"\r\n\r\n" + await read_until(stream, b"frame.")
            assert closing_code(heard) == 1002
        for encoding in ("gzip", "deflate", "br", "gzip, gzip"):
            sent = request(
                "content-type: application/json", f"content-encoding: {encoding}", "content-length: 30000",
                "connection: close", body=BOMB[:30_000],
            )  # fmt: skip
            assert (await told(service.http, sent)).startswith(b"HTTP/1.1 4")
        assert resident(service) - before < 16 * 2**20


async def test_a_flood_of_pings_and_messages_is_read_at_its_pace(service: Running) -> None:
    """CWE-770; ASVS 5.0: 2.4.1."""
    async with honest(service) as client, attacked(client), connect(service.ws) as stream:
        await stream.send_all(upgrade(PATH))
        await read_until(stream, b"\r\n\r\n")
        sent = frame(PING, b"p") * 250 + frame(TEXT, b"{") * 250 + frame(CLOSE, b"\x03\xe8")
        started = trio.current_time()
        await stream.send_all(sent)
        answer = await read_all(stream)
        # 200 at once and 200 a second: five hundred take a second and a half, and none is lost.
        assert trio.current_time() - started > 1.2
        assert answer.count(b"\x8a\x01p") == 250


async def test_a_body_is_refused_before_it_is_sent(service: Running) -> None:
    """CWE-770; ASVS 5.0: 5.2.1: each address has its own shape of refusal, and none of them waits for the body."""
    async with honest(service) as client, attacked(client):
        for path in ("/api/register", "/api/session", "/api/login", "/react-auth", "/nowhere"):
            head = request("content-type: application/json", "content-length: 65537", path=path)
            assert (await told(service.http, head)).startswith(b"HTTP/1.1 413")
            grows = request("content-type: application/json", "transfer-encoding: chunked", path=path)
            answer = await told(
                service.http, grows + b"8000\r\n" + b" " * 0x8000 + b"\r\n" + b"9000\r\n" + b" " * 0x9000
            )
            assert answer.startswith(b"HTTP/1.1 413")
