"""TLS on both listeners: what is spoken and what is not, who breaks it, and which files are no good."""

from __future__ import annotations

import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeAlias

import pytest
import trio
from structlog.testing import capture_logs

from service.guards.proxies import Proxies
from service.guards.tls import Certificate, TLSError
from service.guards.trio_websocket import SocketRequest
from tests.certificates import Authority
from tests.guards.edge import (
    PATIENCE,
    Edge,
    closing_code,
    frame,
    read_all,
    read_until,
    serving_http,
    serving_sockets,
    upgrade,
)  # fmt: skip
from tests.guards.test_http_guard import get, make_app, post
from tests.guards.test_proxies import LOOPBACK, telling_who_asks
from tests.guards.test_socket_guard import ACCEPTED, TEXT, echo

CLOSE = 8
Client: TypeAlias = trio.SSLStream[trio.SocketStream]


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def certificate(authority: Authority, tmp_path: Path) -> Certificate:
    return Certificate(*authority.issue(tmp_path))


@asynccontextmanager
async def client(
    edge: Edge, context: ssl.SSLContext, *, polite: bool = True
) -> AsyncIterator[trio.SSLStream[trio.SocketStream]]:
    """A client under TLS; a polite one takes an end without a goodbye for an error."""
    raw = await edge.connect()
    stream = trio.SSLStream(raw, context, server_hostname="localhost", https_compatible=not polite)
    try:
        yield stream
    finally:
        await trio.aclose_forcefully(stream)


async def told(edge: Edge, context: ssl.SSLContext, data: bytes) -> bytes:
    """Sends some bytes under TLS; everything that comes back until the server says goodbye."""
    async with client(edge, context) as stream:
        await stream.send_all(data)
        return await read_all(stream)


async def test_http_is_served_under_tls(authority: Authority, certificate: Certificate) -> None:
    trusting = authority.trusting()
    async with serving_http(telling_who_asks(), tls=certificate, hsts_seconds=31_536_000) as edge:
        answer = await told(edge, trusting, get("/", "connection: close"))
        assert answer.startswith(b"HTTP/1.1 200")
        assert answer.endswith(b"127.0.0.1 https x")
        assert b"strict-transport-security: max-age=31536000\r\n" in answer.lower()
        assert (
            b"strict-transport-security: max-age=31536000\r\n"
            in (await told(edge, trusting, b"GARBAGE\r\n\r\n")).lower()
        )
        await edge.until_open(0)
        assert edge.failures == []


async def test_hsts_is_not_said_without_tls_or_where_it_is_off(authority: Authority, certificate: Certificate) -> None:
    async with serving_http(make_app(), hsts_seconds=100) as edge:
        assert b"strict-transport" not in (await edge.tell(get("/", "connection: close"))).lower()
    async with serving_http(make_app(), tls=certificate) as edge:
        assert (
            b"strict-transport" not in (await told(edge, authority.trusting(), get("/", "connection: close"))).lower()
        )


