"""The account API: what it answers, and what stands in the book afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio

from events.catalogue import LoginFailed, SessionClosed, SessionOpened, SessionSeen, UserRegistered
from events.errors import StoreUnavailableError
from service.decisions.administration import Deactivate
from service.gate.gate import GateSettings
from service.gate.throttling import ThrottlePolicy
from tests.web.serving import AGENT, ALICE, LOGIN, web

SAFE = {
    "content-type": "application/json",
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "content-security-policy": "default-src 'none'; base-uri 'none'; frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
}


async def test_a_registration_makes_an_account_and_logs_nobody_in(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        answer = await doors.ask("POST", "/api/register", ALICE)
        assert (answer.status_code, answer.json()) == (201, {"id": 1})
        [registered] = doors.events()
        assert isinstance(registered.event, UserRegistered)
        assert (registered.actor, registered.door) == ("anonymous", "account-api")
        opened = doors.house.gate.lookups.opened
        assert [opened(value) for value in (registered.event.address, registered.event.agent) if value] == [
            "127.0.0.1",
            AGENT,
        ]


async def test_an_account_needs_no_address(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        body = {name: ALICE[name] for name in ("username", "nickname", "password")}
        assert (await doors.ask("POST", "/api/register", body)).status_code == 201
        token = await doors.log_in()
        assert (await doors.get("/api/session", token)).json()["user"]["email"] is None


async def test_every_field_at_fault_is_named(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        await doors.register()
        answer = await doors.ask("POST", "/api/register", ALICE)
        assert answer.status_code == 422
        error = answer.json()["error"]
        assert error["code"] == "invalid_fields"
        assert [fault["field"] for fault in error["fields"]] == ["username", "nickname", "email"]
        body = {"username": "al", "nickname": "x", "password": "short", "email": "nowhere"}
        error = (await doors.ask("POST", "/api/register", body)).json()["error"]
        assert [fault["field"] for fault in error["fields"]] == ["username", "nickname", "password", "email"]
        assert all(fault["message"] for fault in error["fields"])
        assert len(doors.events()) == 1


@pytest.mark.parametrize("identifier", ["alice", "ALICE", "alice@example.org"])
async def test_a_login_gives_a_token_and_the_account(tmp_path: Path, identifier: str) -> None:
    async with web(tmp_path) as doors:
        await doors.register()
        answer = await doors.ask("POST", "/api/session", LOGIN | {"identifier": identifier})
        assert answer.status_code == 201
        body = answer.json()
        assert body["token"].startswith("2|")
        user = {
            "id": 1,
            "username": "alice",
            "nickname": "Al",
            "email": "alice@example.org",
            "level": 1,
            "active": True,
            "created_at": "2026-11-21T12:00:00Z",
            "last_contact": "2026-11-21T12:00:00Z",
        }
        assert body == {"token": body["token"], "user": user, "device_key": body["device_key"]}
        answer = await doors.get("/api/session", body["token"])
        session = {
            "id": 2,
            "opened_at": "2026-11-21T12:00:00Z",
            "expires_at": "2026-11-22T12:00:00Z",
            "seen_at": "2026-11-21T12:00:00Z",
            "door": "account-api",
        }
        assert (answer.status_code, answer.json()) == (200, {"user": user, "session": session})


@pytest.mark.parametrize("wrong", [{"password": "wrong horse"}, {"identifier": "nobody"}, {"identifier": "a\0b"}])
async def test_a_wrong_login_never_says_what_was_wrong(tmp_path: Path, wrong: dict[str, str]) -> None:
    async with web(tmp_path) as doors:
        await doors.register()
        answer = await doors.ask("POST", "/api/session", LOGIN | wrong)
        assert answer.status_code == 401
        assert answer.json() == {
            "error": {"code": "bad_credentials", "message": "The identifier or the password is wrong."}
        }
        assert answer.headers["WWW-Authenticate"] == 'Bearer realm="gatebook"'
        assert [type(recorded.event) for recorded in doors.events()] == [UserRegistered, LoginFailed]


async def test_too_many_failures_are_told_when_to_come_back(tmp_path: Path) -> None:
    async with web(tmp_path, policy=ThrottlePolicy(account_failures=1)) as doors:
        await doors.register()
        for _ in range(3):
            answer = await doors.ask("POST", "/api/session", LOGIN | {"password": "wrong horse"})
        assert answer.status_code == 429
        error = answer.json()["error"]
        assert error["code"] == "throttled"
        assert answer.headers["Retry-After"] == str(error["retry_after"])
        assert error["retry_after"] >= 1


@pytest.mark.parametrize(("method", "path"), [("DELETE", "/api/session"), ("POST", "/api/logout")])
async def test_a_logout_ends_the_session_and_no_other(tmp_path: Path, method: str, path: str) -> None:
    async with web(tmp_path) as doors:
        await doors.register()
        token, other = await doors.log_in(), await doors.log_in()
        answer = await doors.ask(method, path, token=token)
        assert (answer.status_code, answer.content) == (204, b"")
        assert answer.headers["cache-control"] == "no-store"
        assert (await doors.get("/api/session", token)).status_code == 401
        assert (await doors.ask(method, path, token=token)).status_code == 401
        assert (await doors.get("/api/session", other)).status_code == 200
        [closed] = doors.events("session.closed")
        assert closed.event == SessionClosed(1, "logout")
        assert closed.actor == "user-1"


async def test_a_profile_changes_where_something_is_given(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        await doors.register()
        token = await doors.log_in()
        answer = await doors.ask("PATCH", "/api/profile", {"nickname": "Alice"}, token=token)
        assert answer.status_code == 200
        assert answer.json()["user"] == (await doors.get("/api/session", token)).json()["user"]
        assert (answer.json()["user"]["nickname"], answer.json()["user"]["email"]) == ("Alice", "alice@example.org")
        answer = await doors.ask("PATCH", "/api/profile", {"email": None}, token=token)
        assert (answer.json()["user"]["nickname"], answer.json()["user"]["email"]) == ("Alice", None)
        before = len(doors.events())
        assert (await doors.ask("PATCH", "/api/profile", {}, token=token)).status_code == 200
        assert len(doors.events()) == before


async def test_a_new_password_takes_the_old_one_and_ends_the_other_sessions(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        await doors.register()
        token, other = await doors.log_in(), await doors.log_in()
        for change, field in (
            ({"new_password": "battery staple"}, "old_password"),
            ({"new_password": "battery staple", "old_password": "wrong horse"}, "old_password"),
            ({"new_password": "short", "old_password": "correct horse"}, "new_password"),
        ):
            answer = await doors.ask("PATCH", "/api/profile", change, token=token)
            assert answer.status_code == 422
            assert [fault["field"] for fault in answer.json()["error"]["fields"]] == [field]
        change = {"new_password": "battery staple", "old_password": "correct horse"}
        assert (await doors.ask("PATCH", "/api/profile", change, token=token)).status_code == 200
        assert (await doors.get("/api/session", token)).status_code == 200
        assert (await doors.get("/api/session", other)).status_code == 401
        assert (await doors.ask("POST", "/api/session", LOGIN)).status_code == 401
        await doors.log_in(password="battery staple")


async def test_a_session_ends_by_the_clock_and_with_its_account(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        await doors.register()
        token = await doors.log_in()
        await doors.house.writer.submit(Deactivate(1), actor="operator", door="cli")
        assert (await doors.get("/api/session", token)).status_code == 401
        await doors.register(username="bobby", nickname="Bob", email="bob@example.org")
        token = await doors.log_in(identifier="bobby")
        doors.house.clock.pass_by(hours=23, minutes=59)
        assert (await doors.get("/api/session", token)).status_code == 200
        doors.house.clock.pass_by(minutes=1)
        assert (await doors.get("/api/session", token)).status_code == 401


async def test_a_session_in_use_is_seen_once_in_the_interval(tmp_path: Path) -> None:
    async with web(tmp_path, settings=GateSettings()) as doors:
        await doors.register()
        token = await doors.log_in()
        doors.house.clock.pass_by(hours=2)
        for _ in range(3):
            await doors.get("/api/session", token)
        [seen] = doors.events("session.seen")
        assert (type(seen.event), seen.door) == (SessionSeen, "account-api")
        assert (await doors.get("/api/session", token)).json()["session"]["seen_at"] == "2026-11-21T14:00:00Z"


async def test_every_answer_is_safe_to_keep_nowhere(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        await doors.register()
        token = await doors.log_in()
        for answer in (
            await doors.get("/api/session", token),
            await doors.get("/api/session"),
            await doors.get("/nowhere"),
            await doors.ask("PUT", "/api/session"),
            await doors.ask("POST", "/api/register", b"{"),
            await doors.get("/health/live"),
            await doors.get("/admin/api/events", token),
        ):
            assert {name: answer.headers[name] for name in SAFE} == SAFE, answer.request.url


class Broken:
    """A book of which nothing can be read."""

    def __getattr__(self, name: str) -> Any:
        raise StoreUnavailableError("the disk is gone")


async def test_who_cannot_be_looked_up_is_not_called_a_stranger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with web(tmp_path) as doors:
        await doors.register()
        token = await doors.log_in()
        monkeypatch.setattr(doors.house.gate.lookups, "_book", Broken())
        for answer in (await doors.get("/api/session", token), await doors.ask("DELETE", "/api/session", token=token)):
            assert answer.status_code == 503
            error = answer.json()["error"]
            assert (error["code"], error["retry_after"], answer.headers["Retry-After"]) == ("unavailable", 5, "5")
            assert "disk" not in answer.text
        assert len(doors.events("session.closed")) == 0


async def test_a_fault_of_ours_is_told_without_what_it_quotes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async with web(tmp_path) as doors:

        async def fail(*_: Any, **given: Any) -> int:
            raise RuntimeError(given["password"])

        monkeypatch.setattr(doors.house.gate, "register", fail)
        answer = await doors.ask("POST", "/api/register", ALICE)
        assert answer.status_code == 500
        assert answer.json()["error"]["code"] == "internal_error"
        said = "".join(capsys.readouterr()) + answer.text
        assert "request_failed" in said
        assert ALICE["password"] not in said
        assert "Traceback" not in said
        monkeypatch.undo()
        await doors.register()


async def test_two_who_want_one_name_at_once_get_it_once(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        statuses: list[int] = []

        async def register(number: int) -> None:
            body = ALICE | {"nickname": f"Al {number}", "email": f"al{number}@example.org"}
            statuses.append((await doors.ask("POST", "/api/register", body)).status_code)

        async with trio.open_nursery() as nursery:
            for number in range(5):
                nursery.start_soon(register, number)
        assert sorted(statuses) == [201, 422, 422, 422, 422]
        assert len(doors.events()) == 1


async def test_the_same_account_has_many_sessions(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        await doors.register()
        tokens = {await doors.log_in() for _ in range(3)}
        assert len(tokens) == 3
        assert [type(recorded.event) for recorded in doors.events("session.opened")] == [SessionOpened] * 3
        for token in tokens:
            assert (await doors.get("/api/session", token)).status_code == 200
