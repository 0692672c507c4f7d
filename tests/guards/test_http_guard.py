"""The HTTP listener: whatever one client does, the next one is served."""

from __future__ import annotations

from typing import Any

import h2.config
import h2.connection
import pytest
import trio
from hypercorn.events import Event, RawData
from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, Scope
from quart import request
from quart_trio import QuartTrio

from service.guards.http1 import GuardedH11Protocol
from service.guards.quart_trio import WholeRequestConnection
from tests.guards.edge import PATIENCE, frame, read_all, read_until, serving_http, upgrade


@pytest.fixture(params=["quart-trio", "whole requests"])
def app(request: pytest.FixtureRequest) -> QuartTrio:
    """The same little application, answering as Quart-Trio does and as we do."""
    return make_app(whole=request.param == "whole requests")


def make_app(*, whole: bool = True) -> QuartTrio:
    app = QuartTrio("little")
    if whole:
        app.asgi_http_class = WholeRequestConnection

    @app.get("/")
    async def hello() -> dict[str, str]:
        return {"hello": "world"}

    @app.post("/echo")
    async def echo() -> bytes:
        return bytes(await request.body)

    @app.get("/big")
    async def big() -> bytes:
        return bytes(64 * 1024 * 1024)

    @app.get("/broken")
    async def broken() -> str:
        raise RuntimeError

    return app


def get(path: str = "/", *headers: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "host: x", *headers, "", ""]).encode()


def post(body: bytes, *headers: str) -> bytes:
    return "\r\n".join(["POST /echo HTTP/1.1", "host: x", *headers, "", ""]).encode() + body


def h2_request(path: bytes = b"/", method: bytes = b"GET") -> bytes:
    """What a client sends that knows beforehand that we speak HTTP/2."""
    config = h2.config.H2Configuration(client_side=True, header_encoding=None, validate_outbound_headers=False)
    connection = h2.connection.H2Connection(config)
    connection.initiate_connection()
    headers = [(b":method", method), (b":path", path), (b":scheme", b"http"), (b":authority", b"x")]
    connection.send_headers(1, headers if path else [(b":method", method), (b":authority", b"x")], end_stream=True)
    return connection.data_to_send()


def h2_priorities(number: int) -> bytes:
    one = b"\x00\x00\x05\x02\x00" + b"%s" + b"\x00\x00\x00\x00\x10"
    return h2_request() + b"".join(one % (2 * n + 3).to_bytes(4, "big") for n in range(number))


