"""What is over stays over: tokens, cookies and access tokens of a session that has ended, shown again and again.

`test_races` shows that they are worth nothing at the moment of the end. Here everything happens afterwards that could
bring them back: another login, the old password, a reactivation, a restart, a read model made anew.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from tests.attacks.arena import arena
from tests.attacks.scene import PASSWORD, SOCKET_RESUME, Scene, playing
from tests.attacks.test_races import ANOTHER, ENDS, Person, Victim
from tests.attacks.test_races import End as Ending
from tests.conformance.running import fresh
from tests.conformance.talk import talk


class Stolen(NamedTuple):
    """All that shows a session, copied while it was good."""

    victim: Victim
    cookie: str
    sealed_again: str
    access: str


End = Callable[[Scene, Stolen], Awaitable[None]]


async def log_out_by_cookie(scene: Scene, stolen: Stolen) -> None:
    answer = scene.ask("POST", "/api/logout", cookie=stolen.cookie, headers={"Sec-Fetch-Site": "same-origin"})
    assert answer.status_code == 204


async def end_the_own_one(scene: Scene, stolen: Stolen) -> None:
    victim = stolen.victim
    assert scene.ask("DELETE", f"/api/sessions/{victim.session}", token=victim.token).status_code == 204


async def ended(end: Ending, scene: Scene, stolen: Stolen) -> None:
    async with arena() as place:
        ender = end(place, scene.service, stolen.victim)
        await ender.ready()
        assert (await ender.go()).status in {200, 204}


EVERY_END: Final[dict[str, End]] = {
    **{end.__name__: partial(ended, end) for end in ENDS},
    "log_out_by_cookie": log_out_by_cookie,
    "end_the_own_one": end_the_own_one,
}


def stolen_from(scene: Scene) -> Stolen:
    someone = scene.person()
    token = someone.token
    victim = Victim(Person(someone.id, someone.name), token, scene.logged_in(someone.name), scene.warden.token)
    return Stolen(victim, scene.cookie(token), scene.cookie(token), scene.access_token(token))


async def worth(scene: Scene, stolen: Stolen) -> set[int | None]:
    """For whom all doors and sockets take whoever shows any of it."""
    found = await scene.known_as(stolen.victim.token, stolen.cookie, stolen.access)
    found |= {f"{door}, sealed again": who for door, who in (await scene.known_as(cookie=stolen.sealed_again)).items()}
    return {*found.values()}


def nothing_by_http(scene: Scene, stolen: Stolen) -> None:
    """Everything that needs a session refuses it as it refuses nonsense, by the token and by the cookie."""
    ways: list[dict[str, str]] = [{"token": stolen.victim.token}, {"cookie": stolen.cookie}]
    nonsense = [_said(scene, "GET", "/api/session", **dict.fromkeys(way, "x")) for way in ways]
    for operation in scene.operations():
        if operation.takes("cookie") and operation.template not in {"/api/authenticate", "/react-auth"}:
            path = operation.path(name="users")
            assert [_said(scene, operation.method, path, **way) for way in ways] == nonsense, operation.name


def _said(scene: Scene, method: str, path: str, **way: Any) -> tuple[int, bytes]:
    answer = scene.ask(method, path, **way)
    assert answer.status_code == 401
    assert "Set-Cookie" not in answer.headers
    return answer.status_code, answer.content


def whatever_could_bring_it_back(scene: Scene, stolen: Stolen) -> None:
    """The account is active, has its old password and new sessions, as if nothing had happened."""
    who = stolen.victim.person
    if scene.ask("POST", "/api/session", json={"identifier": who.name, "password": PASSWORD}).status_code == 401:
        # Either it is deactivated, or the password is another now.
        scene.ask("POST", f"/admin/api/users/{who.id}/reactivate", token=scene.warden.token)
        known = {"identifier": who.name, "password": ANOTHER}
        answer = scene.ask("POST", "/api/session", json=known)
        if answer.status_code == 201:
            change = {"old_password": ANOTHER, "new_password": PASSWORD}
            assert scene.ask("PATCH", "/api/profile", token=answer.json()["token"], json=change).status_code == 200
    for level in (2, 1):
        path = f"/admin/api/users/{who.id}/level"
        assert scene.ask("POST", path, token=scene.warden.token, json={"level": level}).status_code == 200
    assert scene.ask("GET", "/api/session", token=scene.logged_in(who.name)).json()["user"]["active"] is True


@pytest.mark.parametrize("end", EVERY_END.values(), ids=EVERY_END)
async def test_what_showed_a_session_that_is_over_shows_nobody_whatever_comes_after(scene: Scene, end: End) -> None:
    """ASVS 5.0: 7.4.1, 7.4.2, 7.4.3, 7.4.5; CWE-613, CWE-294."""
    stolen = stolen_from(scene)
    victim = stolen.victim
    assert await worth(scene, stolen) == {victim.person.id}
    async with talk(scene.service, "/auth/v2") as held, talk(scene.service, "/react-auth") as told:
        await held.call("authenticate", session_key=victim.token)
        resume = {"type": SOCKET_RESUME, "session": victim.token}
        assert await told.ask(resume) == {"success": True}

        await end(scene, stolen)
        assert json.loads(await told.hear())["type"].endswith("/close")
        assert await worth(scene, stolen) == {None}

        whatever_could_bring_it_back(scene, stolen)
        assert await worth(scene, stolen) == {None}
        nothing_by_http(scene, stolen)
        # Nor do the connections that held it.
        assert (await held.refusal("update_profile", nickname=fresh("nick")))[0] == 403
        assert (await held.refusal("logout"))[0] == 403
        assert (await held.refusal("authenticate", session_key=victim.token))[0] == 401
        assert await told.ask(resume) == {"success": False}


async def test_neither_a_restart_nor_a_rebuild_brings_a_session_back(tmp_path: Path) -> None:
    """ASVS 5.0: 7.4.1; CWE-613, CWE-294: the book knows that it is over, and all else is made of the book."""
    with ExitStack() as first:
        scene = first.enter_context(playing(tmp_path))
        over = []
        for end in EVERY_END.values():
            over.append(stolen_from(scene))
            await end(scene, over[-1])
        alive = stolen_from(scene)
    with playing(tmp_path) as again:
        for projection in ("sessions", "users"):
            done = again.service.cli("projections", "rebuild", projection)
            assert done.returncode == 0, done.stderr
        assert await worth(again, alive) == {alive.victim.person.id}
        for stolen in over:
            assert await worth(again, stolen) == {None}
        assert again.service.cli("verify").returncode == 0