async def test_sockets_are_served_under_tls(authority: Authority, certificate: Certificate) -> None:
    async with serving_sockets(echo, tls=certificate, ping_seconds=0.1) as edge:
        async with client(edge, authority.trusting()) as stream:
            await stream.send_all(upgrade())
            assert (await read_until(stream, b"\r\n\r\n")).startswith(ACCEPTED)
            await stream.send_all(frame(TEXT, b"x" * 60_000))
            await read_until(stream, b"x" * 60_000)
            await read_until(stream, b"\x89\x00")
            await stream.send_all(frame(CLOSE, b"\x03\xe8"))
            assert await read_all(stream) == b"\x88\x02\x03\xe8"
        assert (await told(edge, authority.trusting(), b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")).startswith(b"HTTP/1.1 4")
        await edge.until_open(0)
        assert edge.failures == []


async def test_sockets_know_that_they_are_secure(authority: Authority, certificate: Certificate) -> None:
    async def tell(asked: SocketRequest) -> None:
        connection = await asked.accept()
        await connection.send("secure" if asked.secure else "plain")

    said = upgrade(X_Forwarded_For=b"192.0.2.1", X_Forwarded_Proto=b"http")
    for proxies, answer in ((Proxies(), b"secure"), (Proxies(LOOPBACK), b"plain")):
        async with serving_sockets(tell, tls=certificate, proxies=proxies, close_seconds=0.1) as edge:
            assert answer in await told(edge, authority.trusting(), said)


@pytest.mark.parametrize(
    ("oldest", "newest"), [(ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_2), (ssl.TLSVersion.TLSv1_3,) * 2]
)
async def test_what_is_spoken(
    authority: Authority, certificate: Certificate, oldest: ssl.TLSVersion, newest: ssl.TLSVersion
) -> None:
    context = authority.trusting()
    context.minimum_version, context.maximum_version = oldest, newest
    context.set_alpn_protocols(["h2", "http/1.1"])
    async with serving_http(make_app(), tls=certificate) as edge, client(edge, context) as stream:
        await stream.do_handshake()
        assert stream.selected_alpn_protocol() == "http/1.1"
        assert stream.version() == newest.name.replace("_", ".")
        await stream.send_all(get("/", "connection: close"))
        assert (await read_all(stream)).startswith(b"HTTP/1.1 200")


async def test_what_is_older_is_not_spoken(authority: Authority, certificate: Certificate) -> None:
    """CWE-326; ASVS 5.0: 12.1.1."""
    context = authority.trusting()
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    async with serving_http(make_app(), tls=certificate) as edge, client(edge, context) as stream:
        with pytest.raises(trio.BrokenResourceError):
            await stream.do_handshake()
        await edge.until_open(0)
        assert edge.refused == ["handshake"]
        assert edge.failures == []


HELLOS = {
    "plain HTTP": get(),
    "an upgrade": upgrade(),
    "nothing": b"",
    "garbage": bytes(range(256)) * 100,
    "a record that claims to be enormous": b"\x16\x03\x01\xff\xff" + b"x" * 70_000,
    "half a record": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "an alert": b"\x15\x03\x03\x00\x02\x02\x28",
    "a heartbeat": b"\x18\x03\x03\x00\x03\x01\x40\x00",
    "SSL 2": b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10" + bytes(40),
}


@pytest.mark.parametrize("sent", HELLOS.values(), ids=HELLOS.keys())
async def test_what_is_no_handshake_ends_its_own_connection(
    authority: Authority, certificate: Certificate, sent: bytes
) -> None:
    async with serving_http(make_app(), tls=certificate, head_seconds=0.2) as edge:
        assert b"HTTP/1.1" not in await edge.tell(sent)
        await edge.until_open(0)
        assert edge.refused == ["handshake"]
        assert (await told(edge, authority.trusting(), get("/", "connection: close"))).startswith(b"HTTP/1.1 200")
        assert edge.failures == []
    async with serving_sockets(echo, tls=certificate, handshake_seconds=0.2) as edge:
        assert b"HTTP/1.1" not in await edge.tell(sent)
        await edge.until_open(0)
        assert b"101" in (await told_until_open(edge, authority.trusting()))
        assert edge.failures == []


async def told_until_open(edge: Edge, context: ssl.SSLContext) -> bytes:
    async with client(edge, context) as stream:
        await stream.send_all(upgrade())
        return await read_until(stream, b"\r\n\r\n")


async def test_a_slow_handshake_is_cut_and_holds_up_nobody(authority: Authority, certificate: Certificate) -> None:
    """CWE-400."""
    trusting = authority.trusting()
    async with serving_http(make_app(), tls=certificate, head_seconds=0.3) as edge, await edge.connect() as slow:
        await slow.send_all(HELLOS["half a record"])
        assert (await told(edge, trusting, get("/", "connection: close"))).startswith(b"HTTP/1.1 200")
        assert await read_all(slow) == b""
        assert edge.refused == ["handshake"]


async def test_a_refusal_reaches_a_client_that_is_still_sending(authority: Authority, certificate: Certificate) -> None:
    sent = post(b"", "content-length: 10000000")
    async with serving_http(make_app(), tls=certificate) as edge, client(edge, authority.trusting()) as stream:
        await stream.send_all(sent)
        answer = await read_until(stream, b"}}")
        assert answer.startswith(b"HTTP/1.1 413")
        for _ in range(20):
            await stream.send_all(b"y" * 10_000)
        assert await read_all(stream) == b""
        assert edge.failures == []


async def test_what_follows_the_last_answer_is_read_and_dropped(authority: Authority, certificate: Certificate) -> None:
    async with serving_http(make_app(), tls=certificate) as edge, client(edge, authority.trusting()) as stream:
        await stream.send_all(get("/", "connection: close"))
        await read_until(stream, b'{"hello":"world"}\n')
        for _ in range(20):
            await stream.send_all(get())
        assert await read_all(stream) == b""
        await stream.aclose()
        await edge.until_open(0)
        assert edge.failures == []


async def test_a_slow_request_is_told_so_under_tls(authority: Authority, certificate: Certificate) -> None:
    async with serving_http(make_app(), tls=certificate, head_seconds=0.2) as edge:
        assert (await told(edge, authority.trusting(), b"GET / HT")).startswith(b"HTTP/1.1 408")
        assert edge.refused == ["too_slow"]


async def test_a_client_that_does_not_read_is_cut_under_tls(authority: Authority, certificate: Certificate) -> None:
    async with serving_http(make_app(), tls=certificate, write_seconds=0.2) as edge:
        async with client(edge, authority.trusting()) as stream:
            await stream.send_all(get("/big"))
            await edge.until_open(1)
            await edge.until_open(0)
        assert edge.failures == []


async def test_a_stop_reaches_clients_under_tls(authority: Authority, certificate: Certificate) -> None:
    trusting = authority.trusting()
    async with serving_http(make_app(), tls=certificate) as edge, client(edge, trusting, polite=False) as idle:
        await idle.send_all(get())
        await read_until(idle, b'{"hello":"world"}\n')
        edge.stopping.set()
        assert await read_all(idle) == b""
        with trio.fail_after(PATIENCE):
            await edge.stopped.wait()
    async with serving_sockets(echo, tls=certificate, close_seconds=0.2) as edge, client(edge, trusting) as stream:
        await stream.send_all(upgrade())
        await read_until(stream, b"\r\n\r\n")
        edge.stopping.set()
        assert closing_code(b"\r\n\r\n" + await read_until(stream, b"\x03\xe9")) == 1001
        with trio.fail_after(PATIENCE):
            await edge.stopped.wait()


async def test_one_connection_too_many_is_closed_under_tls(authority: Authority, certificate: Certificate) -> None:
    trusting = authority.trusting()
    async with serving_http(make_app(), tls=certificate, connections=1) as edge, client(edge, trusting) as first:
        await first.do_handshake()
        async with client(edge, trusting) as second:
            with pytest.raises(trio.BrokenResourceError):
                await second.do_handshake()
        assert edge.refused == ["full"]


async def test_a_certificate_is_read_anew_for_connections_from_then_on(authority: Authority, tmp_path: Path) -> None:
    paths = authority.issue(tmp_path)
    certificate = Certificate(*paths)
    async with serving_http(make_app(), tls=certificate) as edge:

        async def shown() -> object:
            async with client(edge, authority.trusting()) as stream:
                await stream.do_handshake()
                return stream.getpeercert()["serialNumber"]

        first = await shown()
        async with client(edge, authority.trusting()) as stream:
            await stream.do_handshake()
            authority.issue(tmp_path)
            assert await shown() == first
            certificate.read_anew()
            second = await shown()
            assert second != first
            # Files that are no good change nothing.
            for broken in (b"", b"no key"):
                paths[1].write_bytes(broken)
                with capture_logs() as lines:
                    certificate.read_anew()
                assert [(line["event"], line["log_level"]) for line in lines] == [("certificate_not_read", "error")]
                assert await shown() == second
            await stream.send_all(get("/", "connection: close"))
            assert (await read_all(stream)).startswith(b"HTTP/1.1 200")


def test_files_that_are_no_good_are_refused_in_a_sentence(authority: Authority, tmp_path: Path) -> None:
    certificate, key = authority.issue(tmp_path)
    _, other = authority.issue(tmp_path, name="other")
    _, sealed = authority.issue(tmp_path, name="sealed", password=b"secret")
    empty, missing = tmp_path / "empty", tmp_path / "missing"
    empty.write_bytes(b"")
    empty.chmod(0o600)
    not_its_key = "is not that of the certificate .*, is no key in PEM, or needs a password."
    for files, sentence in (
        ((missing, key), "The TLS certificate .* cannot be read: No such file or directory."),
        ((certificate, missing), "The TLS key .* cannot be read: No such file or directory."),
        ((tmp_path, key), "The TLS certificate .* cannot be read: Is a directory."),
        ((empty, key), "The TLS certificate .* holds no certificate in PEM."),
        ((key, key), "The TLS certificate .* holds no certificate in PEM."),
        ((certificate, empty), not_its_key),
        ((certificate, certificate), "can be read by everybody|" + not_its_key),
        ((certificate, other), not_its_key),
        ((certificate, sealed), not_its_key),
    ):
        with pytest.raises(TLSError) as raised:
            Certificate(*files)
        assert re.search(sentence, str(raised.value)), raised.value
        assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("mode", "good"), [(0o600, True), (0o400, True), (0o640, True), (0o644, False), (0o602, False)]
)
def test_a_key_that_everybody_may_read_is_refused(authority: Authority, tmp_path: Path, mode: int, good: bool) -> None:
    """CWE-732."""
    files = authority.issue(tmp_path)
    files[1].chmod(mode)
    if good:
        Certificate(*files)
    else:
        with pytest.raises(TLSError, match=r"can be read by everybody on this machine; chmod it to 0600\."):
            Certificate(*files)


def test_a_certificate_that_has_ended_is_told_of(authority: Authority, tmp_path: Path) -> None:
    files = authority.issue(tmp_path, days=-1)
    with capture_logs() as lines:
        Certificate(*files)
    assert [line["event"] for line in lines] == ["certificate_expired"]
