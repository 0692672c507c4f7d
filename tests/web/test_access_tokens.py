"""Access tokens over HTTP: who gets one, what it is worth where, and the keys that services verify it with."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import httpx
import jwt
import pytest

from events.errors import StoreUnavailableError
from service.credentials.cookies import CookieClaims
from service.credentials.key_terms import AHEAD
from service.decisions.keys import RotateKey
from service.gate.attempts import client_of
from service.gate.gate import GateSettings
from service.web.cookies import NAME
from tests.house import NAMED
from tests.web.serving import Web, web
from tests.web.test_account import Broken

CLIENT = client_of("auth-server", "192.0.2.1", None)
KEYS = "/.well-known/jwks.json"


async def token_of(doors: Web, session: str) -> str:
    """An access token of the session."""
    answer = await doors.ask("POST", "/api/token", token=session)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["access_token"])


async def rotate(doors: Web, *, at_once: bool = False) -> None:
    """Rotates the key as another process would."""
    command = RotateKey("access_tokens", at_once)
    await doors.house.writer.submit(command, actor="operator", door="command-line")


def by_cookie(
    doors: Web, token: str, user_id: int, more: dict[str, str] | None = None, *, guest: bool = False
) -> dict[str, str]:
    cookie = doors.house.cookies.seal(CookieClaims(token, user_id, 1 if guest else 0))
    return {"Cookie": f"{NAME}={cookie}", **(more or {})}


def refused(answer: httpx.Response, status: int, code: str) -> None:
    """The account API's shape, which no cache keeps."""
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), answer.text
    assert answer.headers["Cache-Control"] == "no-store"


def verified(token: str, keys: httpx.Response, doors: Web) -> dict[str, object]:
    """What a service makes of the token, with the keys that it was told and none of our code."""
    kid = jwt.get_unverified_header(token)["kid"]
    key = jwt.PyJWKSet.from_dict(keys.json())[kid]
    claims: dict[str, object] = jwt.decode(
        token, key, algorithms=["ES256"], issuer=NAMED.issuer, audience=NAMED.audience,
        options={"verify_exp": False, "verify_nbf": False, "verify_iat": False},
    )  # fmt: skip
    return claims


# POST /api/token.


