"""Trusted proxies: whom they say that they ask for is believed, and nobody else is (ASVS 5.0: 4.1.3, 15.3.4)."""

from __future__ import annotations

import re

import pytest
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from quart import request
from quart_trio import QuartTrio
from structlog.testing import capture_logs

from service.address import Network, ProxyHeader, parse_network
from service.guards.proxies import COMPLAINT_SECONDS, LONGEST_ENTRY, MOST_HOPS, Peers, Proxies, Seen
from service.guards.reporting import Hooks
from service.guards.trio_websocket import SocketRequest
from tests.guards.edge import serving_http, serving_sockets, upgrade

PEER = "10.0.0.1"
CLIENT = "203.0.113.9"
NETWORKS = tuple(map(parse_network, ("10.0.0.0/24", "2001:db8:aaaa::/48")))
XFF = Proxies(NETWORKS)
RFC = Proxies(NETWORKS, "forwarded")


def x(*lines: str, **others: str) -> list[tuple[bytes, bytes]]:
    """Headers with these lines of X-Forwarded-For; keywords are `X-Forwarded-…` headers."""
    more = [(f"x-forwarded-{name}".encode(), value.encode()) for name, value in others.items()]
    return [(b"host", b"inside"), *((b"x-forwarded-for", line.encode("latin-1")) for line in lines), *more]


def f(*lines: str) -> list[tuple[bytes, bytes]]:
    return [(b"host", b"inside"), *((b"forwarded", line.encode("latin-1")) for line in lines)]


@pytest.mark.parametrize(
    ("lines", "address"),
    [
        ((CLIENT,), CLIENT),
        ((f"{CLIENT}:4711",), CLIENT),
        (("2001:db8::7",), "2001:db8::7"),
        (("2001:DB8:0:0::7",), "2001:db8::7"),
        (("[2001:db8::7]",), "2001:db8::7"),
        (("[2001:db8::7]:4711",), "2001:db8::7"),
        (("::ffff:203.0.113.9",), CLIENT),
        ((f" \t{CLIENT}\t ",), CLIENT),
        # What stands left of the client is the client's own.
        ((f"198.51.100.1, {CLIENT}",), CLIENT),
        ((f"127.0.0.1, 10.0.0.7, {CLIENT}",), CLIENT),
        (("198.51.100.1", CLIENT), CLIENT),
        ((f'<script>\x00\xff";=, ,,[, {CLIENT}',), CLIENT),
        ((f"unknown, _x, {CLIENT}",), CLIENT),
        ((f"{'1.2.3.4, ' * 500}{CLIENT}",), CLIENT),
        ((f"{'x' * 5_000}, {CLIENT}",), CLIENT),
        # A chain of proxies: the rightmost that is none of ours.
        ((f"{CLIENT}, 10.0.0.7",), CLIENT),
        ((f"198.51.100.1, {CLIENT}, 10.0.0.7, 10.0.0.8",), CLIENT),
        ((f"198.51.100.1, {CLIENT}", "10.0.0.7", "10.0.0.8:99"), CLIENT),
        ((f"198.51.100.1, {CLIENT}, 2001:db8:aaaa::1",), CLIENT),
        (("10.0.0.99, 198.51.100.1, 10.0.0.7",), "198.51.100.1"),
        (("198.51.100.1, 10.0.1.7, 10.0.0.7",), "10.0.1.7"),
        # Nobody else in it: a proxy asked for itself, and the first of them is who asks.
        (("10.0.0.9, 10.0.0.8",), "10.0.0.9"),
        ((), PEER),
    ],
)
def test_the_rightmost_hop_that_is_no_proxy_of_ours_is_the_client(lines: tuple[str, ...], address: str) -> None:
    assert XFF.seen(PEER, x(*lines)) == Seen(address)


