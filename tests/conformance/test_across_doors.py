"""One account, one session, four contracts: opened at any door, honoured at all, ended anywhere and over everywhere."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from tests.conformance.running import FAST, Running, fresh, running
from tests.conformance.talk import Talk, talk

PASSWORD = "correct horse battery"
ANOTHER = "plover cistern gravity"
RESUME = "fantaptik/react-auth/socket/resume"
CLOSE = "fantaptik/react-auth/close"
OVER = {"type": CLOSE}
COOKIE = "__Host-gatebook"


Register = Callable[[Running], Awaitable["Person"]]
LogIn = Callable[[Running, "Person"], Awaitable[str]]
End = Callable[[Running, "Person"], Awaitable[None]]


class Person:
    """Somebody registered at one door or another, who may have logged in."""

    def __init__(self, name: str, user_id: int) -> None:
        self.name = name
        self.id = user_id
        self.token = ""

    @property
    def session(self) -> str:
        """The id of their session: the number in its token."""
        return self.token.partition("|")[0]


def post(service: Running, path: str, form: dict[str, Any], **headers: str) -> httpx.Response:
    return httpx.post(f"{service.http}{path}", data=form, headers=headers, trust_env=False)


def get(service: Running, path: str, **headers: str) -> httpx.Response:
    return httpx.get(f"{service.http}{path}", headers=headers, trust_env=False)


# Registering: at two doors, and by an operator.


async def at_account_api(service: Running) -> Person:
    name = fresh()
    answer = service.ask("POST", "/api/register", {"username": name, "nickname": name, "password": PASSWORD})
    assert answer.status_code == 201, answer.text
    return Person(name, answer.json()["id"])


async def at_route_protocol(service: Running) -> Person:
    async with talk(service) as talking:
        name = await talking.register(password=PASSWORD)
        answer = await talking.call("login", username=name, password=PASSWORD)
        await talking.call("logout")
    return Person(name, answer["data"]["user"]["id"])


async def by_operator(service: Running) -> Person:
    name = fresh()
    made = await trio.to_thread.run_sync(
        lambda: service.cli("users", "add", name, "--password-stdin", "--json", given=PASSWORD)
    )
    assert made.returncode == 0, made.stderr
    return Person(name, json.loads(made.stdout)["id"])


# Logging in: at every door.


async def log_in_at_account_api(service: Running, person: Person) -> str:
    answer = service.ask("POST", "/api/session", {"identifier": person.name, "password": PASSWORD})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["token"])


async def _log_in_by_route(service: Running, person: Person, path: str) -> str:
    async with talk(service, path) as talking:
        return await talking.log_in(person.name, PASSWORD)


async def log_in_at_route_v1(service: Running, person: Person) -> str:
    return await _log_in_by_route(service, person, "/auth/v1")


async def log_in_at_route_v2(service: Running, person: Person) -> str:
    return await _log_in_by_route(service, person, "/auth/v2")


async def log_in_at_react_auth(service: Running, person: Person) -> str:
    form = {"type": "fantaptik/react-auth/authenticate", "username": person.name, "password": PASSWORD}
    answer = post(service, "/react-auth", form)
    assert answer.status_code == 200, answer.text
    said = answer.json()
    assert said["success"] is True
    assert (said["user"]["id"], said["user"]["username"]) == (person.id, person.name)
    return str(said["session"])


async def log_in_at_auth_server(service: Running, person: Person) -> str:
    guest = post(service, "/api/authenticate", {}).json()["at"]
    form = {"email": person.name, "password": PASSWORD}
    answer = post(service, "/api/login", form, Authorization=f"Bearer {guest}")
    assert answer.status_code == 200, answer.text
    return str(answer.json()["at"])


LOGINS = [log_in_at_account_api, log_in_at_route_v1, log_in_at_route_v2, log_in_at_react_auth, log_in_at_auth_server]


# Being honoured: at every door, or at none.


def cookie_of(service: Running, token: str) -> str:
    """The cookie of a session that is alive."""
    answer = post(service, "/api/authenticate", {}, Authorization=f"Bearer {token}")
    assert answer.json() == {"at": token}
    return answer.cookies.jar._cookies["127.0.0.1"]["/"][COOKIE].value  # type: ignore[attr-defined,no-any-return]  # it goes back over TLS alone


async def honoured(service: Running, person: Person, cookie: str) -> dict[str, bool]:
    """Which door takes the person's token, or their cookie, for a live session of theirs."""
    found: dict[str, bool] = {}
    answer = service.ask("GET", "/api/session", token=person.token)
    found["account API"] = answer.status_code == 200 and answer.json()["user"]["id"] == person.id
    by_cookie = get(service, "/api/session", Cookie=f"{COOKIE}={cookie}")
    found["account API, by cookie"] = by_cookie.status_code == 200 and by_cookie.json()["user"]["id"] == person.id
    for path in ("/auth/v1", "/auth/v2"):
        async with talk(service, path) as talking:
            said = await talking.call("authenticate", session_key=person.token)
            found[path] = not said.get("error", False) and said["data"]["user"]["id"] == person.id
    async with talk(service, "/react-auth") as talking:
        user = {"id": person.id}
        found["react-auth"] = (await talking.ask({"type": RESUME, "session": person.token, "user": user}))["success"]
    resumed = post(service, "/react-auth", {"type": "fantaptik/react-auth/resume"}, Cookie=f"{COOKIE}={cookie}").json()
    found["react-auth, by cookie"] = resumed["success"] and resumed["session"] == person.token
    at = post(service, "/api/authenticate", {}, Authorization=f"Bearer {person.token}").json()["at"]
    found["auth-server"] = at == person.token
    at = post(service, "/api/authenticate", {}, Cookie=f"{COOKIE}={cookie}").json()["at"]
    found["auth-server, by cookie"] = at == person.token
    return found