async def test_a_session_gets_a_token_that_a_service_verifies(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        user_id, session = await doors.register(), await doors.log_in()
        head = doors.house.book.log.head()
        answer = await doors.ask("POST", "/api/token", token=session)
        assert answer.status_code == 200
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["Content-Type"] == "application/json"
        body = answer.json()
        assert list(body) == ["access_token", "token_type", "expires_in"]
        assert (body["token_type"], body["expires_in"]) == ("Bearer", 300)

        claims = verified(body["access_token"], await doors.get(KEYS), doors)
        now = int(doors.house.clock().timestamp())
        assert claims | {"jti": "…"} == {
            "iss": NAMED.issuer, "aud": NAMED.audience, "sub": str(user_id), "client_id": "gatebook",
            "sid": session.partition("|")[0], "jti": "…", "iat": now, "nbf": now, "exp": now + 300,
        }  # fmt: skip
        assert jwt.get_unverified_header(body["access_token"])["typ"] == "at+jwt"
        assert doors.house.book.log.head() == head, "it is no event"
        assert await token_of(doors, session) != body["access_token"]


async def test_a_token_does_not_outlive_its_session(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        await doors.register()
        doors.house.clock.pass_by(milliseconds=750)
        session = await doors.log_in()
        doors.house.clock.pass_by(hours=23, minutes=58)
        answer = await doors.ask("POST", "/api/token", token=session)
        assert answer.json()["expires_in"] == 120
        doors.house.clock.pass_by(minutes=1, seconds=59, milliseconds=500)
        refused(await doors.ask("POST", "/api/token", token=session), 401, "unauthenticated")
        doors.house.clock.pass_by(seconds=1)
        refused(await doors.ask("POST", "/api/token", token=session), 401, "unauthenticated")


async def test_a_token_does_not_outlive_an_idle_session_unless_it_was_seen(tmp_path: Path) -> None:
    settings = GateSettings(idle_limit=timedelta(minutes=10), seen_interval=timedelta(minutes=8))
    async with web(tmp_path, settings=settings) as doors:
        await doors.register()
        session = await doors.log_in()
        doors.house.clock.pass_by(minutes=7)
        assert (await doors.ask("POST", "/api/token", token=session)).json()["expires_in"] == 180
        doors.house.clock.pass_by(minutes=1, seconds=30)
        # This very request is noted, and so the session goes on.
        assert (await doors.ask("POST", "/api/token", token=session)).json()["expires_in"] == 300


async def test_a_cookie_gets_one_from_a_page_of_ours(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        user_id, session = await doors.register(), await doors.log_in()
        for site, status in (("same-origin", 200), ("cross-site", 403), ("same-site", 403)):
            headers = by_cookie(doors, session, user_id, {"Sec-Fetch-Site": site})
            answer = await doors.client.post("/api/token", headers=headers)
            assert answer.status_code == status, site
            assert "Access-Control-Allow-Origin" not in answer.headers
        headers = by_cookie(doors, session, user_id, {"Origin": "https://evil.example"})
        refused(await doors.client.post("/api/token", headers=headers), 403, "cross_site")


async def test_nobody_else_gets_one(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        await doors.register()
        session = await doors.log_in()
        admitted = await doors.house.guests.admit(CLIENT)
        guest = admitted.guest.session.id
        refused(await doors.ask("POST", "/api/token"), 401, "unauthenticated")
        refused(await doors.ask("POST", "/api/token", token="7|" + "A" * 40), 401, "unauthenticated")
        refused(await doors.ask("POST", "/api/token", token=admitted.token), 401, "unauthenticated")
        headers = by_cookie(doors, admitted.token, guest, guest=True)
        refused(await doors.client.post("/api/token", headers=headers), 401, "unauthenticated")
        refused(await doors.ask("POST", "/api/token?aud=else", token=session), 400, "malformed")
        refused(await doors.ask("GET", "/api/token", token=session), 405, "method_not_allowed")
        await doors.ask("DELETE", "/api/session", token=session)
        refused(await doors.ask("POST", "/api/token", token=session), 401, "unauthenticated")


async def test_an_access_token_is_no_session(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        await doors.register()
        token = await token_of(doors, await doors.admin())
        for method, path in (
            ("POST", "/api/token"), ("GET", "/api/session"), ("DELETE", "/api/session"), ("GET", "/api/sessions"),
            ("PATCH", "/api/profile"), ("GET", "/admin/api/projections"), ("POST", "/api/logout"),
        ):  # fmt: skip
            refused(await doors.ask(method, path, token=token), 401, "unauthenticated")
        answer = await doors.ask("POST", "/api/authenticate", token=token)
        assert answer.json()["at"] != token, "there it makes a guest, as any other word does"


async def test_where_nobody_can_say_nobody_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with web(tmp_path) as doors:
        await doors.register()
        session = await doors.log_in()

        def unreadable(_: str) -> dict[str, bytes]:
            raise StoreUnavailableError("no keys")

        with monkeypatch.context() as broken:
            broken.setattr(doors.house.book.keyring, "service_keys", unreadable)
            for answer in (await doors.ask("POST", "/api/token", token=session), await doors.get(KEYS)):
                refused(answer, 503, "unavailable")
                assert int(answer.headers["Retry-After"]) >= 1
        with monkeypatch.context() as broken:
            broken.setattr(doors.house.gate.lookups, "_book", Broken())
            refused(await doors.ask("POST", "/api/token", token=session), 503, "unavailable")
        await token_of(doors, session)


# The keys.


async def test_the_keys_are_public_and_nothing_else_is(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        answer = await doors.get(KEYS)
        assert answer.status_code == 200
        assert answer.headers["Content-Type"] == "application/jwk-set+json"
        assert answer.headers["Cache-Control"] == "public, max-age=60"
        assert list(answer.json()) == ["keys"]
        [key] = answer.json()["keys"]
        assert sorted(key) == ["alg", "crv", "kid", "kty", "use", "x", "y"]
        assert (key["kty"], key["crv"], key["alg"], key["use"]) == ("EC", "P-256", "ES256", "sig")
        private = doors.house.signing_keys.signing().private.private_numbers().private_value
        assert format(private, "x") not in answer.text
        assert str(private) not in answer.text


async def test_keys_that_are_known_are_not_sent_again_until_there_are_others(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        first = await doors.get(KEYS)
        tag = first.headers["ETag"]
        again = await doors.client.get(KEYS, headers={"If-None-Match": tag})
        assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", tag)
        assert again.headers["Cache-Control"] == "public, max-age=60"
        assert (await doors.client.get(KEYS, headers={"If-None-Match": '"other"'})).status_code == 200
        await rotate(doors)
        other = await doors.client.get(KEYS, headers={"If-None-Match": tag})
        assert other.status_code == 200
        assert other.headers["ETag"] != tag
        assert other.json()["keys"][:1] == first.json()["keys"]
        assert len(other.json()["keys"]) == 2


async def test_through_a_rotation_every_token_is_verified_by_the_keys_of_its_moment(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        await doors.register()
        session = await doors.log_in()
        tokens = [await token_of(doors, session)]
        before = await doors.get(KEYS)
        await rotate(doors)
        tokens.append(await token_of(doors, session))
        # Whoever remembers the keys of before verifies what is signed from now on, until the next key signs.
        verified(tokens[1], before, doors)
        doors.house.clock.now += AHEAD
        during = await doors.get(KEYS)
        tokens.append(await token_of(doors, session))
        for token in tokens[1:]:
            verified(token, during, doors)
        kids = [jwt.get_unverified_header(token)["kid"] for token in tokens]
        assert kids[0] == kids[1] != kids[2]
        doors.house.clock.pass_by(minutes=6)
        assert [key["kid"] for key in (await doors.get(KEYS)).json()["keys"]] == [kids[2]]


async def test_no_token_and_no_key_shows_in_a_repr(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        await doors.register()
        session = await doors.log_in()
        principal = doors.house.gate.lookups.principal(session)
        issued = doors.house.tokens.issue(principal)
        assert issued.token not in repr(issued)
        assert repr(issued) == "Issued(expires_in=300)"
        assert json.dumps(session) not in repr(doors.house.tokens.shown(issued.token))
