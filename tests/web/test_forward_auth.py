"""Forward authentication: what a proxy is told, whoever is behind it, and what it is not."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest

from service.decisions.administration import Deactivate
from tests.web.serving import Web, web
from tests.web.test_access_tokens import CLIENT, by_cookie, refused, rotate, token_of
from tests.web.test_account import Broken

VERIFY = "/verify"
NAMES = {
    "zoëzoë": "zo%C3%ABzo%C3%AB",
    "a.b-c_d~e": "a.b-c_d~e",
    "a/b%0d?c": "a%2Fb%250d%3Fc",
    "дарья": "%D0%B4%D0%B0%D1%80%D1%8C%D1%8F",
}
TOLD = ("X-User-Id", "X-User-Name", "X-User-Level", "X-Session-Id")


def told(answer: httpx.Response) -> list[str]:
    """What a 204 tells, which no cache keeps."""
    assert answer.status_code == 204, answer.text
    assert answer.content == b""
    assert answer.headers["Cache-Control"] == "no-store"
    assert all(len(answer.headers.get_list(name)) == 1 for name in TOLD)
    return [answer.headers[name] for name in TOLD]


def tells_nothing(answer: httpx.Response, status: int, code: str) -> None:
    refused(answer, status, code)
    assert not any(name in answer.headers for name in TOLD)


async def asked(doors: Web, headers: dict[str, str], *more: tuple[str, str]) -> httpx.Response:
    return await doors.client.get(VERIFY, headers=[*headers.items(), *more])


async def test_a_proxy_is_told_who_it_is_by_all_three(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        user_id, session = await doors.register(), await doors.log_in()
        expected = [str(user_id), "alice", "1", session.partition("|")[0]]
        assert told(await doors.get(VERIFY, session)) == expected
        assert told(await doors.get(VERIFY, await token_of(doors, session))) == expected
        assert told(await asked(doors, by_cookie(doors, session, user_id))) == expected
        assert told(await doors.get(VERIFY, await doors.admin()))[2] == "2"


async def test_no_name_ends_a_header(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        for number, (name, written) in enumerate(NAMES.items()):
            await doors.register(username=name, nickname=f"nick{number}", email=None)
            session = await doors.log_in(identifier=name)
            [_, shown, _, _] = told(await doors.get(VERIFY, session))
            assert shown == written
            assert re.fullmatch(r"(?:[A-Za-z0-9_.~-]|%[0-9A-F]{2})+", shown)


async def test_who_is_nobody_is_told_of_by_nothing(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        user_id, session = await doors.register(), await doors.log_in()
        token = await token_of(doors, session)
        admitted = await doors.house.guests.admit(CLIENT)
        for shown in (
            "7|" + "A" * 40,
            token[:-1] + ("Q" if token[-1] == "A" else "A"),
            "a.b.c",
            "...",
            admitted.token,
            "x" * 3000,
        ):
            tells_nothing(await asked(doors, {"Authorization": f"Bearer {shown}"}), 401, "unauthenticated")
        tells_nothing(await asked(doors, {}), 401, "unauthenticated")
        tells_nothing(await asked(doors, {"Authorization": "Basic YTpi"}), 401, "unauthenticated")
        guest = by_cookie(doors, admitted.token, admitted.guest.session.id, guest=True)
        tells_nothing(await asked(doors, guest), 401, "unauthenticated")
        # A header that is no good is not passed over for the cookie; two of them are no good.
        bad = by_cookie(doors, session, user_id, {"Authorization": "Bearer x"})
        tells_nothing(await asked(doors, bad), 401, "unauthenticated")
        twice = {"Authorization": f"Bearer {session}"}, ("Authorization", f"Bearer {session}")
        tells_nothing(await asked(*(doors, *twice)), 401, "unauthenticated")
        assert (await asked(doors, {})).headers["WWW-Authenticate"] == 'Bearer realm="gatebook"'
        assert 'error="invalid_token"' in (await doors.get(VERIFY, "x.y.z")).headers["WWW-Authenticate"]


@pytest.mark.parametrize("ending", ["logged out", "deactivated", "run out", "rotated at once"])
async def test_what_is_over_is_over_though_the_token_has_not_run_out(tmp_path: Path, ending: str) -> None:
    async with web(tmp_path) as doors:
        user_id, session = await doors.register(), await doors.log_in()
        doors.house.clock.pass_by(hours=23, minutes=58)
        token = await token_of(doors, session)
        told(await doors.get(VERIFY, token))
        match ending:
            case "logged out":
                await doors.ask("DELETE", "/api/session", token=session)
            case "deactivated":
                await doors.house.writer.submit(Deactivate(user_id), actor="operator", door="command-line")
            case "run out":
                doors.house.clock.pass_by(minutes=2)
            case _:
                await rotate(doors, at_once=True)
        tells_nothing(await doors.get(VERIFY, token), 401, "unauthenticated")


async def test_a_token_of_before_a_rotation_counts_until_it_has_run_out(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        await doors.register()
        token = await token_of(doors, await doors.log_in())
        await rotate(doors)
        told(await doors.get(VERIFY, token))
        doors.house.clock.pass_by(minutes=4, seconds=59)
        told(await doors.get(VERIFY, token))
        doors.house.clock.pass_by(seconds=1)
        tells_nothing(await doors.get(VERIFY, token), 401, "unauthenticated")


@pytest.mark.parametrize(
    ("method", "more", "passes"),
    [
        ({"X-Forwarded-Method": "GET"}, {"Sec-Fetch-Site": "cross-site"}, True),
        ({"X-Forwarded-Method": "HEAD"}, {"Origin": "https://evil.example"}, True),
        ({"X-Forwarded-Method": "OPTIONS"}, {"Origin": "null"}, True),
        ({"X-Forwarded-Method": "POST"}, {"Sec-Fetch-Site": "same-origin"}, True),
        ({"X-Forwarded-Method": "POST"}, {"Sec-Fetch-Site": "none"}, True),
        ({"X-Forwarded-Method": "POST"}, {}, True),
        ({"X-Forwarded-Method": "POST"}, {"Origin": "https://partner.example"}, True),
        ({"X-Forwarded-Method": "POST"}, {"Sec-Fetch-Site": "cross-site"}, False),
        ({"X-Forwarded-Method": "POST"}, {"Sec-Fetch-Site": "same-site"}, False),
        ({"X-Forwarded-Method": "POST"}, {"Origin": "https://evil.example"}, False),
        ({"X-Forwarded-Method": "DELETE"}, {"Origin": "null"}, False),
        ({"X-Forwarded-Method": "PROPFIND"}, {"Sec-Fetch-Site": "cross-site"}, False),
        ({"X-Forwarded-Method": "get"}, {"Sec-Fetch-Site": "cross-site"}, False),
        ({"X-Forwarded-Method": "GET, POST"}, {"Sec-Fetch-Site": "cross-site"}, False),
        ({"X-Forwarded-Method": ""}, {"Sec-Fetch-Site": "cross-site"}, False),
        # Nobody says what it is: it may be anything.
        ({}, {"Sec-Fetch-Site": "cross-site"}, False),
        ({}, {"Sec-Fetch-Site": "same-origin"}, True),
        # A socket is opened by a GET, and what goes over it then may be anything.
        ({"X-Forwarded-Method": "GET"}, {"Sec-Fetch-Site": "same-site", "Sec-WebSocket-Key": "x"}, False),
        ({"X-Forwarded-Method": "GET"}, {"Origin": "https://evil.example", "Sec-WebSocket-Key": "x"}, False),
        ({"X-Forwarded-Method": "GET"}, {"Sec-Fetch-Site": "same-origin", "Sec-WebSocket-Key": "x"}, True),
    ],
)
async def test_a_cookie_counts_for_what_changes_nothing_and_for_pages_of_ours(
    tmp_path: Path, method: dict[str, str], more: dict[str, str], passes: bool
) -> None:
    async with web(tmp_path, trusted=("https://partner.example",)) as doors:
        user_id, session = await doors.register(), await doors.log_in()
        answer = await asked(doors, by_cookie(doors, session, user_id) | method | more)
        if passes:
            told(answer)
        else:
            tells_nothing(answer, 403, "cross_site")
        # No browser sends a token by itself.
        told(await asked(doors, {"Authorization": f"Bearer {session}"} | method | more))


async def test_a_method_told_twice_is_told_by_nobody(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        user_id, session = await doors.register(), await doors.log_in()
        headers = by_cookie(doors, session, user_id, {"Sec-Fetch-Site": "cross-site", "X-Forwarded-Method": "GET"})
        told(await asked(doors, headers))
        tells_nothing(await asked(doors, headers, ("X-Forwarded-Method", "GET")), 403, "cross_site")


async def test_a_proxy_that_asks_uses_the_session(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        await doors.register()
        session = await doors.log_in()
        doors.house.clock.pass_by(hours=2)
        token = await token_of(doors, session)
        assert len(doors.events("session.seen")) == 1
        doors.house.clock.pass_by(hours=2)
        token = doors.house.tokens.issue(doors.house.gate.lookups.principal(session)).token
        told(await doors.get(VERIFY, token))
        [_, seen] = doors.events("session.seen")
        assert seen.door == "forward-auth"


async def test_where_nobody_can_say_nobody_is_let_in_or_sent_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with web(tmp_path) as doors:
        user_id, session = await doors.register(), await doors.log_in()
        token = await token_of(doors, session)
        cookie = by_cookie(doors, session, user_id)
        with monkeypatch.context() as broken:
            broken.setattr(doors.house.gate.lookups, "_book", Broken())
            for headers in ({"Authorization": f"Bearer {session}"}, {"Authorization": f"Bearer {token}"}, cookie):
                tells_nothing(await asked(doors, headers), 503, "unavailable")
        with monkeypatch.context() as broken:
            broken.setattr(doors.house.signing_keys, "_log", Broken())
            tells_nothing(await doors.get(VERIFY, token), 503, "unavailable")


async def test_only_asking_is_taken(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        await doors.register()
        session = await doors.log_in()
        assert (await doors.ask("POST", VERIFY, token=session)).status_code == 405
        told(await doors.ask("HEAD", VERIFY, token=session))