class Witnesses:
    """Connections that hold one session: two of react-auth, bare and enveloped, and one of the route protocol."""

    def __init__(self, bare: Talk, enveloped: Talk, route: Talk) -> None:
        self._bare = bare
        self._enveloped = enveloped
        self._route = route

    async def hear_that_it_is_over(self) -> None:
        assert json.loads(await self._bare.hear()) == OVER
        assert json.loads(await self._enveloped.hear()) == {"data": OVER}
        code, _ = await self._route.refusal("update_profile", nickname=fresh("nick"))
        assert code == 403

    async def heard_nothing(self) -> None:
        """What was sent before the answer to this would have been heard before it."""
        assert await self._bare.ask({"id": 1}) == {"id": 1, "success": False}
        assert await self._enveloped.ask({"id": 1, "data": {"type": "x"}}) == {"id": 1, "data": {"success": False}}
        assert (await self._route.call("update_profile", nickname=fresh("nick")))["error"] is False


@asynccontextmanager
async def witnessing(service: Running, token: str) -> AsyncIterator[Witnesses]:
    async with AsyncExitStack() as stack:
        bare = await stack.enter_async_context(talk(service, "/react-auth"))
        enveloped = await stack.enter_async_context(talk(service, "/react-auth"))
        route = await stack.enter_async_context(talk(service))
        resume = {"type": RESUME, "session": token}
        assert await bare.ask(resume) == {"success": True}
        assert await enveloped.ask({"id": "a", "data": resume}) == {"id": "a", "data": {"success": True}}
        assert (await route.call("authenticate", session_key=token))["error"] is False
        yield Witnesses(bare, enveloped, route)


# Ending: at every door, by an admin, by an operator in another process, and as a consequence.


def done(answer: httpx.Response) -> None:
    assert answer.is_success, answer.text


def admin_token(service: Running) -> str:
    name = fresh("warden")
    made = service.cli("users", "add", name, "--level", "admin", "--password-stdin", given=PASSWORD)
    assert made.returncode == 0, made.stderr
    return str(service.ask("POST", "/api/session", {"identifier": name, "password": PASSWORD}).json()["token"])


async def operate(service: Running, *arguments: str) -> None:
    told = await trio.to_thread.run_sync(lambda: service.cli(*arguments))
    assert told.returncode == 0, told.stderr


async def log_out(service: Running, person: Person) -> None:
    done(service.ask("DELETE", "/api/session", token=person.token))


