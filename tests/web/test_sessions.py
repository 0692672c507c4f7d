"""One's own sessions: which are listed, what is told of each, and what ends which."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from events.catalogue import SessionClosed
from events.errors import StoreUnavailableError
from events.recorded import Recorded
from projections.catalogue import SESSIONS
from service.credentials.cookies import CookieClaims
from service.decisions.command import Command
from service.decisions.sessions import EndOtherSessions, EndOwnSession, EndSession
from service.gate.attempts import Client
from service.gate.gate import GateSettings
from tests.web.serving import AGENT, LOGIN, Web, web

BERTA = {"username": "berta", "nickname": "Bert", "email": "berta@example.org"}


async def listed(doors: Web, token: str) -> list[dict[str, Any]]:
    answer = await doors.get("/api/sessions", token)
    assert answer.status_code == 200, answer.text
    assert answer.json().keys() == {"sessions"}
    sessions: list[dict[str, Any]] = answer.json()["sessions"]
    return sessions


async def ids(doors: Web, token: str) -> list[int]:
    return [one["id"] for one in await listed(doors, token)]


def id_of(token: str) -> int:
    return int(token.partition("|")[0])


async def end(doors: Web, session_id: object, token: str) -> httpx.Response:
    return await doors.ask("DELETE", f"/api/sessions/{session_id}", token=token)


async def end_others(doors: Web, token: str) -> int:
    answer = await doors.ask("DELETE", "/api/sessions", token=token)
    assert answer.status_code == 200, answer.text
    assert answer.json().keys() == {"ended"}
    return int(answer.json()["ended"])


async def is_good(doors: Web, token: str) -> bool:
    return (await doors.get("/api/session", token)).status_code == 200


def endings(doors: Web) -> list[tuple[str, str, str, str]]:
    """Of each session that ended: its stream, why, by whom, through which door."""
    told = doors.events("session.closed")
    return [(one.stream, one.event.reason, one.actor, one.door) for one in told if isinstance(one.event, SessionClosed)]


async def test_my_sessions_are_listed_the_newest_first_and_nobody_elses(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        await doors.register()
        await doors.register(**BERTA)
        first = await doors.log_in()
        berta = await doors.log_in(identifier="berta")
        doors.house.clock.pass_by(minutes=90)
        await doors.get("/api/session", first)
        elsewhere = Client("route-v2", "2001:db8::7", None)
        second = (await doors.house.gate.log_in(elsewhere, LOGIN["identifier"], LOGIN["password"])).token
        await doors.house.guests.admit(Client("auth-server", "192.0.2.7", "x"))
        assert await listed(doors, first) == [
            {
                "id": id_of(second),
                "opened_at": "2026-11-21T13:30:00Z",
                "seen_at": "2026-11-21T13:30:00Z",
                "expires_at": "2026-11-22T13:30:00Z",
                "door": "route-v2",
                "address": "2001:db8::7",
                "agent": None,
                "current": False,
            },
            {
                "id": id_of(first),
                "opened_at": "2026-11-21T12:00:00Z",
                "seen_at": "2026-11-21T13:30:00Z",
                "expires_at": "2026-11-22T12:00:00Z",
                "door": "account-api",
                "address": "127.0.0.1",
                "agent": AGENT,
                "current": True,
            },
        ]
        assert [(one["id"], one["current"]) for one in await listed(doors, second)] == [
            (id_of(second), True),
            (id_of(first), False),
        ]
        assert await ids(doors, berta) == [id_of(berta)]


async def test_there_may_be_more_than_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.web.sessions.PAGE", 2)
    async with web(tmp_path) as doors:
        await doors.register()
        tokens = [await doors.log_in() for _ in range(5)]
        assert await ids(doors, tokens[2]) == sorted(map(id_of, tokens), reverse=True)


async def test_what_is_over_by_the_clock_is_not_listed_nor_ended(tmp_path: Path) -> None:
    async with web(tmp_path, settings=GateSettings(session_lifetime=timedelta(hours=2))) as doors:
        await doors.register()
        first = await doors.log_in()
        doors.house.clock.pass_by(hours=1)
        second, third = await doors.log_in(), await doors.log_in()
        assert len(await ids(doors, second)) == 3
        doors.house.clock.pass_by(hours=1)
        # Nobody has cleared it away yet.
        assert doors.house.book.document(SESSIONS, str(id_of(first))) is not None
        assert await ids(doors, second) == [id_of(third), id_of(second)]
        assert (await end(doors, id_of(first), second)).status_code == 404
        assert await end_others(doors, second) == 1
        assert [stream for stream, *_ in endings(doors)] == [f"session-{id_of(third)}"]


async def test_what_was_idle_for_too_long_is_not_listed_nor_ended(tmp_path: Path) -> None:
    settings = GateSettings(idle_limit=timedelta(hours=3), seen_interval=timedelta(hours=1))
    async with web(tmp_path, settings=settings) as doors:
        await doors.register()
        idle, used = await doors.log_in(), await doors.log_in()
        for _ in range(3):
            doors.house.clock.pass_by(hours=1)
            assert await is_good(doors, used)
        assert await ids(doors, used) == [id_of(used)]
        assert (await end(doors, id_of(idle), used)).status_code == 404
        assert await end_others(doors, used) == 0


async def test_another_session_of_mine_is_revoked_and_the_others_live_on(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        await doors.register()
        lost, mine, other = [await doors.log_in() for _ in range(3)]
        answer = await end(doors, id_of(lost), mine)
        assert (answer.status_code, answer.content) == (204, b"")
        assert [await is_good(doors, token) for token in (lost, mine, other)] == [False, True, True]
        assert endings(doors) == [(f"session-{id_of(lost)}", "revoked", "user-1", "account-api")]
        assert id_of(lost) not in await ids(doors, mine)


async def test_ending_the_present_session_is_a_logout(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        await doors.register()
        mine, other = await doors.log_in(), await doors.log_in()
        assert (await end(doors, id_of(mine), mine)).status_code == 204
        assert [await is_good(doors, token) for token in (mine, other)] == [False, True]
        assert endings(doors) == [(f"session-{id_of(mine)}", "logout", "user-1", "account-api")]


async def test_with_the_cookie_it_is_the_same_and_another_sites_page_is_refused(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        await doors.register()
        token, other = await doors.log_in(), await doors.log_in()
        mine, cookie = id_of(token), doors.house.cookies.seal(CookieClaims(at=token, user_id=1, guest=0))
        shown = {"Cookie": f"{doors.cookies.name}={cookie}"}
        sessions = (await doors.client.get("/api/sessions", headers=shown)).json()["sessions"]
        assert [(one["id"], one["current"]) for one in sessions] == [(id_of(other), False), (mine, True)]
        for path in ("/api/sessions", f"/api/sessions/{id_of(other)}", f"/api/sessions/{mine}"):
            refused = await doors.client.delete(path, headers=shown | {"Sec-Fetch-Site": "cross-site"})
            assert (refused.status_code, refused.json()["error"]["code"]) == (403, "cross_site")
        assert endings(doors) == []
        answer = await doors.client.delete(f"/api/sessions/{id_of(other)}", headers=shown)
        assert (answer.status_code, answer.headers.get_list("Set-Cookie")) == (204, [])
        answer = await doors.client.delete(f"/api/sessions/{mine}", headers=shown)
        assert answer.status_code == 204
        assert "Max-Age=0" in answer.headers["Set-Cookie"]
        assert [(stream, reason) for stream, reason, *_ in endings(doors)] == [
            (f"session-{id_of(other)}", "revoked"),
            (f"session-{mine}", "logout"),
        ]


async def test_what_is_no_session_of_mine_is_not_found_and_nothing_tells_why(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        await doors.register()
        await doors.register(**BERTA)
        mine, over, berta = await doors.log_in(), await doors.log_in(), await doors.log_in(identifier="berta")
        guest = (await doors.house.guests.admit(Client("auth-server", "192.0.2.7", "x"))).guest.session.id
        await end(doors, id_of(over), mine)
        before = len(doors.events())
        sought = [id_of(berta), guest, id_of(over), 1, 99, 2**63 - 1, 2**63, 10**40, 0, -1, "01", "1.0", "x", "%D9%A1"]
        answers = [await end(doors, one, mine) for one in [*sought, over, "%00", "1%7C"]]
        assert {answer.status_code for answer in answers} == {404}
        assert len({answer.text for answer in answers}) == 1
        told = [{name: value for name, value in answer.headers.items() if name != "date"} for answer in answers]
        assert all(one == told[0] for one in told)
        assert answers[0].json()["error"]["code"] == "not_found"
        assert len(doors.events()) == before
        assert await is_good(doors, berta)


async def test_all_others_end_and_the_present_one_lives_on(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        await doors.register()
        await doors.register(**BERTA)
        first, mine, third = [await doors.log_in() for _ in range(3)]
        berta = await doors.log_in(identifier="berta")
        assert await end_others(doors, mine) == 2
        assert [await is_good(doors, one) for one in (first, mine, third, berta)] == [False, True, False, True]
        assert endings(doors) == [
            (f"session-{id_of(first)}", "revoked", "user-1", "account-api"),
            (f"session-{id_of(third)}", "revoked", "user-1", "account-api"),
        ]
        before = len(doors.events())
        assert await end_others(doors, mine) == 0
        assert len(doors.events()) == before
        assert await ids(doors, mine) == [id_of(mine)]


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/api/sessions"), ("DELETE", "/api/sessions"), ("DELETE", "/api/sessions/{}")],
)
async def test_a_session_of_an_account_is_needed(tmp_path: Path, method: str, path: str) -> None:
    async with web(tmp_path) as doors:
        await doors.register()
        token = await doors.log_in()
        guest = await doors.house.guests.admit(Client("auth-server", "192.0.2.7", "x"))
        path = path.format(id_of(token))
        for presented in (None, "x", guest.token, token[:-1], f"9{token}"):
            answer = await doors.ask(method, path, token=presented)
            assert (answer.status_code, answer.json()["error"]["code"]) == (401, "unauthenticated")
        assert endings(doors) == []


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/api/sessions?user=2"), ("DELETE", "/api/sessions?but=2"), ("DELETE", "/api/sessions/2?force=1")],
)
async def test_parameters_are_refused_not_passed_over(tmp_path: Path, method: str, path: str) -> None:
    async with web(tmp_path) as doors:
        await doors.register()
        token = await doors.log_in()
        await doors.log_in()
        answer = await doors.ask(method, path, token=token)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "malformed")
        assert endings(doors) == []


@pytest.mark.parametrize("kind", [EndOtherSessions, EndOwnSession], ids=["all others", "one"])
async def test_whoever_is_put_out_meanwhile_ends_nothing(
    tmp_path: Path, kind: type[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with web(tmp_path) as doors:
        await doors.register()
        stolen, mine = await doors.log_in(), await doors.log_in()
        submit = doors.house.writer.submit

        async def overtaken(command: Command, **given: Any) -> Sequence[Recorded]:
            # Who asks has been looked up, and their command is on its way: now they are put out.
            if type(command) is kind:
                await submit(EndSession(id_of(stolen), 1, "revoked"), actor="operator", door="test")
            return await submit(command, **given)

        monkeypatch.setattr(doors.house.writer, "submit", overtaken)
        path = "/api/sessions" if kind is EndOtherSessions else f"/api/sessions/{id_of(mine)}"
        answer = await doors.ask("DELETE", path, token=stolen)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "unauthenticated")
        assert await is_good(doors, mine)


async def test_an_address_that_cannot_be_opened_hides_no_session(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with web(tmp_path) as doors:
        await doors.register()
        token = await doors.log_in()
        keys = doors.house.book.keys
        wrapped = keys.subject_keys([1])[1]
        keys.put_subject_keys({1: wrapped[:-1] + bytes([wrapped[-1] ^ 1])})
        [one] = await listed(doors, token)
        assert (one["id"], one["address"], one["agent"], one["current"]) == (id_of(token), None, None, True)
        assert "seal_broken" in "".join(capsys.readouterr())


async def test_where_sessions_cannot_be_read_nobody_is_told_that_there_are_none(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        await doors.register()
        token = await doors.log_in()

        def gone() -> Any:
            raise StoreUnavailableError("the disk is gone")

        doors.readers._open_book = gone
        answer = await doors.get("/api/sessions", token)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")
        assert "disk" not in answer.text


async def test_no_token_and_no_digest_of_one_is_told(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        await doors.register()
        tokens = [await doors.log_in() for _ in range(2)]
        said = (await doors.get("/api/sessions", tokens[0])).text
        digests = [doors.house.book.document(SESSIONS, str(id_of(one))).token_digest for one in tokens]
        assert [one for one in [*digests, *(token.partition("|")[2] for token in tokens)] if one in said] == []