@pytest.mark.parametrize(
    ("lines", "address"),
    [
        ((f"for={CLIENT}",), CLIENT),
        ((f"For={CLIENT};Proto=http;By=10.0.0.1",), CLIENT),
        ((f'for="{CLIENT}:4711"',), CLIENT),
        ((f"for={CLIENT}:4711",), CLIENT),
        (('for="[2001:db8::7]"',), "2001:db8::7"),
        (('for="[2001:db8::7]:4711"',), "2001:db8::7"),
        (('for="[2001:db8::7]:_port"',), "2001:db8::7"),
        ((f"proto=http ; for={CLIENT} ; by=_inside",), CLIENT),
        ((f"for={CLIENT};",), CLIENT),
        ((f"for=198.51.100.1, for={CLIENT}",), CLIENT),
        ((f"for=198.51.100.1;by=10.0.0.7, for={CLIENT}, for=10.0.0.8",), CLIENT),
        (("for=198.51.100.1", f"for={CLIENT}", 'for="10.0.0.8:1"'), CLIENT),
        ((f"for=_hidden, for=unknown, for={CLIENT}",), CLIENT),
        # Quotation marks that the client left open swallow nothing of what the proxy wrote.
        ((f'for=", for={CLIENT}',), CLIENT),
        (('for="x, for="[2001:db8::7]:1"',), "2001:db8::7"),
        ((f'for="x\\, for={CLIENT}',), CLIENT),
        ((f'"";"", "\\", for={CLIENT}',), CLIENT),
        ((f'for="198.51.100.1, for=10.0.0.7", for={CLIENT}',), CLIENT),
        ((f'for={CLIENT};by="a, for=198.51.100.1", for=10.0.0.7',), CLIENT),
        (('for="', f"for={CLIENT}"), CLIENT),
        ((), PEER),
    ],
)
def test_forwarded_is_read_as_its_specification_has_it(lines: tuple[str, ...], address: str) -> None:
    seen = RFC.seen(PEER, f(*lines))
    assert (seen.address, seen.fault) == (address, None)


@pytest.mark.parametrize(
    ("headers", "fault"),
    [
        (x(""), "malformed"),
        (x(f"{CLIENT}, "), "malformed"),
        (x(f"{CLIENT} 10.0.0.7"), "malformed"),
        (x("999.1.1.1"), "malformed"),
        (x("01.2.3.4"), "malformed"),
        (x("1.2.3"), "malformed"),
        (x("fe80::1%eth0"), "malformed"),
        (x("[2001:db8::7"), "malformed"),
        (x("2001:db8::7]"), "malformed"),
        (x(f"{CLIENT}:http"), "malformed"),
        (x(f"{CLIENT}:4711:1"), "malformed"),
        (x("localhost"), "malformed"),
        (x("\xff\x00"), "malformed"),
        (x(CLIENT, "nonsense"), "malformed"),
        (x(f"{CLIENT}, nonsense, 10.0.0.7"), "malformed"),
        (x("unknown"), "hidden"),
        (x("_gazonk"), "hidden"),
        (x(f"{CLIENT}, unknown, 10.0.0.7"), "hidden"),
        (x("1" * (LONGEST_ENTRY + 1)), "too_long"),
        (x(", ".join(["10.0.0.7"] * (MOST_HOPS + 1))), "too_long"),
        (x(*["10.0.0.7"] * (MOST_HOPS + 1)), "too_long"),
        (f(""), "hidden"),
        (f("proto=https"), "hidden"),
        (f("for=unknown"), "hidden"),
        (f("for=UNKNOWN"), "hidden"),
        (f('for="_SEVKISEK"'), "hidden"),
        (f(CLIENT), "malformed"),
        (f(f"for={CLIENT};for=198.51.100.1"), "malformed"),
        (f(f"for = {CLIENT}"), "malformed"),
        (f(f'for="{CLIENT}'), "malformed"),
        (f(f'for="{CLIENT}\\""'), "malformed"),
        (f(f'for="{CLIENT}"x'), "malformed"),
        (f('for="2001:db8::7]"'), "malformed"),
        (f("for=[2001:db8::7"), "malformed"),
        (f(f"for={CLIENT};by={'x' * LONGEST_ENTRY}"), "too_long"),
        (f(f'for={CLIENT};by="{"x," * LONGEST_ENTRY}"'), "too_long"),
        (f(", ".join(["for=10.0.0.7"] * (MOST_HOPS + 1))), "too_long"),
    ],
)
def test_a_proxy_that_does_not_say_who_asks_is_taken_for_the_client(
    headers: list[tuple[bytes, bytes]], fault: str
) -> None:
    proxies = RFC if any(name == b"forwarded" for name, _ in headers) else XFF
    assert proxies.seen(PEER, headers) == Seen(PEER, fault=fault)  # type: ignore[arg-type]  # a word of the table's


def test_the_other_header_is_never_read() -> None:
    both = [*x("198.51.100.1"), *f(f"for={CLIENT};proto=https;host=a.example")]
    assert XFF.seen(PEER, both) == Seen("198.51.100.1")
    assert RFC.seen(PEER, [*both, *x(host="b.example", proto="http")]) == Seen(CLIENT, b"a.example", secure=True)
    assert XFF.seen(PEER, f(f"for={CLIENT}")) == Seen(PEER)
    assert RFC.seen(PEER, x(CLIENT)) == Seen(PEER)