async def log_out_by_post(service: Running, person: Person) -> None:
    done(service.ask("POST", "/api/logout", token=person.token))


async def log_out_by_route(service: Running, person: Person) -> None:
    async with talk(service) as talking:
        await talking.call("authenticate", session_key=person.token)
        assert (await talking.call("logout"))["data"] == {"loggedout": True}


async def log_in_again_on_the_same_connection(service: Running, person: Person) -> None:
    async with talk(service) as talking:
        await talking.call("authenticate", session_key=person.token)
        await talking.log_in(person.name, PASSWORD)


async def close_at_react_auth(service: Running, person: Person) -> None:
    async with talk(service, "/react-auth") as talking:
        assert await talking.ask({"type": CLOSE, "session": person.token, "user": {}}) == {"success": True}


async def end_from_another_session(service: Running, person: Person) -> None:
    other = await log_in_at_account_api(service, person)
    done(service.ask("DELETE", f"/api/sessions/{person.session}", token=other))


async def end_all_others(service: Running, person: Person) -> None:
    done(service.ask("DELETE", "/api/sessions", token=await log_in_at_auth_server(service, person)))


async def change_the_password_elsewhere(service: Running, person: Person) -> None:
    other = await log_in_at_react_auth(service, person)
    change = {"old_password": PASSWORD, "new_password": ANOTHER}
    done(service.ask("PATCH", "/api/profile", change, token=other))
    assert service.ask("GET", "/api/session", token=other).status_code == 200


async def change_the_password_by_route(service: Running, person: Person) -> None:
    async with talk(service) as talking:
        await talking.log_in(person.name, PASSWORD)
        done_ = await talking.call("update_profile", old_password=PASSWORD, new_password=ANOTHER)
        assert done_["error"] is False


async def revoke_as_admin(service: Running, person: Person) -> None:
    done(service.ask("DELETE", f"/admin/api/sessions/{person.session}", token=admin_token(service)))


async def deactivate_as_admin(service: Running, person: Person) -> None:
    done(service.ask("POST", f"/admin/api/users/{person.id}/deactivate", token=admin_token(service)))


async def revoke_by_operator(service: Running, person: Person) -> None:
    await operate(service, "sessions", "revoke", person.session)


async def deactivate_by_operator(service: Running, person: Person) -> None:
    await operate(service, "users", "deactivate", person.name)


ENDINGS: dict[End, str] = {
    log_out: "logout",
    log_out_by_post: "logout",
    log_out_by_route: "logout",
    log_in_again_on_the_same_connection: "replaced",
    close_at_react_auth: "logout",
    end_from_another_session: "revoked",
    end_all_others: "revoked",
    change_the_password_elsewhere: "password_changed",
    change_the_password_by_route: "password_changed",
    revoke_as_admin: "revoked",
    deactivate_as_admin: "deactivated",
    revoke_by_operator: "revoked",
    deactivate_by_operator: "deactivated",
}


@pytest.mark.parametrize("register", [at_account_api, at_route_protocol, by_operator])
@pytest.mark.parametrize("log_in", LOGINS)
async def test_whoever_is_registered_at_one_door_logs_in_at_another_and_is_honoured_at_all(
    service: Running, register: Register, log_in: LogIn
) -> None:
    person = await register(service)
    person.token = await log_in(service, person)
    found = await honoured(service, person, cookie_of(service, person.token))
    assert found == dict.fromkeys(found, True)


@pytest.mark.parametrize(("end", "reason"), ENDINGS.items(), ids=[end.__name__ for end in ENDINGS])
async def test_a_session_that_ends_anywhere_is_over_everywhere(service: Running, end: End, reason: str) -> None:
    person = await at_account_api(service)
    # The doors take turns at opening it.
    log_in = LOGINS[list(ENDINGS).index(end) % len(LOGINS)]
    person.token = await log_in(service, person)
    bystander = await at_account_api(service)
    bystander.token = await log_in_at_account_api(service, bystander)
    cookie = cookie_of(service, person.token)
    async with witnessing(service, person.token) as held, witnessing(service, bystander.token) as unconcerned:
        await end(service, person)
        await held.hear_that_it_is_over()
        found = await honoured(service, person, cookie)
        assert found == dict.fromkeys(found, False)
        await unconcerned.heard_nothing()
    told = service.events("--stream", f"session-{person.session}")
    assert [one["type"] for one in told if one["type"] != "session.seen"] == ["session.opened", "session.closed"]
    assert told[-1]["reason"] == reason


