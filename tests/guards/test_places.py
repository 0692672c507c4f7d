"""Connections of one address: so many, and no more, and nobody else has fewer for it (CWE-770)."""

from __future__ import annotations

import pytest

from service.address import parse_network
from service.guards import places
from service.guards.places import Places
from service.guards.proxies import Proxies
from tests.guards.edge import Edge, read_all, read_until, serving_http, serving_sockets, upgrade
from tests.guards.test_http_guard import get, make_app
from tests.guards.test_socket_guard import ACCEPTED, echo

PROXY = "10.0.0.1"


def taken(found: Places, *addresses: str) -> list[bool]:
    """Takes a place for each of these addresses, and gives none back before it has asked for the last."""
    if not addresses:
        return []
    with found.place(addresses[0]) as has_place:
        return [has_place, *taken(found, *addresses[1:])]


def places_for(number: int) -> Places:
    return Places(number, lambda address: address == PROXY)


@pytest.mark.parametrize(
    ("addresses", "outcome"),
    [
        (["192.0.2.1"] * 3, [True, True, False]),
        (["192.0.2.1", "192.0.2.2", "192.0.2.1", "192.0.2.2", "192.0.2.1"], [True, True, True, True, False]),
        (["192.0.2.1", "::ffff:192.0.2.1", "192.0.2.1"], [True, True, False]),
        # All that one customer has.
        (["2001:db8::1", "2001:db8::2", "2001:db8:0:0:ffff::"], [True, True, False]),
        (["2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"], [True, True, True]),
        (["127.0.0.1"] * 3 + ["::1"] * 3 + [PROXY] * 3, [True] * 9),
    ],
)
def test_an_address_has_so_many_places_and_no_more(addresses: list[str], outcome: list[bool]) -> None:
    found = places_for(2)
    assert taken(found, *addresses) == outcome
    # All were given back.
    assert taken(found, *addresses) == outcome
    assert found._taken == {}


def test_a_place_is_given_back_by_whoever_fails() -> None:
    found = places_for(1)

    def fail() -> None:
        with found.place("192.0.2.1") as has_place:
            assert has_place
            raise LookupError

    for _ in range(2):
        with pytest.raises(LookupError):
            fail()


async def keep_http(edge: Edge) -> None:
    """A connection that stays, and one more, which is turned away."""
    async with await edge.connect() as first:
        await first.send_all(get())
        await read_until(first, b'{"hello":"world"}\n')
        async with await edge.connect() as second:
            assert (await read_all(second)).startswith(b"HTTP/1.1 503")
        assert edge.refused == ["full_for_address"]
    await edge.until_open(0)
    assert await edge.is_answering()


@pytest.fixture
def far_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients of the loopback address are taken for clients from elsewhere."""
    monkeypatch.setattr(places, "is_loopback", lambda _: False)


@pytest.mark.usefixtures("far_away")
async def test_one_connection_too_many_of_an_address_is_told_so_over_http() -> None:
    async with serving_http(make_app(), connections_per_address=1) as edge:
        await keep_http(edge)


@pytest.mark.usefixtures("far_away")
async def test_one_connection_too_many_of_an_address_is_told_so_on_sockets() -> None:
    async with serving_sockets(echo, connections_per_address=1) as edge:
        async with await edge.connect() as first:
            await first.send_all(upgrade())
            await read_until(first, b"\r\n\r\n")
            async with await edge.connect() as second:
                assert (await read_all(second)).startswith(b"HTTP/1.1 503")
            assert edge.refused == ["full_for_address"]
        await edge.until_open(0)
        async with await edge.connect() as third:
            await third.send_all(upgrade())
            assert (await read_until(third, b"\r\n\r\n")).startswith(ACCEPTED)


async def test_this_machine_has_as_many_as_there_are() -> None:
    async with serving_http(make_app(), connections_per_address=1) as edge, await edge.connect():
        assert await edge.is_answering()


@pytest.mark.usefixtures("far_away")
async def test_clients_behind_a_proxy_have_their_own_on_sockets_and_the_proxy_has_all() -> None:
    proxies = Proxies((parse_network("127.0.0.1"),))
    async with serving_sockets(echo, proxies=proxies, connections_per_address=1) as edge:
        async with await edge.connect() as first, await edge.connect() as other, await edge.connect() as unknown:
            for stream, client in ((first, b"192.0.2.1"), (other, b"192.0.2.2"), (unknown, b"")):
                await stream.send_all(upgrade(X_Forwarded_For=client))
                assert (await read_until(stream, b"\r\n\r\n")).startswith(ACCEPTED)
            answer = await edge.tell(upgrade(X_Forwarded_For=b"192.0.2.9, 192.0.2.1"))
            assert answer.startswith(b"HTTP/1.1 503 ")
            assert b"retry-after: 5" in answer.lower()
            assert edge.refused == ["full_for_address"]
        await edge.until_open(0)
        async with await edge.connect() as again:
            await again.send_all(upgrade(X_Forwarded_For=b"192.0.2.1"))
            assert (await read_until(again, b"\r\n\r\n")).startswith(ACCEPTED)
        assert edge.failures == []


@pytest.mark.usefixtures("far_away")
async def test_a_proxys_connections_over_http_are_not_counted() -> None:
    proxies = Proxies((parse_network("127.0.0.1"),))
    async with serving_http(make_app(), proxies=proxies, connections_per_address=1) as edge, await edge.connect():
        assert await edge.is_answering()