@pytest.mark.parametrize(
    ("headers", "host", "secure"),
    [
        (x(CLIENT, host="auth.example.org", proto="https"), b"auth.example.org", True),
        (x(CLIENT, host="auth.example.org:8443", proto="HTTPS"), b"auth.example.org:8443", True),
        (x(CLIENT, host="auth.example.org:443", proto="https"), b"auth.example.org", True),
        (x(CLIENT, host="auth.example.org:443", proto="http"), b"auth.example.org:443", False),
        (x(CLIENT, host="auth.example.org:80", proto="http"), b"auth.example.org", False),
        (x(CLIENT, host="[2001:db8::7]:8443", proto="wss"), b"[2001:db8::7]:8443", True),
        (x(CLIENT, host="auth.example.org", proto="ws"), b"auth.example.org", False),
        (x(CLIENT, host="auth.example.org"), b"auth.example.org", None),
        (x(CLIENT, proto="https"), None, True),
        # One proxy that adds to what the client sent; two that add; two, of which one wrote it.
        (x(CLIENT, host="evil.example, auth.example.org", proto="https"), b"auth.example.org", True),
        (x(f"{CLIENT}, 10.0.0.7", host="auth.example.org, inside", proto="https, http"), b"auth.example.org", True),
        (x(f"{CLIENT}, 10.0.0.7", host="evil.example, auth.example.org, inside"), b"auth.example.org", None),
        (x(f"{CLIENT}, 10.0.0.7", host="auth.example.org", proto="https"), b"auth.example.org", True),
        # What is no host or no scheme is not told to anybody, and nobody else suffers from it.
        (x(CLIENT, host="", proto=""), None, None),
        (x(CLIENT, host="a b", proto="gopher"), None, None),
        (x(CLIENT, host="auth.example.org/x", proto="https"), None, True),
        (x(CLIENT, host="user@auth.example.org"), None, None),
        (x(CLIENT, host="\x00" + "x" * 300), None, None),
        (f(f"for={CLIENT};host=auth.example.org;proto=https"), b"auth.example.org", True),
        (f(f'for={CLIENT};host="auth.example.org:8443";proto=https'), b"auth.example.org:8443", True),
        (f(f"for={CLIENT};proto=https;host=a.example, for=10.0.0.7;proto=http;host=inside"), b"a.example", True),
        (f(f"for=198.51.100.1;host=evil.example, for={CLIENT};proto=https"), None, True),
        (f(f'for={CLIENT};host="a b"'), None, None),
    ],
)
def test_the_same_proxy_says_for_which_host_and_scheme(
    headers: list[tuple[bytes, bytes]], host: bytes | None, secure: bool | None
) -> None:
    proxies = RFC if any(name == b"forwarded" for name, _ in headers) else XFF
    assert proxies.seen(PEER, headers) == Seen(CLIENT, host, secure)


@pytest.mark.parametrize(
    ("address", "trusted"),
    [
        ("10.0.0.1", True),
        ("10.0.1.1", False),
        ("::ffff:10.0.0.1", True),
        ("2001:db8:aaaa::1", True),
        ("2001:db8:aaab::1", False),
        ("fe80::1%eth0", False),
        ("", False),
        ("somewhere", False),
    ],
)
def test_who_is_a_proxy(address: str, trusted: bool) -> None:
    assert XFF.trusts(address) is trusted
    assert not Proxies().trusts(address)