async def test_the_story_of_a_session_that_goes_through_all_doors(service: Running) -> None:
    """Registered at one, logged in at another, carried to a third, ended at the fourth."""
    async with talk(service) as talking:
        name = await talking.register(password=PASSWORD)
    guest = post(service, "/api/authenticate", {}).json()["at"]
    answer = post(service, "/api/login", {"email": name, "password": PASSWORD}, Authorization=f"Bearer {guest}")
    token = answer.json()["at"]
    me = service.ask("GET", "/api/session", token=token).json()
    assert (me["user"]["username"], me["session"]["door"]) == (name, "auth-server")
    async with talk(service, "/react-auth") as tab, talk(service, "/react-auth") as other:
        user = {key: me["user"][key] for key in ("id", "username", "nickname", "level")}
        for one in (tab, other):
            assert await one.ask({"type": RESUME, "session": token, "user": user}) == {"success": True}
        assert await tab.ask({"type": CLOSE, "session": token, "user": user}) == {"success": True}
        assert json.loads(await other.hear()) == OVER
    async with talk(service) as talking:
        assert (await talking.refusal("authenticate", session_key=token))[0] == 401
    doors = {one["door"] for one in service.events("--user", str(me["user"]["id"]))}
    assert doors == {"route-v2", "auth-server", "react-auth"}


@pytest.mark.parametrize("where", ["react-auth", "route"])
async def test_a_guests_token_is_no_session_where_guests_are_not_known(service: Running, where: str) -> None:
    guest = post(service, "/api/authenticate", {}).json()["at"]
    if where == "route":
        async with talk(service) as talking:
            assert (await talking.refusal("authenticate", session_key=guest))[0] == 401
        return
    async with talk(service, "/react-auth") as talking:
        assert await talking.ask({"type": RESUME, "session": guest, "user": {}}) == {"success": False}
        # To close what is no session here ends nothing.
        assert await talking.ask({"type": CLOSE, "session": guest, "user": {}}) == {"success": True}
    resumed = post(
        service, "/react-auth", {"type": "fantaptik/react-auth/resume"}, Cookie=f"{COOKIE}={cookie_of(service, guest)}"
    )
    assert resumed.json() == {"success": False, "session": "", "user": {}}
    assert "Set-Cookie" not in resumed.headers
    assert service.ask("GET", "/api/session", token=guest).json()["user"]["level"] == 0


async def test_sessions_live_on_over_a_restart_and_nobody_is_told_that_they_ended(tmp_path: Path) -> None:
    with ExitStack() as first:
        service = first.enter_context(running(tmp_path, **FAST))
        person = await at_account_api(service)
        person.token = await log_in_at_react_auth(service, person)
        cookie = cookie_of(service, person.token)
        async with talk(service, "/react-auth") as talking, trio.open_nursery() as nursery:
            assert await talking.ask({"type": RESUME, "session": person.token}) == {"success": True}
            nursery.start_soon(trio.to_thread.run_sync, first.close)
            assert await talking.closing_code() == 1001
    with running(tmp_path, **FAST) as service:
        found = await honoured(service, person, cookie)
        assert found == dict.fromkeys(found, True)


async def test_a_cookie_opens_no_socket(service: Running) -> None:
    person = await at_account_api(service)
    person.token = await log_in_at_react_auth(service, person)
    headers = {"Cookie": f"{COOKIE}={cookie_of(service, person.token)}"}
    async with talk(service, "/auth/v2", headers) as route, talk(service, "/react-auth", headers) as react_auth:
        assert (await route.refusal("update_profile", nickname=fresh("nick")))[0] == 403
        assert await react_auth.ask({"type": RESUME, "session": "", "user": {}}) == {"success": False}
        await log_out(service, person)
        # It held nothing, so it is told nothing: the next thing that it hears answers what it says next.
        assert await react_auth.ask({"id": 1}) == {"id": 1, "success": False}
