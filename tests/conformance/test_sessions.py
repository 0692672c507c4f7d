"""One's own sessions as a client of the account API meets them, whatever door they were opened at."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from tests.conformance.running import Running, fresh
from tests.conformance.talk import AGENT, PASSWORD, talk

SESSIONS = "/api/sessions"
FIELDS = ["id", "opened_at", "seen_at", "expires_at", "door", "address", "agent", "current"]
DAY = timedelta(days=1)


def registered(service: Running) -> str:
    name = fresh()
    form = {"username": name, "nickname": fresh("nick"), "password": PASSWORD}
    assert service.ask("POST", "/api/register", form).status_code == 201
    return name


def logged_in(service: Running, name: str) -> str:
    answer = service.ask("POST", "/api/session", {"identifier": name, "password": PASSWORD})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["token"])


def post(service: Running, path: str, form: dict[str, str], token: str | None = None) -> httpx.Response:
    headers = {"User-Agent": AGENT} | ({} if token is None else {"Authorization": f"Bearer {token}"})
    return httpx.post(f"{service.http}{path}", data=form, headers=headers, trust_env=False)


def a_guest(service: Running) -> str:
    return str(post(service, "/api/authenticate", {}).json()["at"])


def at_auth_server(service: Running, name: str) -> str:
    answer = post(service, "/api/login", {"email": name, "password": PASSWORD}, a_guest(service))
    assert answer.status_code == 200, answer.text
    return str(answer.json()["at"])


def at_react_auth(service: Running, name: str) -> str:
    form = {"type": "fantaptik/react-auth/authenticate", "username": name, "password": PASSWORD}
    answer = post(service, "/react-auth", form)
    assert answer.json()["success"] is True, answer.text
    return str(answer.json()["session"])


def listed(service: Running, token: str) -> list[dict[str, Any]]:
    answer = service.ask("GET", SESSIONS, token=token)
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Cache-Control"] == "no-store"
    assert list(answer.json()) == ["sessions"]
    sessions: list[dict[str, Any]] = answer.json()["sessions"]
    assert all(list(one) == FIELDS for one in sessions)
    return sessions


def number(token: str) -> int:
    return int(token.partition("|")[0])


def moment(text: str) -> datetime:
    assert text.endswith("Z")
    return datetime.fromisoformat(text)


def error(answer: httpx.Response, status: int, code: str) -> None:
    assert answer.status_code == status, answer.text
    assert list(answer.json()) == ["error"]
    assert answer.json()["error"].keys() == {"code", "message"}
    assert answer.json()["error"]["code"] == code


async def test_sessions_of_every_door_are_listed_the_newest_first(service: Running) -> None:
    name = registered(service)
    before = datetime.now(UTC) - timedelta(seconds=1)
    by_api = logged_in(service, name)
    by_auth_server, by_react = at_auth_server(service, name), at_react_auth(service, name)
    async with talk(service, "/auth/v1") as first, talk(service) as second:
        by_v1, by_v2 = await first.log_in(name), await second.log_in(name)
    sessions = listed(service, by_react)
    assert [(one["id"], one["door"], one["current"]) for one in sessions] == [
        (number(by_v2), "route-v2", False),
        (number(by_v1), "route-v1", False),
        (number(by_react), "react-auth", True),
        (number(by_auth_server), "auth-server", False),
        (number(by_api), "account-api", False),
    ]
    assert {one["address"] for one in sessions} == {"127.0.0.1"}
    assert [one["agent"] for one in sessions[:-1]] == [AGENT] * 4
    assert "httpx" in sessions[-1]["agent"]
    for one in sessions:
        opened = moment(one["opened_at"])
        assert before <= opened <= datetime.now(UTC) + timedelta(seconds=1)
        assert moment(one["seen_at"]) == opened
        assert moment(one["expires_at"]) - opened == DAY


async def test_a_session_that_is_ended_here_is_over_at_its_own_door(service: Running) -> None:
    name = registered(service)
    mine = logged_in(service, name)
    async with talk(service) as device:
        lost = await device.log_in(name)
        answer = service.ask("DELETE", f"{SESSIONS}/{number(lost)}", token=mine)
        assert (answer.status_code, answer.content) == (204, b"")
        assert await device.refusal("update_profile", nickname=fresh("nick")) == (403, [])
        assert await device.refusal("authenticate", session_key=lost) == (401, [])
    assert [one["id"] for one in listed(service, mine)] == [number(mine)]
    [told] = service.events("--stream", f"session-{number(lost)}", "--type", "session.closed")
    assert (told["reason"], told["door"]) == ("revoked", "account-api")


async def test_all_others_end_at_every_door(service: Running) -> None:
    name, other = registered(service), registered(service)
    mine, theirs = logged_in(service, name), logged_in(service, other)
    tokens = [logged_in(service, name), at_auth_server(service, name), at_react_auth(service, name)]
    async with talk(service) as device:
        tokens.append(await device.log_in(name))
        answer = service.ask("DELETE", SESSIONS, token=mine)
        assert (answer.status_code, answer.json()) == (200, {"ended": 4})
        assert await device.refusal("logout") == (403, [])
    for token in tokens:
        error(service.ask("GET", "/api/session", token=token), 401, "unauthenticated")
    for token in (mine, theirs):
        assert service.ask("GET", "/api/session", token=token).status_code == 200
    assert service.ask("DELETE", SESSIONS, token=mine).json() == {"ended": 0}


def test_the_present_one_is_logged_out_by_its_number(service: Running) -> None:
    name = registered(service)
    mine, other = logged_in(service, name), logged_in(service, name)
    assert service.ask("DELETE", f"{SESSIONS}/{number(mine)}", token=mine).status_code == 204
    error(service.ask("GET", SESSIONS, token=mine), 401, "unauthenticated")
    assert [one["id"] for one in listed(service, other)] == [number(other)]
    [told] = service.events("--stream", f"session-{number(mine)}", "--type", "session.closed")
    assert told["reason"] == "logout"


def test_what_is_not_mine_or_not_there_is_the_same_404(service: Running) -> None:
    mine, theirs = logged_in(service, registered(service)), logged_in(service, registered(service))
    over = logged_in(service, registered(service))
    service.ask("DELETE", "/api/session", token=over)
    sought = [number(theirs), number(over), number(a_guest(service)), 1, 2**62, 2**80, 0, "x", "-1", "%7C", theirs[:9]]
    answers = [service.ask("DELETE", f"{SESSIONS}/{one}", token=mine) for one in sought]
    for answer in answers:
        error(answer, 404, "not_found")
    assert len({answer.content for answer in answers}) == 1
    assert service.ask("GET", "/api/session", token=theirs).status_code == 200


@pytest.mark.parametrize(
    ("method", "path"), [("GET", SESSIONS), ("DELETE", SESSIONS), ("DELETE", f"{SESSIONS}/1")], ids=" ".join
)
def test_whoever_holds_no_session_of_an_account_is_told_so(service: Running, method: str, path: str) -> None:
    for token in (None, a_guest(service), "1|" + "x" * 40, "x"):
        answer = service.ask(method, path, token=token)
        error(answer, 401, "unauthenticated")
        assert answer.headers["WWW-Authenticate"].startswith('Bearer realm="gatebook"')


def test_other_methods_and_parameters_are_refused(service: Running) -> None:
    mine = logged_in(service, registered(service))
    for method, path, allowed in (("PUT", SESSIONS, "DELETE, GET"), ("GET", f"{SESSIONS}/1", "DELETE")):
        answer = service.ask(method, path, token=mine)
        error(answer, 405, "method_not_allowed")
        assert set(allowed.split(", ")) <= set(answer.headers["Allow"].split(", "))
    for method, path in (("GET", SESSIONS), ("DELETE", SESSIONS), ("DELETE", f"{SESSIONS}/{number(mine)}")):
        error(service.ask(method, f"{path}?all=1", token=mine), 400, "malformed")
    assert [one["id"] for one in listed(service, mine)] == [number(mine)]
