"""A device that logged in before is known at the next login, at every door, while the account is under attack."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import httpx
import pytest

from tests.conformance.running import FAST, Running, fresh, running
from tests.conformance.talk import PASSWORD, talk

AUTHENTICATE: Final = "fantaptik/react-auth/authenticate"
COOKIE: Final = "__Host-gatebook-device"
DAY: Final = 86_400


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("devices"), **FAST, device_days=90, throttle_account_failures=3) as found:
        yield found


def device_in(answer: httpx.Response) -> str | None:
    """The device's cookie, every part of it looked at; None where there is none."""
    told = [one for one in answer.headers.get_list("Set-Cookie") if one.startswith(f"{COOKIE}=")]
    if not told:
        return None
    [cookie] = told
    value, *attributes = cookie.split("; ")
    assert sorted(attributes) == ["HttpOnly", f"Max-Age={90 * DAY}", "Path=/", "SameSite=Lax", "Secure"]
    return value.partition("=")[2]


async def post(service: Running, path: str, form: dict[str, str], **headers: str) -> httpx.Response:
    async with httpx.AsyncClient(base_url=service.http, trust_env=False) as client:
        return await client.post(path, data=form, headers=headers)


def cookie_of(device: str | None) -> dict[str, str]:
    return {} if device is None else {"Cookie": f"{COOKIE}={device}"}


async def at_account_api(service: Running, name: str, password: str, device: str | None) -> str | None:
    form = {"identifier": name, "password": password} | ({} if device is None else {"device_key": device})
    answer = service.ask("POST", "/api/session", form)
    return str(answer.json()["device_key"]) if answer.status_code == 201 else None


async def at_react_auth(service: Running, name: str, password: str, device: str | None) -> str | None:
    form = {"type": AUTHENTICATE, "username": name, "password": password}
    answer = await post(service, "/react-auth", form, **cookie_of(device))
    assert answer.json()["success"] is (device_in(answer) is not None)
    return device_in(answer)


async def at_auth_server(service: Running, name: str, password: str, device: str | None) -> str | None:
    guest = service.ask("POST", "/api/authenticate")
    assert device_in(guest) is None, "a guest has not logged in"
    headers = {"Authorization": f"Bearer {guest.json()['at']}"} | cookie_of(device)
    form = {"email": name, "password": password}
    answer = await post(service, "/api/login", form, **headers)
    assert (answer.status_code == 200) is (device_in(answer) is not None)
    return device_in(answer)


async def over_route(service: Running, version: int, name: str, password: str, device: str | None) -> str | None:
    async with talk(service, f"/auth/v{version}") as client:
        answer = await client.call("login", username=name, password=password, device_key=device or "")
    kept: str | None = answer["data"].get("device_key")
    return kept


async def at_route_v1(service: Running, name: str, password: str, device: str | None) -> str | None:
    return await over_route(service, 1, name, password, device)


async def at_route_v2(service: Running, name: str, password: str, device: str | None) -> str | None:
    return await over_route(service, 2, name, password, device)


DOORS: Final[tuple[Any, ...]] = (at_account_api, at_react_auth, at_auth_server, at_route_v1, at_route_v2)


def registered(service: Running) -> str:
    name = fresh("owner")
    form = {"username": name, "nickname": fresh("nick"), "password": PASSWORD}
    assert service.ask("POST", "/api/register", form).status_code == 201
    return name


@pytest.mark.parametrize("door", DOORS)
async def test_the_owner_comes_in_while_the_account_is_attacked(service: Running, door: Any) -> None:
    """ASVS 5.0: 6.1.1, 6.3.1."""
    name = registered(service)
    device = await door(service, name, PASSWORD, None)
    assert device is not None
    # Whatever the last failures were, the account is throttled for seconds from here on.
    for _ in range(3):
        assert await at_account_api(service, name, f"{PASSWORD}!", None) is None
    assert await door(service, name, PASSWORD, None) is None
    for _ in range(2):
        device = await door(service, name, PASSWORD, device)
        assert device is not None
    # A device of one door is one at every other.
    for other in DOORS:
        assert await other(service, name, PASSWORD, device) is not None


async def test_whoever_does_not_ask_for_a_device_is_told_of_none(service: Running) -> None:
    name = registered(service)
    for version in (1, 2):
        async with talk(service, f"/auth/v{version}") as client:
            answer = await client.call("login", username=name, password=PASSWORD)
            assert answer["data"].keys() == {"session_key", "user"}
            again = await client.call("authenticate", session_key=answer["data"]["session_key"])
            assert again["data"].keys() == {"session_key", "user"}


async def test_a_connection_that_holds_a_session_of_the_account_is_known_by_it(service: Running) -> None:
    name = registered(service)
    async with talk(service, "/auth/v2") as holding, talk(service, "/auth/v2") as stranger:
        await holding.log_in(name)
        for _ in range(3):
            assert await at_account_api(service, name, f"{PASSWORD}!", None) is None
        assert (await stranger.call("login", username=name, password=PASSWORD))["data"]["error_code"] == 429
        await holding.log_in(name)


@pytest.mark.parametrize("shown", ["", "nonsense", "x" * 5_000])
async def test_what_is_no_device_is_passed_over(service: Running, shown: str) -> None:
    name = registered(service)
    for door in DOORS:
        assert await door(service, name, PASSWORD, shown) is not None


async def test_two_devices_in_one_request_are_none(service: Running) -> None:
    name = registered(service)
    device = await at_react_auth(service, name, PASSWORD, None)
    for _ in range(3):
        await at_account_api(service, name, f"{PASSWORD}!", None)
    assert await at_react_auth(service, name, PASSWORD, f"{device}; {COOKIE}={device}") is None
    assert await at_react_auth(service, name, PASSWORD, device) is not None
