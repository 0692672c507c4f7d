"""Listening: an address that can be had is had, and one that cannot is explained in a sentence."""

from __future__ import annotations

import logging
import socket
from importlib.metadata import version

import pytest
import trio

from service.guards import TESTED_VERSIONS, HTTPLimits, ListenError, bind_tcp, bound_address, untested_versions
from service.guards.hypercorn import serve_http
from service.guards.reporting import describe
from tests.guards.edge import read_all, serving_http, serving_sockets
from tests.guards.test_http_guard import make_app
from tests.guards.test_socket_guard import echo


def test_port_0_takes_a_free_one_that_can_be_asked() -> None:
    (sock,) = bind_tcp("127.0.0.1", 0)
    with sock:
        host, port = sock.getsockname()
        assert port != 0
        assert bound_address(sock) == f"{host}:{port}" == f"127.0.0.1:{port}"
        socket.create_connection((host, port)).close()


def test_all_addresses_of_a_name_get_one_port(monkeypatch: pytest.MonkeyPatch) -> None:
    two = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, 0)) for host in ("127.0.0.1", "127.0.0.2")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: two)
    bound = bind_tcp("somewhere", 0)
    try:
        assert [sock.getsockname()[0] for sock in bound] == ["127.0.0.1", "127.0.0.2"]
        assert len({sock.getsockname()[1] for sock in bound}) == 1
    finally:
        for sock in bound:
            sock.close()


def test_a_name_with_one_address_that_works_is_good_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, 0)) for host in ("192.0.2.1", "127.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    (sock,) = bind_tcp("somewhere", 0)
    with sock:
        assert sock.getsockname()[0] == "127.0.0.1"


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="this system knows no such option")
def test_a_peer_that_vanished_is_given_up() -> None:
    (sock,) = bind_tcp("127.0.0.1", 0)
    with sock, socket.create_connection(sock.getsockname()):
        accepted, _ = sock.accept()
        with accepted:
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 60
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 120_000


def test_a_port_in_use_is_refused() -> None:
    (sock,) = bind_tcp("127.0.0.1", 0)
    with sock:
        port = sock.getsockname()[1]
        with pytest.raises(ListenError) as raised:
            bind_tcp("127.0.0.1", port)
        reason = "another program is using it; stop that one or choose another port"
        assert str(raised.value) == f"Cannot listen on 127.0.0.1:{port}: {reason}."


@pytest.mark.parametrize(
    ("host", "port", "reason"),
    [
        ("192.0.2.1", 0, "this machine has no such address"),
        ("x" * 70, 0, "the host name cannot be resolved"),
        ("127.0.0.1", 65_536, "a port is a number from 0 to 65535"),
        ("127.0.0.1", -1, "a port is a number from 0 to 65535"),
    ],
)
def test_an_impossible_address_is_refused(host: str, port: int, reason: str) -> None:
    with pytest.raises(ListenError) as raised:
        bind_tcp(host, port)
    assert raised.value.reason == reason


def test_a_forbidden_port_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbid(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", forbid)
    with pytest.raises(ListenError, match="ports below 1024 need privileges"):
        bind_tcp("127.0.0.1", 80)


async def test_when_cancelled_both_servers_let_go_of_their_ports_at_once() -> None:
    for serving in (serving_http(make_app()), serving_sockets(echo)):
        async with serving as edge:
            stream = await edge.connect()
            await edge.until_open(1)
        # The server closed first, so its end of the connection still holds the address for a while.
        assert await read_all(stream) == b""
        await stream.aclose()
        (again,) = bind_tcp("127.0.0.1", edge.port)
        again.close()


async def test_hooks_need_not_be_given() -> None:
    sockets = bind_tcp("127.0.0.1", 0)
    address = sockets[0].getsockname()
    stopping = trio.Event()
    async with trio.open_nursery() as nursery:

        async def run(task_status: trio.TaskStatus[None]) -> None:
            limits = HTTPLimits(connections=0)
            await serve_http(make_app(), sockets=sockets, stopping=stopping, limits=limits, task_status=task_status)

        await nursery.start(run)
        async with await trio.open_tcp_stream(*address) as stream:
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 503")
        stopping.set()


def test_the_versions_that_are_locked_are_those_that_were_tested() -> None:
    assert untested_versions() == []


def test_an_untested_version_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TESTED_VERSIONS, "h11", "0.0")
    monkeypatch.setitem(TESTED_VERSIONS, "no-such-distribution", "1.0")
    assert untested_versions() == [
        f"h11 {version('h11')} is installed; the guards were tested with 0.0.",
        "no-such-distribution is not installed; the guards were tested with 1.0.",
    ]


def test_an_error_is_described_without_what_it_says() -> None:
    try:
        b"secret\xff".decode("ascii")
    except UnicodeDecodeError as error:
        described = describe(ExceptionGroup("outer", [error, OSError()]))
    assert described.startswith("UnicodeDecodeError at test_listening.py:")
    assert "secret" not in described
    assert describe(OSError("secret")) == "OSError"


def test_hypercorn_keeps_no_logger_of_its_own() -> None:
    assert not logging.getLogger("hypercorn.error").handlers
    assert not logging.getLogger("hypercorn.access").handlers