@pytest.mark.parametrize("text", ["0.0.0.0/0", "::/0", "10.0.0.1/8", "10.0.0", "10.0.0.0/33", "proxy.example", "", "*"])
def test_what_names_no_proxy(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_network(text)


CLIENTS_INVENTION: SearchStrategy[str] = st.text(st.characters(codec="latin-1", exclude_characters="\r\n\x00"))


@given(CLIENTS_INVENTION, st.lists(st.sampled_from(["10.0.0.7", "10.0.0.8", "2001:db8:aaaa::1"]), max_size=5))
def test_nothing_that_a_client_sends_changes_who_it_is(invented: str, chain: list[str]) -> None:
    """Each proxy adds to the line that is there; whatever that was, the client is whom the first of them saw."""
    assert XFF.seen(PEER, x(", ".join([invented, CLIENT, *chain]))) == Seen(CLIENT)
    elements = [f'for="[{one}]"' if ":" in one else f"for={one}" for one in (CLIENT, *chain)]
    assert RFC.seen(PEER, f(", ".join([invented, *elements]))) == Seen(CLIENT)
    assert RFC.seen(PEER, f(invented, ", ".join(elements))) == Seen(CLIENT)


@given(CLIENTS_INVENTION)
def test_any_header_whatever_is_read_or_refused(line: str) -> None:
    for proxies, headers in ((XFF, x(line)), (RFC, f(line))):
        seen = proxies.seen(PEER, headers)
        assert seen.fault is None or seen == Seen(PEER, fault=seen.fault)


def test_a_proxy_that_is_not_understood_is_counted_each_time_and_told_of_once_a_minute(
    autojump_clock: trio.testing.MockClock,
) -> None:
    counted: list[str] = []
    peers = Peers(XFF, Hooks(unforwarded=counted.append))

    async def ask() -> list[str]:
        with capture_logs() as lines:
            for header in ("unknown", "nonsense secret", "unknown", CLIENT):
                peers.seen(PEER, x(header))
            await trio.sleep(COMPLAINT_SECONDS)
            peers.seen(PEER, x("nonsense secret"))
        return [f"{line['event']} {line['proxy']} {line['reason']}" for line in lines]

    assert trio.run(ask, clock=autojump_clock) == [f"proxy_not_understood {PEER} {w}" for w in ("hidden", "malformed")]
    assert counted == ["hidden", "malformed", "hidden", "malformed"]


def telling_who_asks() -> QuartTrio:
    """Tells the client what an application sees of it."""
    app = QuartTrio("little")

    @app.get("/")
    async def who_asks() -> str:
        return f"{request.remote_addr} {request.scheme} {request.headers['Host']}"

    return app


async def tell_who_asks(asked: SocketRequest) -> None:
    connection = await asked.accept()
    await connection.send(f"{connection.client} {'https' if asked.secure else 'http'} {asked.host}")
    assert connection.client == asked.client


LOOPBACK = (parse_network("127.0.0.1"),)


@pytest.mark.parametrize(
    ("networks", "header", "sent", "seen"),
    [
        (LOOPBACK, "x-forwarded-for", (f"X-Forwarded-For: 198.51.100.1, {CLIENT}",), f"{CLIENT} http outside"),
        (
            LOOPBACK,
            "x-forwarded-for",
            (f"X-FORWARDED-FOR: {CLIENT}", "X-Forwarded-Proto: https", "X-Forwarded-Host: auth.example.org"),
            f"{CLIENT} https auth.example.org",
        ),
        (
            LOOPBACK,
            "forwarded",
            ("Forwarded: for=198.51.100.1", f"Forwarded: for={CLIENT};proto=https;host=auth.example.org"),
            f"{CLIENT} https auth.example.org",
        ),
        (LOOPBACK, "forwarded", (f"X-Forwarded-For: {CLIENT}",), "127.0.0.1 http outside"),
        (LOOPBACK, "x-forwarded-for", ("X-Forwarded-For: nonsense",), "127.0.0.1 http outside"),
        (LOOPBACK, "x-forwarded-for", (), "127.0.0.1 http outside"),
        # Nobody is believed by default, and nobody but those who are named.
        ((), "x-forwarded-for", (f"X-Forwarded-For: {CLIENT}", "X-Forwarded-Proto: https"), "127.0.0.1 http outside"),
        ((), "forwarded", (f"Forwarded: for={CLIENT};proto=https",), "127.0.0.1 http outside"),
        (NETWORKS, "x-forwarded-for", (f"X-Forwarded-For: {CLIENT}",), "127.0.0.1 http outside"),
        ((), "x-forwarded-for", ("X-Forwarded-For: nonsense",), "127.0.0.1 http outside"),
    ],
)
async def test_both_listeners_see_the_same_client(
    networks: tuple[Network, ...], header: ProxyHeader, sent: tuple[str, ...], seen: str
) -> None:
    proxies = Proxies(networks, header)
    lines = "".join(f"{line}\r\n" for line in sent)
    async with serving_http(telling_who_asks(), proxies=proxies) as edge:
        get = f"GET / HTTP/1.1\r\nhost: outside\r\n{lines}connection: close\r\n\r\n"
        assert (await edge.tell(get.encode())).partition(b"\r\n\r\n")[2].decode() == seen
        told = edge.unforwarded
    async with serving_sockets(tell_who_asks, proxies=proxies, close_seconds=0.1) as edge:
        asked = upgrade(Host=b"outside").replace(b"\r\n\r\n", b"\r\n" + lines.encode() + b"\r\n")
        said = re.search(rb"\r\n\r\n\x81.(.*)\x88", await edge.tell(asked), re.DOTALL)
        assert said is not None
        assert said[1].decode() == seen
        assert edge.unforwarded == told == (["malformed"] if networks == LOOPBACK and "nonsense" in lines else [])


async def test_each_request_of_a_proxys_connection_has_a_client_of_its_own() -> None:
    async with serving_http(telling_who_asks(), proxies=Proxies(LOOPBACK)) as edge:
        one = "GET / HTTP/1.1\r\nhost: x\r\nx-forwarded-for: {}\r\n\r\n"
        last = "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
        answer = await edge.tell((one.format("192.0.2.1") + one.format("192.0.2.2") + last).encode())
        assert re.findall(rb"(\S+) http x", answer) == [b"192.0.2.1", b"192.0.2.2", b"127.0.0.1"]
