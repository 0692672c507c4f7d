"""Session fixation: what an attacker planted before a login is never what the login opens, and worth nothing after it.

Planted is all that a client shows: tokens and cookies of a guest, of the attacker's own account, of a session that has
ended, and one of a session that is yet to come, whose number is easily guessed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple

import pytest

from tests.attacks.asking import COOKIE
from tests.attacks.scene import AUTHENTICATE, PASSWORD, SOCKET_RESUME, Person, Scene, cookie_in
from tests.conformance.talk import talk


class Planted(NamedTuple):
    """What the attacker knows."""

    token: str
    cookie: str
    whose: int | None
    """The account that it shows."""


class Opened(NamedTuple):
    """What the victim got."""

    token: str
    cookie: str | None = None


def of_a_guest(scene: Scene) -> Planted:
    token = scene.guest()
    return Planted(token, scene.cookie(token), None)


def of_the_attacker(scene: Scene) -> Planted:
    mallory = scene.person()
    return Planted(mallory.token, scene.cookie(mallory.token), mallory.id)


def of_what_has_ended(scene: Scene) -> Planted:
    token = scene.person().token
    cookie = scene.cookie(token)
    assert scene.ask("DELETE", "/api/session", token=token).status_code == 204
    return Planted(token, cookie, None)


def of_what_is_to_come(scene: Scene) -> Planted:
    return Planted(f"{scene.head + 1}|{'A' * 40}", "A" * 228, None)


PLANTS: Final = (of_a_guest, of_the_attacker, of_what_has_ended, of_what_is_to_come)


def shown(planted: Planted) -> dict[str, str]:
    """Headers in which a browser shows all of it."""
    return {"Authorization": f"Bearer {planted.token}", "Cookie": f"{COOKIE}={planted.cookie}"}


def named(planted: Planted) -> dict[str, str]:
    """Fields in which a careless service would take it for the session."""
    names = ("at", "token", "session", "session_key", "session_id", "sid", "PHPSESSID", "JSESSIONID", COOKIE)
    return dict.fromkeys(names, planted.token)


async def at_account_api(scene: Scene, victim: Person, planted: Planted) -> Opened:
    form = {"identifier": victim.name, "password": PASSWORD}
    refused = scene.ask("POST", "/api/session", headers=shown(planted), json=form | named(planted))
    assert refused.status_code == 400
    answer = scene.ask("POST", "/api/session", headers=shown(planted), json=form)
    assert (answer.status_code, "Set-Cookie" in answer.headers) == (201, False)
    return Opened(answer.json()["token"])


async def at_react_auth(scene: Scene, victim: Person, planted: Planted) -> Opened:
    form = {"type": AUTHENTICATE, "username": victim.name, "password": PASSWORD} | named(planted)
    answer = scene.ask("POST", "/react-auth", headers=shown(planted), data=form)
    return Opened(answer.json()["session"], cookie_in(answer.headers["Set-Cookie"]))


async def at_auth_server(scene: Scene, victim: Person, planted: Planted) -> Opened:
    form = {"email": victim.name, "password": PASSWORD} | named(planted)
    headers = shown(planted)
    if scene.ask("GET", "/api/session", token=planted.token).json().get("user", {}).get("level") != 0:
        # It is no guest's, and refused; the browser gets a guest's of its own, and has the cookie still.
        assert scene.ask("POST", "/api/login", headers=headers, json=form).status_code in {401, 406}
        headers |= {"Authorization": f"Bearer {scene.guest()}"}
    answer = scene.ask("POST", "/api/login", headers=headers, json=form)
    return Opened(answer.json()["at"], cookie_in(answer.headers["Set-Cookie"]))


async def at_route(scene: Scene, victim: Person, planted: Planted, path: str = "/auth/v1") -> Opened:
    # The connection is opened for the victim, and may hold the attacker's session already.
    async with talk(scene.service, path, shown(planted)) as talking:
        held = await talking.call("authenticate", session_key=planted.token)
        assert ("session_key" in held["data"]) == (planted.whose is not None)
        data: dict[str, Any] = {"username": victim.name, "password": PASSWORD} | named(planted)
        answer = await talking.call("login", **data)
        return Opened(answer["data"]["session_key"])


async def at_route_v2(scene: Scene, victim: Person, planted: Planted) -> Opened:
    return await at_route(scene, victim, planted, "/auth/v2")


Login = Callable[[Scene, Person, Planted], Awaitable[Opened]]
DOORS: Final[tuple[Login, ...]] = (at_account_api, at_react_auth, at_auth_server, at_route, at_route_v2)


@pytest.mark.parametrize("plant", PLANTS, ids=[plant.__name__ for plant in PLANTS])
@pytest.mark.parametrize("log_in", DOORS, ids=[door.__name__ for door in DOORS])
async def test_what_was_planted_is_never_what_a_login_opens(
    scene: Scene, log_in: Login, plant: Callable[[Scene], Planted]
) -> None:
    """ASVS 5.0: 7.2.4, 7.2.2; CWE-384."""
    victim = scene.person()
    planted = plant(scene)
    last = scene.head
    opened = await log_in(scene, victim, planted)

    session, _, secret = opened.token.partition("|")
    assert secret not in {planted.token.partition("|")[2], victim.token.partition("|")[2]}
    assert int(session) > last, "it is one that there was before"
    found = await scene.known_as(opened.token, opened.cookie)
    assert found == dict.fromkeys(found, victim.id)

    # Who has what was planted is who they were, or nobody; of the account they have nothing at any door.
    left = set((await scene.known_as(planted.token, planted.cookie)).values())
    assert left <= {planted.whose, None}
    guessed = f"{session}|{planted.token.partition('|')[2]}"
    assert set((await scene.known_as(guessed)).values()) == {None}


async def test_a_guests_token_is_worth_nothing_once_it_was_traded(scene: Scene) -> None:
    """ASVS 5.0: 7.2.4; CWE-384: at the door where a login follows from a token, that token ends with it."""
    victim, guest = scene.person(), of_a_guest(scene)
    opened = await at_auth_server(scene, victim, guest)
    for what in ({"token": guest.token}, {"cookie": guest.cookie}):
        shown_again: Any = what
        assert scene.ask("GET", "/api/session", **shown_again).status_code == 401
        at = scene.ask("POST", "/api/authenticate", **shown_again).json()["at"]
        assert at not in {guest.token, opened.token}
        assert scene.ask("GET", "/api/session", token=at).json()["user"]["level"] == 0
    again = scene.ask("POST", "/api/login", token=guest.token, json={"email": victim.name, "password": PASSWORD})
    assert again.status_code == 401


async def test_a_socket_that_held_the_attackers_session_acts_for_the_victim_alone(scene: Scene) -> None:
    """ASVS 5.0: 7.2.4; CWE-384: the session that the connection held before is over, for the attacker too."""
    victim, mallory = scene.person(), of_the_attacker(scene)
    async with talk(scene.service, "/auth/v2") as talking, talk(scene.service, "/react-auth") as watching:
        await talking.call("authenticate", session_key=mallory.token)
        assert await watching.ask({"type": SOCKET_RESUME, "session": mallory.token}) == {"success": True}
        await talking.log_in(victim.name, PASSWORD)
        assert "close" in await watching.hear()
        assert set((await scene.known_as(mallory.token, mallory.cookie)).values()) == {None}
        assert (await talking.call("update_profile", nickname=f"{victim.name} anew"))["error"] is False
    me = scene.ask("GET", "/api/session", token=victim.token).json()["user"]
    assert me["nickname"] == f"{victim.name} anew"
