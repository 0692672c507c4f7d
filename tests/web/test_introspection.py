"""Introspection: what a token is worth at this moment, for clients of ours and nobody else."""

from __future__ import annotations

import base64
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.decisions.administration import Deactivate, SetLevel
from tests.house import NAMED
from tests.web.serving import Web, web
from tests.web.test_access_tokens import CLIENT, rotate, token_of
from tests.web.test_account import Broken

SECRET = "5f" * 32
SHOP = f"shop:{sha256(SECRET.encode()).hexdigest()}"
PATH = "/api/introspect"
CHALLENGE = 'Basic realm="gatebook", charset="UTF-8"'


def basic(name: str = "shop", secret: str = SECRET) -> dict[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(f'{name}:{secret}'.encode()).decode()}"}


async def ask(doors: Web, token: str, **more: str) -> httpx.Response:
    return await doors.client.post(PATH, data={"token": token, **more}, headers=basic())


async def told(doors: Web, token: str, **more: str) -> dict[str, Any]:
    answer = await ask(doors, token, **more)
    assert answer.status_code == 200, answer.text
    assert answer.headers["Cache-Control"] == "no-store"
    found: dict[str, Any] = answer.json()
    return found


def refused(answer: httpx.Response, status: int, error: str) -> None:
    assert (answer.status_code, answer.json()["error"]) == (status, error), answer.text
    assert answer.json().keys() == {"error", "error_description"}
    assert "no-store" in answer.headers["Cache-Control"]
    assert answer.headers.get("WWW-Authenticate") == (CHALLENGE if status == 401 else None)


async def test_of_an_access_token_everything_is_told(tmp_path: Path) -> None:
    async with web(tmp_path, clients=(SHOP,)) as doors:
        user_id, session = await doors.register(), await doors.log_in()
        token = await token_of(doors, session)
        now = int(doors.house.clock().timestamp())
        said = await told(doors, token, token_type_hint="access_token", something="else")
        assert said | {"jti": "…"} == {
            "active": True, "token_type": "Bearer", "iss": NAMED.issuer, "aud": NAMED.audience, "sub": str(user_id),
            "client_id": "gatebook", "sid": session.partition("|")[0], "jti": "…", "iat": now, "nbf": now,
            "exp": now + 300, "username": "alice", "level": 1,
        }  # fmt: skip


async def test_of_a_session_token_who_it_is_and_until_when(tmp_path: Path) -> None:
    async with web(tmp_path, clients=(SHOP,)) as doors:
        user_id, session = await doors.register(), await doors.log_in()
        now = int(doors.house.clock().timestamp())
        assert await told(doors, session) == {
            "active": True, "token_type": "Bearer", "iss": NAMED.issuer, "sub": str(user_id),
            "sid": session.partition("|")[0], "iat": now, "exp": now + 86_400, "username": "alice", "level": 1,
        }  # fmt: skip


async def test_the_answer_is_that_of_this_moment(tmp_path: Path) -> None:
    async with web(tmp_path, clients=(SHOP,)) as doors:
        user_id, session = await doors.register(), await doors.log_in()
        token = await token_of(doors, session)
        await doors.house.writer.submit(SetLevel(user_id, 2), actor="operator", door="command-line")
        assert [(await told(doors, one))["level"] for one in (session, token)] == [2, 2]


@pytest.mark.parametrize("ending", ["logged out", "deactivated", "run out"])
async def test_of_a_session_that_is_over_no_token_is_active(tmp_path: Path, ending: str) -> None:
    async with web(tmp_path, clients=(SHOP,)) as doors:
        user_id, session = await doors.register(), await doors.log_in()
        doors.house.clock.pass_by(hours=23, minutes=58)
        token = await token_of(doors, session)
        assert (await told(doors, token))["active"] is True
        match ending:
            case "logged out":
                await doors.ask("DELETE", "/api/session", token=session)
            case "deactivated":
                await doors.house.writer.submit(Deactivate(user_id), actor="operator", door="command-line")
            case _:
                doors.house.clock.pass_by(minutes=2)
        assert await told(doors, token) == {"active": False}
        assert await told(doors, session) == {"active": False}