HOSTILE = {
    "a subprotocol that is not ASCII": (upgrade(Sec_WebSocket_Protocol=b"caf\xe9"), 400),
    "an extension that is not ASCII": (upgrade(Sec_WebSocket_Extensions=b"caf\xe9"), 400),
    "an offer to compress": (upgrade(Sec_WebSocket_Extensions=b"permessage-deflate"), 400),
    "bytes after an upgrade": (upgrade() + b"x", 400),
    "a frame on a path that does not exist": (upgrade("/nowhere") + frame(1, b"hello"), 400),
    "a chunk that is none": (post(b"zz\r\nhello\r\n0\r\n\r\n", "transfer-encoding: chunked"), 400),
    "HTTP/2 with a path that is not ASCII": (h2_request(b"/caf\xe9"), 505),
    "HTTP/2 with a method that is not ASCII": (h2_request(method=b"G\xe9T"), 505),
    "HTTP/2 with a thousand priorities": (h2_priorities(1000), 505),
    "HTTP/2 with a CONNECT, which has no path": (h2_request(b"", b"CONNECT"), 505),
    "CONNECT to nowhere": (b"CONNECT  HTTP/1.1\r\nhost: x\r\n\r\n", 400),
    "CONNECT to somewhere": (b"CONNECT example.com:443 HTTP/1.1\r\nhost: x\r\n\r\n", 501),
    "a path that is not ASCII": (b"GET /caf\xe9 HTTP/1.1\r\nhost: x\r\n\r\n", 400),
    "a target that is no path": (b"GET nowhere HTTP/1.1\r\nhost: x\r\n\r\n", 400),
    "both lengths": (post(b"0\r\n\r\n", "content-length: 5", "transfer-encoding: chunked"), 400),
    "chunks in HTTP/1.0": (b"POST /echo HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "two lengths that differ": (post(b"hello", "content-length: 5", "content-length: 6"), 400),
    "a length of five thousand digits": (post(b"", "content-length: " + "9" * 5000), 400),
    "a length below zero": (post(b"", "content-length: -1"), 400),
    "a version that does not exist": (b"GET / HTTP/7.3\r\nhost: x\r\n\r\n", 505),
    "a host that is none": (b"GET / HTTP/1.1\r\nhost: x y\r\n\r\n", 400),
    "a host with a user": (b"GET / HTTP/1.1\r\nhost: user@x\r\n\r\n", 400),
    "a host that goes on in the next line": (b"GET / HTTP/1.1\r\nhost: x\r\n content-length: 5\r\n\r\n", 400),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "garbage": (bytes(range(256)) + b"\r\n\r\n", 400),
    "headers that are too large": (get("/", f"x: {'y' * 20_000}"), 431),
    "headers without an end": (b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 10_000, 431),
    "a body announced as too large": (post(b"y" * 200_000, "content-length: 10000000"), 413),
    "a body announced as too large, and not sent": (post(b"", "content-length: 65537", "expect: 100-continue"), 413),
    "a body that grows too large": (post(b"4000\r\n" + b"y" * 200_000, "transfer-encoding: chunked"), None),
}


@pytest.mark.parametrize(("sent", "status"), HOSTILE.values(), ids=HOSTILE.keys())
async def test_a_hostile_request_is_refused_and_the_next_client_served(sent: bytes, status: int | None) -> None:
    async with serving_http(make_app()) as edge:
        answer = await edge.tell(sent)
        assert status is None or answer.startswith(b"HTTP/1.1 %d " % status)
        assert b"connection: close" in answer.lower()
        assert edge.refused != []
        assert await edge.is_answering()
        assert edge.failures == []


async def test_a_client_that_just_drops_harms_nobody() -> None:
    async with serving_http(make_app()) as edge:
        for sent in (b"", b"GET / HT", post(b"hel", "content-length: 5"), get("/big")):
            stream = await edge.connect()
            await stream.send_all(sent)
            await trio.aclose_forcefully(stream)
        assert await edge.is_answering()
        await edge.until_open(0)
        assert edge.failures == []


async def test_a_fault_that_nobody_foresaw_ends_one_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    handle = GuardedH11Protocol.handle

    async def fault(self: GuardedH11Protocol, event: Event) -> None:
        if isinstance(event, RawData) and b"fault" in event.data:
            raise LookupError
        await handle(self, event)

    monkeypatch.setattr(GuardedH11Protocol, "handle", fault)
    async with serving_http(make_app()) as edge, await edge.connect() as other:
        await other.send_all(get("/", "connection: close")[:20])
        assert await edge.tell(b"fault") == b""
        # The client may see the end before the server has counted it.
        await edge.until_open(1)
        assert len(edge.failures) == 1
        await other.send_all(get("/", "connection: close")[20:])
        assert (await read_all(other)).startswith(b"HTTP/1.1 200")


async def test_an_error_of_the_application_is_a_500_of_one_client() -> None:
    async def app(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        if scope["type"] == "http" and scope["path"] == "/":
            await make_app()(scope, receive, send)
        raise RuntimeError("secret")

    async with serving_http(app) as edge:
        answer = await edge.tell(get("/broken"))
        assert answer.startswith(b"HTTP/1.1 500")
        assert b"secret" not in answer
        assert len(edge.failures) == 1
        assert await edge.is_answering()


async def test_chunks_that_exceed_the_limit_are_refused_before_the_application_hears_of_them() -> None:
    async with serving_http(make_app(), body_bytes=100) as edge:
        answer = await edge.tell(post(b"65\r\n" + b"y" * 101 + b"\r\n0\r\n\r\n", "transfer-encoding: chunked"))
        assert answer.startswith(b"HTTP/1.1 413")
        assert b'"code":"too_large"' in answer
        exactly = post(b"64\r\n" + b"y" * 100 + b"\r\n0\r\n\r\n", "transfer-encoding: chunked", "connection: close")
        assert (await edge.tell(exactly)).endswith(b"y" * 100)


@pytest.mark.parametrize("how", [get("/", "connection: close"), b"GET / HTTP/1.0\r\n\r\n"])
async def test_a_connection_that_was_to_be_closed_is_closed(app: QuartTrio, how: bytes) -> None:
    async with serving_http(app) as edge:
        assert (await edge.tell(how)).startswith(b"HTTP/1.1 200")
        await edge.until_open(0)


async def test_what_follows_the_last_request_is_not_read(app: QuartTrio) -> None:
    async with serving_http(app) as edge:
        for last in (get("/", "connection: close"), b"GET / HTTP/1.0\r\n\r\n"):
            for more in (get(), b"garbage\r\n\r\n", b"x" * 200_000):
                answer = await edge.tell(last + more)
                assert answer.startswith(b"HTTP/1.1 200")
                assert answer.count(b"HTTP/1.1") == 1
        assert edge.failures == []
        assert edge.refused == []


async def test_a_connection_serves_many_requests_also_when_they_come_together(app: QuartTrio) -> None:
    async with serving_http(app) as edge, await edge.connect() as stream:
        for body in (b"one", b"two"):
            await stream.send_all(post(body, "content-length: 3"))
            assert (await read_until(stream, body)).startswith(b"HTTP/1.1 200")
        await stream.send_all(post(b"three", "content-length: 5") + post(b"four", "content-length: 4") + b"GET")
        answers = await read_until(stream, b"four")
        assert answers.index(b"three") < answers.index(b"four")
        await stream.send_all(b" / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        assert b'{"hello":"world"}' in await read_all(stream)


async def test_an_answer_names_the_date_and_no_server() -> None:
    async with serving_http(make_app()) as edge:
        answer = (await edge.tell(get("/", "connection: close"))).lower()
        assert b"\r\ndate: " in answer
        assert b"\r\nserver: " not in answer


async def test_the_server_may_be_named_in_the_target() -> None:
    async with serving_http(make_app()) as edge:
        for target in ("http://x/", "http://x", "http://x?a=b", "https://x/?a=b"):
            assert b" 200 " in await edge.tell(get(target, "connection: close"))


async def test_an_upgrade_to_http2_is_ignored() -> None:
    async with serving_http(make_app()) as edge:
        headers = ("connection: upgrade, http2-settings, close", "upgrade: h2c", "http2-settings: AAMAAABkAAQAAP__")
        assert (await edge.tell(get("/", *headers))).startswith(b"HTTP/1.1 200")


async def test_a_client_that_waits_to_be_told_to_go_on_is_told() -> None:
    async with serving_http(make_app()) as edge, await edge.connect() as stream:
        await stream.send_all(post(b"", "content-length: 5", "expect: 100-continue", "connection: close"))
        assert (await read_until(stream, b"\r\n\r\n")).startswith(b"HTTP/1.1 100")
        await stream.send_all(b"hello")
        assert (await read_all(stream)).endswith(b"hello")


@pytest.mark.parametrize(
    ("sent", "limit"),
    [(b"GET / HT", "head_seconds"), (post(b"hel", "content-length: 5"), "body_seconds")],
    ids=["headers", "body"],
)
async def test_a_slow_request_is_cut(sent: bytes, limit: str) -> None:
    limits: dict[str, Any] = {limit: 0.1}
    async with serving_http(make_app(), **limits) as edge:
        assert (await edge.tell(sent)).startswith(b"HTTP/1.1 408")
        assert edge.refused == ["too_slow"]
        assert await edge.is_answering()


async def test_an_idle_connection_is_closed_without_a_word() -> None:
    async with serving_http(make_app(), idle_seconds=0.1) as edge, await edge.connect() as stream:
        await stream.send_all(get())
        await read_until(stream, b'{"hello":"world"}\n')
        assert await read_all(stream) == b""


async def test_one_connection_too_many_is_told_so() -> None:
    async with serving_http(make_app(), connections=1) as edge:
        async with await edge.connect() as first:
            await first.send_all(get())
            await read_until(first, b'{"hello":"world"}\n')
            async with await edge.connect() as second:
                assert (await read_all(second)).startswith(b"HTTP/1.1 503")
            assert edge.refused == ["full"]
        await edge.until_open(0)
        assert await edge.is_answering()


async def test_a_client_that_does_not_read_is_cut() -> None:
    async with serving_http(make_app(), write_seconds=0.1) as edge, await edge.connect() as stream:
        await stream.send_all(get("/big"))
        await edge.until_open(1)
        await edge.until_open(0)
        assert await edge.is_answering()


async def test_the_handler_of_a_client_that_has_gone_is_cancelled(app: QuartTrio) -> None:
    entered, cancelled = trio.Event(), trio.Event()

    @app.get("/slow")
    async def slow() -> str:
        try:
            entered.set()
            await trio.sleep_forever()
        finally:
            cancelled.set()

    async with serving_http(app) as edge:
        async with await edge.connect() as stream:
            await stream.send_all(get("/slow"))
            await entered.wait()
        with trio.fail_after(PATIENCE):
            await cancelled.wait()
        await edge.until_open(0)
        assert edge.failures == []


async def test_a_stop_answers_what_is_in_flight_and_closes_the_rest(app: QuartTrio) -> None:
    entered, release = trio.Event(), trio.Event()

    @app.get("/slow")
    async def slow() -> str:
        entered.set()
        await release.wait()
        return "done"

    async with serving_http(app) as edge, await edge.connect() as idle, await edge.connect() as busy:
        await idle.send_all(get())
        await read_until(idle, b'{"hello":"world"}\n')
        await busy.send_all(get("/slow"))
        await entered.wait()
        edge.stopping.set()
        assert await read_all(idle) == b""
        with pytest.raises(OSError, match="connect"):
            await edge.connect()
        release.set()
        answer = await read_all(busy)
        assert answer.startswith(b"HTTP/1.1 200")
        assert b"connection: close" in answer.lower()
        assert answer.endswith(b"done")
        with trio.fail_after(PATIENCE):
            await edge.stopped.wait()


async def test_a_stop_waits_no_longer_than_its_grace() -> None:
    app, entered = make_app(), trio.Event()

    @app.get("/slow")
    async def slow() -> str:
        entered.set()
        await trio.sleep_forever()

    async with serving_http(app, grace=0.1) as edge, await edge.connect() as waiting, await edge.connect() as deaf:
        await waiting.send_all(get("/slow"))
        await deaf.send_all(get("/big"))
        await entered.wait()
        await edge.until_open(2)
        edge.stopping.set()
        with trio.fail_after(PATIENCE):
            await edge.stopped.wait()


async def test_an_application_that_cannot_start_is_no_secret() -> None:
    app = make_app()

    @app.before_serving
    async def fail() -> None:
        raise RuntimeError("no store")

    with pytest.raises(BaseExceptionGroup) as raised:
        async with serving_http(app):
            pytest.fail("it started")
    assert "no store" in repr(raised.value)
