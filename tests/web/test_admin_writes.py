"""The admin's writes: accounts and sessions, who may, what is refused, and what stands in the book for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from events.catalogue import GuestCreated
from service.decisions.command import Proposed
from service.decisions.sessions import SeeSession
from service.errors import Unavailable
from service.shown import REDACTED
from tests.books import Tell
from tests.given import guest
from tests.web.serving import LOGIN, Web, web

API = "/admin/api"
WRITES = [
    ("POST", "/users/1/deactivate"),
    ("POST", "/users/1/reactivate"),
    ("POST", "/users/1/level"),
    ("DELETE", "/sessions/2"),
]
BODIES: dict[str, Any] = {"/users/1/level": {"level": 2}}


async def done(doors: Web, method: str, path: str, token: str, body: Any = None, status: int = 200) -> Any:
    answer = await doors.ask(method, f"{API}{path}", body, token=token)
    assert answer.status_code == status, f"{path}: {answer.text}"
    return answer.json() if answer.content else None


async def refused(
    doors: Web, method: str, path: str, token: str | None, status: int, code: str, body: Any = None
) -> str:
    """The sentence of the refusal; nothing is written."""
    before = len(doors.events())
    answer = await doors.ask(method, f"{API}{path}", body, token=token)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), f"{path}: {answer.text}"
    assert len(doors.events()) == before
    return str(answer.json()["error"]["message"])


async def test_only_an_admin_writes(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        await doors.register()
        token = await doors.log_in()
        for method, path in WRITES:
            await refused(doors, method, path, None, 401, "unauthenticated", BODIES.get(path))
            await refused(doors, method, path, token, 403, "forbidden", BODIES.get(path))


async def test_a_user_is_deactivated_and_let_in_again(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        await doors.register()
        alice = await doors.log_in()
        token = await doors.admin()
        gone = await done(doors, "POST", "/users/1/deactivate", token, {"reason": "left the house"})
        assert gone == (await doors.get(f"{API}/projections/users/1", token)).json()
        assert (gone["projection"], gone["key"]) == ("users", "1")
        document = gone["document"]
        assert (document["active"], document["open_sessions"], document["username"]) == (False, 0, "alice")
        assert document["password_hash"] == REDACTED
        assert (await doors.get("/api/session", alice)).status_code == 401
        assert (await doors.ask("POST", "/api/session", LOGIN)).status_code == 401
        [event] = doors.events("user.deactivated")
        [closed] = doors.events("session.closed")
        assert (event.stream, event.actor, event.door) == ("user-1", "user-3", "admin")
        assert (closed.actor, closed.command_id) == (event.actor, event.command_id)
        shown = (await doors.get(f"{API}/events/{event.position}", token)).json()
        assert shown["reason"] == "left the house"
        assert b"left the house" not in doors.house.path.read_bytes()

        await refused(doors, "POST", "/users/1/deactivate", token, 409, "conflict")
        back = await done(doors, "POST", "/users/1/reactivate", token)
        assert back["document"]["active"] is True
        await refused(doors, "POST", "/users/1/reactivate", token, 409, "conflict")
        await doors.log_in()


async def test_a_user_becomes_an_admin_and_a_user_again(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        await doors.register()
        alice = await doors.log_in()
        token = await doors.admin()
        raised = await done(doors, "POST", "/users/1/level", token, {"level": 2})
        assert raised["document"]["level"] == 2
        assert (await doors.get(f"{API}/projections", alice)).status_code == 200
        # An admin like any other: it may demote who made it one, and in the end itself no more.
        assert (await done(doors, "POST", "/users/3/level", alice, {"level": 1}))["document"]["level"] == 1
        await refused(doors, "GET", "/projections", token, 403, "forbidden")
        await refused(doors, "POST", "/users/1/level", alice, 409, "last_admin", {"level": 1})
        assert [(one.stream, one.actor) for one in doors.events("user.level_changed")][1:] == [
            ("user-1", "user-3"),
            ("user-3", "user-1"),
        ]


async def test_the_level_that_it_is_already_is_no_change_but_a_look(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        await doors.register()
        token = await doors.admin()
        before = doors.events()
        same = await done(doors, "POST", "/users/1/level", token, {"level": 1})
        assert (same["document"]["level"], same["document"]["username"]) == (1, "alice")
        [look] = doors.events()[len(before) :]
        assert (look.type, look.actor, getattr(look.event, "target", None)) == (
            "audit.read",
            "user-2",
            "projections/users/1",
        )


async def test_the_last_admin_stays_and_another_may_leave(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        await doors.register()
        token = await doors.admin()
        await refused(doors, "POST", "/users/2/deactivate", token, 409, "last_admin")
        await done(doors, "POST", "/users/1/level", token, {"level": 2})
        gone = await done(doors, "POST", "/users/2/deactivate", token)
        assert gone["document"]["active"] is False
        await refused(doors, "GET", "/projections", token, 401, "unauthenticated")


async def test_a_session_is_ended_by_its_id(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        await doors.register()
        one, other = await doors.log_in(), await doors.log_in()
        token = await doors.admin()
        session_id = one.partition("|")[0]
        answer = await doors.ask("DELETE", f"{API}/sessions/{session_id}", token=token)
        assert (answer.status_code, answer.content) == (204, b"")
        assert (await doors.get("/api/session", one)).status_code == 401
        assert (await doors.get("/api/session", other)).status_code == 200
        [closed] = doors.events("session.closed")
        assert (closed.stream, closed.actor, closed.door) == (f"session-{session_id}", "user-4", "admin")
        assert getattr(closed.event, "reason", None) == "revoked"
        await refused(doors, "DELETE", f"/sessions/{session_id}", token, 404, "not_found")


async def test_a_guest_s_session_is_ended_too(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        token = await doors.admin()
        made = guest(until=doors.house.clock.now.replace(year=2030))
        assert isinstance(made, GuestCreated)
        [created] = await doors.house.writer.submit(Tell((Proposed("session", made),)), actor="anonymous", door="test")
        await done(doors, "DELETE", f"/sessions/{created.position}", token, status=204)
        await refused(doors, "DELETE", f"/sessions/{created.position}", token, 404, "not_found")


@pytest.mark.parametrize(
    "number", ["0", "01", "+1", "-1", "1.0", "x", "%EF%BC%91", "1%20", "99999999999999999999", "99"]
)
async def test_an_id_is_a_whole_number_of_something_that_is_there(tmp_path: Path, number: str) -> None:
    async with web(tmp_path) as doors:
        token = await doors.admin()
        for method, path in WRITES:
            kind, _, rest = path[1:].partition("/")
            there = f"/{kind}/{number}{rest[1:]}"
            await refused(doors, method, there, token, 404, "not_found", BODIES.get(path))


async def test_a_body_is_what_the_address_takes(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        await doors.register()
        token = await doors.admin()
        other = {"level": 2, "why": "so"}
        bodies: list[Any] = [{"level": 0}, {"level": 3}, {"level": "2"}, {"level": True}, other, {}, [], 2]
        for body in bodies:
            await refused(doors, "POST", "/users/1/level", token, 400, "malformed", body)
        await refused(doors, "POST", "/users/1/level", token, 400, "malformed", b'{"level": 2, "level": 1}')
        unheard = await refused(doors, "POST", "/users/1/level", token, 400, "malformed", {"level": 4242})
        assert unheard == "Not one of the values that are allowed - at $.level."
        for reason in ("", "x" * 1_001, 7, ["left"]):
            await refused(doors, "POST", "/users/1/deactivate", token, 400, "malformed", {"reason": reason})
        secret = await refused(doors, "POST", "/users/1/deactivate", token, 400, "malformed", {"hunter2secret": 1})
        assert secret == "The body has a field that is not known here; it takes reason."
        nothing = await refused(doors, "POST", "/users/1/reactivate", token, 400, "malformed", {"reason": "x"})
        assert nothing == "The body has a field that is not known here; it takes none."
        await refused(doors, "DELETE", "/sessions/2", token, 400, "malformed", b"[]")
        await done(doors, "POST", "/users/1/deactivate", token, {"reason": "€" * 1_000})
        await done(doors, "POST", "/users/1/reactivate", token, {})
        await done(doors, "POST", "/users/1/deactivate", token, {"reason": None})


async def test_a_body_says_that_it_is_json_and_only_an_absent_one_need_not(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        await doors.register()
        token = await doors.admin()
        headers = {"Authorization": f"Bearer {token}"}
        url = f"{API}/users/1/deactivate"
        plain = await doors.client.post(url, content=b'{"reason": "x"}', headers=headers)
        assert (plain.status_code, plain.json()["error"]["code"]) == (415, "unsupported_media")
        level = await doors.client.post(f"{API}/users/1/level", headers=headers)
        assert (level.status_code, level.json()["error"]["code"]) == (415, "unsupported_media")
        assert (await doors.client.post(url, headers=headers)).status_code == 200


async def test_the_writes_take_no_parameters_and_no_other_methods(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        token = await doors.admin()
        for method, path in WRITES:
            await refused(doors, method, f"{path}?reason=x", token, 400, "malformed", BODIES.get(path))
            answer = await doors.ask("GET", f"{API}{path}", token=token)
            assert (answer.status_code, answer.headers["Allow"]) == (405, ", ".join(sorted([method, "OPTIONS"])))


async def test_what_cannot_be_written_is_not_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with web(tmp_path) as doors:
        await doors.register()
        alice = await doors.log_in()
        token = await doors.admin()
        submit = doors.house.writer.submit

        async def full(command: Any, **who: Any) -> Any:
            if isinstance(command, SeeSession):
                return await submit(command, **who)
            raise Unavailable("no room")

        monkeypatch.setattr(doors.house.writer, "submit", full)
        for method, path in WRITES:
            answer = await doors.ask(method, f"{API}{path}", BODIES.get(path), token=token)
            assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5"), path
        monkeypatch.undo()
        assert (await doors.get("/api/session", alice)).status_code == 200