async def test_of_what_is_no_token_nothing_is_told(tmp_path: Path) -> None:
    async with web(tmp_path, clients=(SHOP,)) as doors:
        await doors.register()
        session = await doors.log_in()
        token = await token_of(doors, session)
        admitted = await doors.house.guests.admit(CLIENT)
        for shown in (
            "x", "7|" + "A" * 40, f"{session[:-1]}!", f" {session}", token[:-2], f"{token}.", "..", "a.b.c", "\0", "é.",
            admitted.token, "x" * 60_000, "." * 60_000, "1|" * 1000, "' OR 1=1 --",
        ):  # fmt: skip
            assert await told(doors, shown) == {"active": False}, shown[:80]
        await rotate(doors, at_once=True)
        assert await told(doors, token) == {"active": False}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        basic("nobody"),
        basic("shop", "wrong"),
        basic("shop", ""),
        basic("", ""),
        basic("shop", sha256(SECRET.encode()).hexdigest()),
        {"Authorization": f"Bearer {SECRET}"},
        {"Authorization": SECRET},
        {"Authorization": "Basic"},
        {"Authorization": "Basic !!!!"},
        {"Authorization": f"Basic {base64.b64encode(b'shop').decode()}"},
        {"Authorization": f"Basic {base64.b64encode(bytes([255, 254, 58])).decode()}"},
        {"Authorization": f"{basic()['Authorization']} x"},
    ],
)
async def test_whoever_is_no_client_is_told_nothing(tmp_path: Path, headers: dict[str, str]) -> None:
    async with web(tmp_path, clients=(SHOP,)) as doors:
        await doors.register()
        session = await doors.log_in()
        refused(await doors.client.post(PATH, data={"token": session}, headers=headers), 401, "invalid_client")
        # Nor whether the form is one.
        refused(await doors.client.post(PATH, content=b"{}", headers=headers), 401, "invalid_client")


async def test_no_session_does_for_a_client_an_admins_neither(tmp_path: Path) -> None:
    async with web(tmp_path, clients=(SHOP,)) as doors:
        admin = await doors.admin()
        for shown in (admin, await token_of(doors, admin)):
            headers = {"Authorization": f"Bearer {shown}"}
            refused(await doors.client.post(PATH, data={"token": admin}, headers=headers), 401, "invalid_client")
        two = [*basic().items(), *basic().items()]
        refused(await doors.client.post(PATH, data={"token": admin}, headers=two), 401, "invalid_client")


async def test_without_clients_nobody_is_told_anything(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        await doors.register()
        session = await doors.log_in()
        for headers in (basic(), basic("", ""), {}):
            refused(await doors.client.post(PATH, data={"token": session}, headers=headers), 401, "invalid_client")


FORM = "application/x-www-form-urlencoded"


@pytest.mark.parametrize(
    ("body", "media", "status"),
    [
        (b"", FORM, 400),
        (b"token=", FORM, 400),
        (b"token_type_hint=access_token", FORM, 400),
        (b"token=a&token=b", FORM, 400),
        (b"token=%FF", FORM, 400),
        (b"token=\xff", FORM, 400),
        (b"&".join(b"a%d=" % number for number in range(200)), FORM, 400),
        (b'{"token": "a"}', "application/json", 415),
        (b"token=a", "text/plain", 415),
        (b"token=a", "multipart/form-data; boundary=x", 415),
        (b"token=" + b"a" * 70_000, FORM, 413),
    ],
)
async def test_what_is_no_request_is_refused_in_the_shape_of_the_rfc(
    tmp_path: Path, body: bytes, media: str, status: int
) -> None:
    async with web(tmp_path, clients=(SHOP,)) as doors:
        answer = await doors.client.post(PATH, content=body, headers=basic() | {"Content-Type": media})
        refused(answer, status, "invalid_request")


async def test_a_form_that_is_too_large_is_refused_under_any_listener(tmp_path: Path) -> None:
    async with web(tmp_path, clients=(SHOP,), body_bytes=100) as doors:
        refused(await ask(doors, "x" * 100), 413, "invalid_request")


async def test_where_nobody_can_say_no_token_is_called_inactive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with web(tmp_path, clients=(SHOP,)) as doors:
        await doors.register()
        session = await doors.log_in()
        token = await token_of(doors, session)
        with monkeypatch.context() as broken:
            broken.setattr(doors.house.gate.lookups, "_book", Broken())
            for shown in (session, token):
                answer = await ask(doors, shown)
                refused(answer, 503, "temporarily_unavailable")
                assert int(answer.headers["Retry-After"]) >= 1
        with monkeypatch.context() as broken:
            broken.setattr(doors.house.tokens, "shown", None)
            refused(await ask(doors, token), 500, "server_error")


async def test_a_client_that_asks_does_not_use_the_session(tmp_path: Path) -> None:
    async with web(tmp_path, clients=(SHOP,)) as doors:
        await doors.register()
        session = await doors.log_in()
        doors.house.clock.pass_by(hours=2)
        assert (await told(doors, session))["active"] is True
        assert doors.events("session.seen") == []
