"""Behind a proxy that is trusted, everything that goes by addresses goes by the clients' own."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.conformance.running import FAST, Running, fresh, running
from tests.conformance.talk import PASSWORD, talk

ALICE, BOB = "203.0.113.9", "198.51.100.7"
HOST = "auth.example.org"


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Its proxy is this machine."""
    settings = FAST | {"guests_per_address": 2, "throttle_address_failures": 3, "trusted_proxies": "127.0.0.1"}
    with running(tmp_path_factory.mktemp("proxied"), **settings) as found:
        yield found


def post(service: Running, path: str, client: str, body: object = None, **headers: str) -> httpx.Response:
    """A request as a proxy hands it on that was asked by that client; keywords are further headers."""
    sent = {"X-Forwarded-For": client} | {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.post(f"{service.http}{path}", json=body, headers=sent, trust_env=False)


def opened_from(service: Running, token: str) -> list[str]:
    """The addresses from which the sessions of an account were opened."""
    return [session["address"] for session in service.ask("GET", "/api/sessions", token=token).json()["sessions"]]


def register(service: Running) -> dict[str, str]:
    name = fresh()
    account = {"username": name, "nickname": fresh("nick"), "password": PASSWORD}
    assert service.ask("POST", "/api/register", account).status_code == 201
    return {"identifier": name, "password": PASSWORD}


def test_guests_are_counted_for_each_client(proxied: Running) -> None:
    # What a client writes itself stands left of what the proxy wrote.
    of_alice = [post(proxied, "/api/authenticate", f"192.0.2.{n}, {ALICE}").status_code for n in range(3)]
    assert of_alice == [200, 200, 429]
    assert post(proxied, "/api/authenticate", f"{ALICE}, {BOB}").status_code == 200


def test_failures_are_counted_for_each_client(proxied: Running) -> None:
    credentials = register(proxied)
    wrong = {"identifier": "nobody-at-all", "password": PASSWORD}
    tries = [post(proxied, "/api/session", f"192.0.2.{n}, 203.0.113.77", wrong).status_code for n in range(5)]
    assert tries[:3] == [401, 401, 401]
    assert tries[-1] == 429
    assert post(proxied, "/api/session", "203.0.113.77", credentials).status_code == 429
    assert post(proxied, "/api/session", BOB, credentials).status_code == 201


async def test_a_session_shows_the_clients_address_whichever_listener_it_was_opened_at(proxied: Running) -> None:
    credentials = register(proxied)
    token = post(proxied, "/api/session", "[2001:db8::7]:4711", credentials).json()["token"]
    assert opened_from(proxied, token) == ["2001:db8::7"]
    async with talk(proxied, headers={"X-Forwarded-For": f"192.0.2.1, {ALICE}"}) as connection:
        await connection.log_in(credentials["identifier"])
    assert sorted(opened_from(proxied, token)) == ["2001:db8::7", ALICE]


async def test_nobody_is_believed_who_was_not_named(service: Running) -> None:
    credentials = register(service)
    for header in ({"X_Forwarded_For": ALICE}, {"Forwarded": f"for={ALICE}"}):
        token = post(service, "/api/session", ALICE, credentials, **header).json()["token"]
    async with talk(service, headers={"X-Forwarded-For": ALICE, "Forwarded": f"for={ALICE}"}) as connection:
        await connection.log_in(credentials["identifier"])
    assert opened_from(service, token) == ["127.0.0.1"] * 3


def test_what_the_proxy_cannot_say_is_told_once_in_the_log(proxied: Running) -> None:
    credentials = register(proxied)
    for _ in range(3):
        token = post(proxied, "/api/session", "unknown", credentials).json()["token"]
    assert opened_from(proxied, token) == ["127.0.0.1"] * 3
    assert proxied.log.read_text().count("proxy_not_understood") == 1


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        (f"https://{HOST}", 200),
        (f"http://{HOST}", 403),
        (f"https://{HOST}:8443", 403),
        (f"https://{HOST}.evil.example", 403),
        ("null", 403),
    ],
)
def test_a_page_is_of_our_origin_when_it_has_the_host_and_scheme_that_the_proxy_was_asked_for(
    proxied: Running, origin: str, status: int
) -> None:
    told = {"X_Forwarded_Host": HOST, "X_Forwarded_Proto": "https", "Origin": origin}
    # Each asks from a network of its own: guests are counted.
    client = f"2001:db8:{int(fresh('')):x}::1"
    assert post(proxied, "/api/authenticate", client, **told).status_code == status


def test_forwarded_is_read_where_the_setting_says_so(tmp_path_factory: pytest.TempPathFactory) -> None:
    settings = FAST | {"trusted_proxies": "127.0.0.0/8,::1", "proxy_header": "forwarded"}
    with running(tmp_path_factory.mktemp("forwarded"), **settings) as service:
        credentials = register(service)
        said = f'for="x, for={BOB};proto=https;host={HOST}'
        asked = post(service, "/api/session", ALICE, credentials, Forwarded=said)
        assert opened_from(service, asked.json()["token"]) == [BOB]
        for origin, status in ((f"https://{HOST}", 200), (f"http://{HOST}", 403)):
            headers = {"Forwarded": said, "Origin": origin}
            assert post(service, "/api/authenticate", ALICE, **headers).status_code == status
