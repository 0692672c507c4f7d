"""react-auth over HTTP: authenticate and resume, the cookie, and every refusal in the contract's shape."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import structlog
import trio

from events.catalogue import SessionOpened
from events.errors import StoreUnavailableError
from events.sealing import open_value
from service.credentials.cookies import CookieClaims
from service.decisions.administration import Deactivate
from service.errors import CrossSite, InternalError, Overloaded, TooLarge, Unavailable
from service.gate.attempts import Client
from tests.guards.edge import read_all, read_until
from tests.web.serving import AGENT, Web, web

AUTHENTICATE = "fantaptik/react-auth/authenticate"
RESUME = "fantaptik/react-auth/resume"
PASSWORD = "correct horse"
COOKIE = "__Host-gatebook"
NOBODY: dict[str, Any] = {"success": False, "session": "", "user": {}}
FORM = "application/x-www-form-urlencoded"
ALICE_SHOWN = {
    "username": "alice", "nickname": "Al", "level": 1, "active": True,
    "created_at": "2026-11-21T12:00:00Z", "last_contact": "2026-11-21T12:00:00Z",
}  # fmt: skip


async def post(
    found: Web,
    fields: dict[str, Any],
    *,
    cookie: str | None = None,
    as_json: bool = False,
    headers: dict[str, str] | None = None,
) -> httpx.Response:
    """One request, as the published client writes it."""
    sent = dict(headers or {})
    if cookie is not None:
        sent["Cookie"] = f"{COOKIE}={cookie}"
    if as_json:
        return await found.client.post("/react-auth", json=fields, headers=sent)
    body = "&".join(f"{name}={quote(value, safe='')}" for name, value in fields.items())
    return await found.client.post("/react-auth", content=body, headers={"Content-Type": FORM} | sent)


async def authenticate(found: Web, username: str = "alice", password: str = PASSWORD, **more: Any) -> httpx.Response:
    return await post(found, {"type": AUTHENTICATE, "username": username, "password": password}, **more)


async def resume(found: Web, cookie: str | None, **more: Any) -> httpx.Response:
    return await post(found, {"type": RESUME}, cookie=cookie, **more)


def opened(answer: httpx.Response) -> tuple[str, str]:
    """The session and the cookie of an answer of success."""
    assert answer.status_code == 200, answer.text
    assert list(answer.json()) == ["success", "session", "user"]
    assert answer.json()["success"] is True
    assert "Retry-After" not in answer.headers
    cookie, *device = answer.headers.get_list("Set-Cookie")
    assert [one.partition("=")[0] for one in device] in ([], [f"{COOKIE}-device"])
    value, *attributes = cookie.split("; ")
    assert {"Secure", "HttpOnly", "SameSite=Lax", "Path=/"} < set(attributes)
    assert value.startswith(f"{COOKIE}=")
    return answer.json()["session"], value.partition("=")[2]


def refused(answer: httpx.Response, status: int = 200) -> dict[str, Any]:
    """The answer that nobody is authenticated; what it says beyond that. The cookie stays as it is."""
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Cache-Control"] == "no-store"
    assert "Set-Cookie" not in answer.headers
    body = answer.json()
    assert list(body) == ["success", "session", "user", *(["message"] if status != 200 else [])]
    assert {name: body.pop(name) for name in NOBODY} == NOBODY
    return dict(body)


@pytest.mark.parametrize("as_json", [False, True], ids=["form", "json"])
async def test_authenticate_answers_with_session_and_user_and_sets_the_cookie(tmp_path: Path, as_json: bool) -> None:
    async with web(tmp_path) as found:
        user_id = await found.register()
        answer = await authenticate(found, as_json=as_json)
        session, cookie = opened(answer)
        assert answer.json()["user"] == {"id": user_id, **ALICE_SHOWN}
        assert found.house.gate.lookups.principal(session).user.id == user_id
        assert found.house.cookies.open(cookie) == CookieClaims(session, user_id, 0)
        assert session.partition("|")[2] not in cookie
        (recorded,) = found.events("session.opened")
        assert (recorded.door, recorded.actor) == ("react-auth", f"user-{user_id}")
        event = recorded.event
        assert isinstance(event, SessionOpened)
        assert event.address is not None
        assert open_value(event.address, found.house.book.keyring) == "127.0.0.1"
        assert event.agent is not None
        assert open_value(event.agent, found.house.book.keyring) == AGENT


async def test_any_identifier_logs_in(tmp_path: Path) -> None:
    async with web(tmp_path) as found:
        await found.register()
        for name in ("ALICE", "alice@Example.org"):
            opened(await authenticate(found, name))


@pytest.mark.parametrize("as_json", [False, True], ids=["form", "json"])
async def test_resume_answers_with_the_same_session_and_sets_the_cookie_again(tmp_path: Path, as_json: bool) -> None:
    async with web(tmp_path) as found:
        user_id = await found.register()
        session, cookie = opened(await authenticate(found))
        found.house.clock.pass_by(minutes=30)
        answer = await resume(found, cookie, as_json=as_json)
        again, sealed_again = opened(answer)
        assert again == session
        assert answer.json()["user"] == {"id": user_id, **ALICE_SHOWN}
        assert sealed_again != cookie
        assert opened(await resume(found, sealed_again))[0] == session
        assert len(found.events("session.opened")) == 1


async def test_the_cookie_lives_as_long_as_its_session(tmp_path: Path) -> None:
    async with web(tmp_path) as found:
        await found.register()
        answer = await authenticate(found)
        assert "Max-Age=86400" in answer.headers["Set-Cookie"]
        _, cookie = opened(answer)
        found.house.clock.pass_by(hours=23)
        answer = await resume(found, cookie)
        assert "Max-Age=3600" in answer.headers["Set-Cookie"]
        found.house.clock.pass_by(hours=1)
        assert refused(await resume(found, opened(answer)[1])) == {}


async def test_the_cookie_of_another_door_resumes_here(tmp_path: Path) -> None:
    async with web(tmp_path) as found:
        user_id = await found.register()
        token = await found.log_in()
        cookie = found.house.cookies.seal(CookieClaims(token, user_id, 0))
        assert opened(await resume(found, cookie))[0] == token


async def test_a_cookie_that_names_no_live_session_of_a_user_resumes_nothing(tmp_path: Path) -> None:
    async with web(tmp_path) as found:
        user_id = await found.register()
        other_id = await found.register(username="bobby", nickname="Bob", email="bob@example.org")
        session, cookie = opened(await authenticate(found))
        ended, of_ended = opened(await authenticate(found))
        client = Client("test", "192.0.2.7", None)
        await found.house.gate.log_out(client, found.house.gate.lookups.principal(ended))
        guest = await found.house.guests.admit(client)
        seal = found.house.cookies.seal
        number, secret = session.split("|")
        cookies = [
            None, "", "x", cookie[:-4], f"{cookie}AAAA", cookie.swapcase(), of_ended, session, quote(session),
            seal(CookieClaims(ended, user_id, 0)), seal(CookieClaims(session, other_id, 0)),
            seal(CookieClaims(session, user_id, 1)), seal(CookieClaims(f"{number}|{secret[::-1]}", user_id, 0)),
            seal(CookieClaims("", user_id, 0)),
            seal(CookieClaims(guest.token, guest.guest.session.id, 1)),
            seal(CookieClaims(guest.token, guest.guest.session.id, 0)), f"{cookie}; {COOKIE}={cookie}",
        ]  # fmt: skip
        for given in cookies:
            assert refused(await resume(found, given)) == {}, given
        # A bearer token is not what resume goes by.
        assert refused(await resume(found, None, headers={"Authorization": f"Bearer {session}"})) == {}
        # The guest is still who they were.
        assert found.house.gate.lookups.lives(guest.guest.session.id)
        assert opened(await resume(found, cookie))[0] == session


async def test_a_deactivated_user_neither_resumes_nor_logs_in(tmp_path: Path) -> None:
    async with web(tmp_path) as found:
        user_id = await found.register()
        _, cookie = opened(await authenticate(found))
        await found.house.writer.submit(Deactivate(user_id), actor="operator", door="test")
        assert refused(await resume(found, cookie)) == {}
        assert refused(await authenticate(found)) == {}


async def test_a_login_replaces_nothing(tmp_path: Path) -> None:
    async with web(tmp_path) as found:
        await found.register()
        first, cookie = opened(await authenticate(found))
        second, _ = opened(await authenticate(found, cookie=cookie))
        assert first != second
        assert opened(await resume(found, cookie))[0] == first
        assert found.events("session.closed") == []


async def test_a_refused_login_says_that_nobody_is_authenticated_and_not_why(tmp_path: Path) -> None:
    async with web(tmp_path) as found:
        await found.register()
        _, cookie = opened(await authenticate(found))
        for username, password in (
            ("alice", f"{PASSWORD}!"), ("nobody", PASSWORD), ("", ""), ("alice", ""), ("", PASSWORD), ("\0", "\0"),
            ("x" * 5_000, "y" * 5_000), ("a b", PASSWORD), ("nobody@example.org", PASSWORD),
        ):  # fmt: skip
            assert refused(await authenticate(found, username, password)) == {}
        for fields in ({}, {"username": "alice"}, {"password": PASSWORD}):
            for as_json in (False, True):
                assert refused(await post(found, {"type": AUTHENTICATE, **fields}, as_json=as_json)) == {}
        # Whoever held a session holds it still.
        opened(await resume(found, cookie))


async def test_a_throttled_login_is_the_same_with_when_to_try_again(tmp_path: Path) -> None:
    async with web(tmp_path) as found:
        await found.register()
        for _ in range(5):
            answer = await authenticate(found, password="wrong")
            assert refused(answer) == {}
            assert "Retry-After" not in answer.headers
        answer = await authenticate(found)
        assert refused(answer) == {}
        assert int(answer.headers["Retry-After"]) >= 1
        found.house.clock.pass_by(seconds=int(answer.headers["Retry-After"]))
        opened(await authenticate(found))


MALFORMED: list[tuple[str, str]] = [
    (FORM, ""),
    (FORM, "username=alice&password=x"),
    (FORM, "type=x&username=alice&password=x"),
    (FORM, "type=fantaptik/react-auth/socket/resume"),
    (FORM, f"type={AUTHENTICATE}&type={AUTHENTICATE}&username=alice&password=x"),
    (FORM, f"type={AUTHENTICATE}&username=alice&username=alice&password=x"),
    (FORM, f"type={AUTHENTICATE}&username=alice&password=%FF"),
    ("application/json", ""),
    ("application/json", "{"),
    ("application/json", "[]"),
    ("application/json", "{}"),
    ("application/json", '{"type":1}'),
    ("application/json", '{"type":"x"}'),
    ("application/json", f'{{"type":"{AUTHENTICATE}","username":1,"password":"x"}}'),
    ("application/json", f'{{"type":"{AUTHENTICATE}","username":"alice","password":null}}'),
    ("application/json", f'{{"type":"{AUTHENTICATE}","type":"{AUTHENTICATE}"}}'),
    ("application/json", f'{{"type":"{RESUME}","x":{"[" * 40}{"]" * 40}}}'),
]


@pytest.mark.parametrize(("kind", "body"), MALFORMED)
async def test_what_is_malformed_is_400_in_the_contracts_shape(tmp_path: Path, kind: str, body: str) -> None:
    async with web(tmp_path) as found:
        await found.register()
        answer = await found.client.post("/react-auth", content=body.encode(), headers={"Content-Type": kind})
        assert refused(answer, 400)["message"]
        assert found.events("login.failed") == []


@pytest.mark.parametrize("kind", ["text/plain", "multipart/form-data; boundary=x", f"{FORM}; charset=latin-1", None])
async def test_what_is_neither_form_nor_json_is_415_in_the_contracts_shape(tmp_path: Path, kind: str | None) -> None:
    async with web(tmp_path) as found:
        headers = {} if kind is None else {"Content-Type": kind}
        answer = await found.client.post("/react-auth", content=f"type={RESUME}".encode(), headers=headers)
        assert "form or JSON" in refused(answer, 415)["message"]


async def test_what_is_too_large_is_413_in_the_contracts_shape(tmp_path: Path) -> None:
    async with web(tmp_path, body_bytes=100) as found:
        answer = await authenticate(found, password="x" * 100)
        assert refused(answer, 413) == {"message": TooLarge.message}


async def test_the_listener_speaks_in_the_shape_of_the_address_and_of_no_earlier_one(tmp_path: Path) -> None:
    async with web(tmp_path) as found, await trio.open_tcp_stream("127.0.0.1", found.port) as stream:
        head = f"POST /react-auth?x=1 HTTP/1.1\r\nHost: x\r\nContent-Type: {FORM}\r\n"
        await stream.send_all(f"{head}Content-Length: 0\r\n\r\n".encode())
        assert b'"success":false' in await read_until(stream, b"}")
        # The same connection, and nobody knows what this is for.
        await stream.send_all(b"\0\r\n\r\n")
        assert (await read_all(stream)).endswith(b'"message":"This is not a well-formed HTTP/1.1 request."}}')
        for target in ("/react-auth?x=1", f"http://127.0.0.1:{found.port}/react-auth"):
            async with await trio.open_tcp_stream("127.0.0.1", found.port) as other:
                await other.send_all(f"POST {target} HTTP/1.1\r\nHost: x\r\nContent-Length: 70000\r\n\r\n".encode())
                answer = (await read_all(other)).partition(b"\r\n\r\n")[2]
                assert (
                    answer
                    == b'{"success":false,"session":"","user":{},"message":"The body of the request is too large."}'
                )


@pytest.mark.parametrize("what", [AUTHENTICATE, RESUME])
async def test_another_sites_page_is_refused_before_anything_else(tmp_path: Path, what: str) -> None:
    async with web(tmp_path, trusted=("https://partner.example.org",)) as found:
        await found.register()
        _, cookie = opened(await authenticate(found))
        fields = {"type": what, "username": "alice", "password": PASSWORD}
        for headers in (
            {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "null"},
            {"Origin": "https://evil.example.org"}, {"Sec-Fetch-Site": "cross-site", "Origin": "http://127.0.0.1"},
        ):  # fmt: skip
            answer = await post(found, fields, cookie=cookie, headers=headers)
            assert refused(answer, 403) == {"message": CrossSite.message}
        assert refused(await post(found, {"type": "x"}, headers={"Sec-Fetch-Site": "cross-site"}), 403)
        assert len(found.events("session.opened")) == 1
        ours = f"http://127.0.0.1:{found.port}"
        for headers in (
            {"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}, {"Origin": ours},
            {"Origin": "https://partner.example.org", "Sec-Fetch-Site": "cross-site"},
        ):  # fmt: skip
            opened(await post(found, fields, cookie=cookie, headers=headers))


@pytest.mark.parametrize("refusal", [Overloaded("hashing"), Unavailable("no room: /secret/path")], ids=repr)
async def test_what_cannot_be_decided_is_503_and_leaves_the_cookie(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: Overloaded | Unavailable
) -> None:
    async with web(tmp_path) as found:
        await found.register()
        _, cookie = opened(await authenticate(found))

        def nobody_knows(*_: object, **__: object) -> None:
            raise refusal

        with monkeypatch.context() as patched:
            patched.setattr(found.house.gate, "log_in", nobody_knows)
            patched.setattr(found.house.gate.lookups, "holder", nobody_knows)
            for answer in (await authenticate(found), await resume(found, cookie)):
                assert refused(answer, 503) == {"message": refusal.message}
                assert answer.headers["Retry-After"] == str(refusal.retry_after)
        opened(await resume(found, cookie))


async def test_no_session_is_opened_that_no_cookie_could_tell_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with web(tmp_path) as found:
        await found.register()

        def unreadable(_: str) -> dict[str, bytes]:
            raise StoreUnavailableError("no keys")

        with monkeypatch.context() as broken:
            broken.setattr(found.house.book.keyring, "service_keys", unreadable)
            answer = await authenticate(found)
        assert (answer.status_code, answer.json()["success"]) == (503, False)
        assert "Set-Cookie" not in answer.headers
        assert found.events("session.opened") == []


async def test_a_fault_of_ours_is_500_in_the_contracts_shape(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with web(tmp_path) as found:

        async def fail(*_: object, **__: object) -> None:
            raise RuntimeError(PASSWORD)

        monkeypatch.setattr(found.house.gate, "log_in", fail)
        with structlog.testing.capture_logs() as lines:
            assert refused(await authenticate(found), 500) == {"message": InternalError.message}
        assert [line["event"] for line in lines] == ["request_failed"]
        assert PASSWORD not in repr(lines)


async def test_refusals_and_seconds_are_counted_by_door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with web(tmp_path) as found:
        await found.register()
        opened(await authenticate(found))
        refused(await authenticate(found, password="wrong"))
        refused(await resume(found, None))
        refused(await post(found, {"type": "x"}), 400)
        refused(await post(found, {"type": RESUME}, headers={"Origin": "null"}), 403)
        monkeypatch.setattr(found.house.gate, "log_in", None)
        refused(await authenticate(found), 500)

        def counted(name: str, **labels: str) -> float | None:
            return found.metrics.registry.get_sample_value(f"gatebook_{name}", {"door": "react-auth", **labels})

        codes = ["bad_credentials", "unauthenticated", "malformed", "cross_site", "internal_error"]
        assert [counted("refusals_total", code=code) for code in codes] == [1] * 5
        assert counted("request_seconds_count") == 6


async def test_other_methods_are_not_taken(tmp_path: Path) -> None:
    async with web(tmp_path) as found:
        for method in ("GET", "PUT", "DELETE"):
            answer = await found.ask(method, "/react-auth")
            assert (answer.status_code, answer.headers["Allow"]) == (405, "OPTIONS, POST")


async def test_a_session_that_is_resumed_is_noted_once_an_hour(tmp_path: Path) -> None:
    async with web(tmp_path) as found:
        await found.register()
        _, cookie = opened(await authenticate(found))
        opened(await resume(found, cookie))
        assert found.events("session.seen") == []
        found.house.clock.pass_by(hours=1)
        for _ in range(2):
            opened(await resume(found, cookie))
        await found.house.writer.submit(Deactivate(await found.register(**BOB)), actor="operator", door="test")
        assert [one.door for one in found.events("session.seen")] == ["react-auth"]


BOB = {"username": "bobby", "nickname": "Bob", "email": "bob@example.org"}
