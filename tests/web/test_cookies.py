"""The cookie over HTTP: whose request it makes, what is none, and how it is set and taken back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from quart import Response

from events.errors import StoreUnavailableError
from service.credentials.cookies import CookieClaims, Cookies
from service.gate.attempts import client_of
from service.gate.gate import GateSettings
from service.gate.lookups import Holder
from service.web.cookies import NAME
from tests.house import book_in
from tests.web.serving import LOGIN, Web, web

BERTA = {"username": "berta", "nickname": "Berta", "email": "berta@example.org"}
CLEARED = "__Host-gatebook=; Max-Age=0; Secure; HttpOnly; Path=/; SameSite=Lax"


def sealed(doors: Web, token: str, user_id: int, guest: int = 0) -> str:
    """A cookie of that token, for whomever it says."""
    return doors.house.cookies.seal(CookieClaims(token, user_id, 1 if guest else 0))


def header(cookie: str, name: str = NAME) -> dict[str, str]:
    return {"Cookie": f"{name}={cookie}"}


async def alice(doors: Web) -> tuple[str, str]:
    """Registers Alice and logs her in: her token, and the cookie that says the same."""
    user_id = await doors.register()
    token = await doors.log_in()
    return token, sealed(doors, token, user_id)


async def guest(doors: Web) -> tuple[str, str]:
    """A guest's token and cookie."""
    admitted = await doors.house.guests.admit(client_of("auth-server", "192.0.2.1", None))
    session = admitted.guest.session
    return admitted.token, sealed(doors, admitted.token, session.id, 1)


async def ask(
    doors: Web, method: str, path: str, headers: dict[str, str], *more: tuple[str, str], body: Any = None
) -> httpx.Response:
    return await doors.client.request(method, path, json=body, headers=[*headers.items(), *more])


def is_no_session(answer: httpx.Response) -> bool:
    """Refused as if there were no cookie, and the cookie, whatever it is, left alone."""
    assert "set-cookie" not in answer.headers
    if answer.status_code != 401:
        return False
    assert answer.json()["error"]["code"] == "unauthenticated"
    return answer.headers["WWW-Authenticate"] == 'Bearer realm="gatebook"'


# Who asks.


async def test_a_cookie_says_who_asks(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        token, cookie = await alice(doors)
        answer = await ask(doors, "GET", "/api/session", header(cookie))
        assert answer.status_code == 200
        assert answer.json() == (await doors.get("/api/session", token)).json()
        assert "set-cookie" not in answer.headers
        answer = await ask(doors, "PATCH", "/api/profile", header(cookie), body={"nickname": "Alys"})
        assert answer.json()["user"]["nickname"] == "Alys"


async def test_other_cookies_are_nobodys_business(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        _, cookie = await alice(doors)
        for sent in (
            f"a=b; {NAME}={cookie}; c=d",
            f"a=b;{NAME}={cookie}",
            f";\t {NAME}={cookie} \t;",
            f";;; {NAME}={cookie}; =; nameless",
            # Quotes mean nothing to browsers. One who can set cookies must not hide ours between two of them.
            f'a="; {NAME}={cookie}; b="',
            f'a="{NAME}=; {NAME}={cookie}',
            f"x{NAME}=AAAA; {NAME}={cookie}; {NAME}x=AAAA; {NAME.lower()}=AAAA; {NAME} =AAAA",
        ):
            answer = await ask(doors, "GET", "/api/session", {"Cookie": sent})
            assert answer.status_code == 200, sent
        answer = await ask(doors, "GET", "/api/session", {"Cookie": "a=b"}, ("Cookie", f"{NAME}={cookie}"))
        assert answer.status_code == 200


async def test_the_admin_endpoint_takes_it_too(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        token = await doors.admin()
        _, plain = await alice(doors)
        cookie = sealed(doors, token, int(doors.events("user.registered")[0].position))
        assert (await ask(doors, "GET", "/admin/api/projections", header(cookie))).status_code == 200
        answer = await ask(doors, "GET", "/admin/api/projections", header(plain))
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "forbidden")


async def test_a_token_goes_before_the_cookie(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        _, cookie = await alice(doors)
        await doors.register(**BERTA)
        token = await doors.log_in(identifier="berta")
        answer = await ask(doors, "GET", "/api/session", header(cookie), ("Authorization", f"Bearer {token}"))
        assert answer.json()["user"]["username"] == "berta"


@pytest.mark.parametrize("said", ["", "Bearer", "Bearer nonsense", "Basic YTpi", "bearer 1|" + "a" * 40])
async def test_a_token_that_is_no_good_is_not_passed_over_for_the_cookie(tmp_path: Path, said: str) -> None:
    async with web(tmp_path) as doors:
        token, cookie = await alice(doors)
        for more in ([], [("Authorization", f"Bearer {token}")]):
            answer = await ask(doors, "GET", "/api/session", header(cookie), ("Authorization", said), *more)
            assert answer.status_code == 401
            assert answer.headers["WWW-Authenticate"] == 'Bearer realm="gatebook", error="invalid_token"'
            assert "set-cookie" not in answer.headers


async def test_a_session_is_seen_by_its_cookie(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        _, cookie = await alice(doors)
        doors.house.clock.pass_by(hours=1)
        await ask(doors, "GET", "/api/session", header(cookie))
        await doors.ask("POST", "/api/register", {**BERTA, "password": "correct horse"})
        [seen] = doors.events("session.seen")
        assert (seen.actor, seen.door) == ("user-1", "account-api")


# Guests.


async def test_a_guest_may_ask_who_they_are(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        token, cookie = await guest(doors)
        number = int(token.partition("|")[0])
        for headers in (header(cookie), {"Authorization": f"Bearer {token}"}):
            answer = await ask(doors, "GET", "/api/session", headers)
            assert answer.status_code == 200
            told = answer.json()
            moment = told["session"]["opened_at"]
            assert told["user"] == {
                "id": number, "username": None, "nickname": None, "email": None, "level": 0, "active": True,
                "created_at": moment, "last_contact": moment,
            }  # fmt: skip
            assert (told["session"]["id"], told["session"]["door"]) == (number, "auth-server")


async def test_a_guest_is_nobody_everywhere_else(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        token, cookie = await guest(doors)
        before = len(doors.events())
        for route in doors.app._routes.values():
            if route.needs > 0:
                path = route.path.replace("<name>", "users").replace("<", "").replace(">", "")
                answer = await ask(doors, route.method, path, header(cookie))
                assert is_no_session(answer), route.endpoint
                answer = await ask(doors, route.method, path, {"Authorization": f"Bearer {token}"})
                assert answer.status_code == 401, route.endpoint
        assert len(doors.events()) == before


# What is no session.


async def test_what_is_no_cookie_of_ours_is_no_session(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        token, cookie = await alice(doors)
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        with book_in(elsewhere) as book:
            foreign = Cookies(book.keyring, doors.house.clock).seal(CookieClaims(token, 1, 0))
        nothing = await ask(doors, "GET", "/api/session", {})
        assert is_no_session(nothing)
        for value in (
            "", token, f"Bearer {token}", "null", foreign, cookie[:-1], cookie[1:], cookie[:-4] + "AAA=", cookie[::-1],
            f'"{cookie}"', f"{cookie} x", "A" * 256, "A" * 10_000, "é" * 100, "\x80\xff",
        ):  # fmt: skip
            raw = {b"Cookie": f"{NAME}={value}".encode("latin-1")}
            answer = await doors.client.get("/api/session", headers=raw)
            assert is_no_session(answer), value
            assert answer.content == nothing.content


async def test_a_cookie_under_another_name_is_no_session(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        _, cookie = await alice(doors)
        for name in ("gatebook", NAME.lower(), NAME.upper(), f"{NAME} ", f"={NAME}", f"x{NAME}", "__Secure-gatebook"):
            assert is_no_session(await ask(doors, "GET", "/api/session", header(cookie, name))), name


async def test_of_several_cookies_none_counts(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        _, cookie = await alice(doors)
        for other in (cookie, "", "AAAA"):
            for pair in ((cookie, other), (other, cookie)):
                one, two = (f"{NAME}={value}" for value in pair)
                assert is_no_session(await ask(doors, "GET", "/api/session", {"Cookie": f"{one}; a=b; {two}"}))
                assert is_no_session(await ask(doors, "GET", "/api/session", {"Cookie": one}, ("Cookie", two)))


async def test_a_cookie_that_says_somebody_else_is_no_session(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        token, _ = await alice(doors)
        berta = await doors.register(**BERTA)
        anybody, _ = await guest(doors)
        number = int(anybody.partition("|")[0])
        swapped = [(token, berta, 0), (token, 1, 1), (token, 0, 0), (token, -1, 0), (anybody, number, 0)]
        swapped += [
            (anybody, 1, 1),
            (anybody, 1, 0),
            (f"{token.partition('|')[0]}|{'x' * 40}", 1, 0),
            (f"1|{token.partition('|')[2]}", 1, 0),
        ]
        for claims in swapped:
            assert is_no_session(await ask(doors, "GET", "/api/session", header(sealed(doors, *claims)))), claims


@pytest.mark.parametrize("ending", ["logout", "password", "deactivation", "expiry"])
async def test_a_cookie_is_worth_nothing_after_its_session(tmp_path: Path, ending: str) -> None:
    async with web(tmp_path) as doors:
        token, cookie = await alice(doors)
        warden = await doors.admin()
        if ending == "logout":
            await doors.ask("POST", "/api/logout", token=token)
        elif ending == "password":
            change = {"old_password": LOGIN["password"], "new_password": "another horse"}
            answer = await doors.ask("PATCH", "/api/profile", change, token=await doors.log_in())
            assert answer.status_code == 200
        elif ending == "deactivation":
            answer = await doors.ask("POST", "/admin/api/users/1/deactivate", {"reason": "gone"}, token=warden)
            assert answer.status_code == 200, answer.text
        else:
            doors.house.clock.pass_by(days=1)
        assert is_no_session(await ask(doors, "GET", "/api/session", header(cookie)))


# When nobody can say.


def failing(*_: Any) -> Any:
    raise StoreUnavailableError("not now")


async def test_while_the_keys_cannot_be_read_the_cookie_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with web(tmp_path) as doors:
        await alice(doors)
        monkeypatch.setattr(doors.house.book.keyring, "service_keys", failing)
        doors.house.clock.pass_by(minutes=1)
        for method, path in (("GET", "/api/session"), ("DELETE", "/api/session"), ("POST", "/api/logout")):
            answer = await ask(doors, method, path, header("AAAA"))
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")
            assert "set-cookie" not in answer.headers


async def test_while_the_store_cannot_be_read_the_cookie_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with web(tmp_path) as doors:
        _, cookie = await alice(doors)
        monkeypatch.setattr(doors.house.book.log, "state", failing)
        for method, path in (("GET", "/api/session"), ("DELETE", "/api/session"), ("POST", "/api/logout")):
            answer = await ask(doors, method, path, header(cookie))
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")
            assert "set-cookie" not in answer.headers
        monkeypatch.undo()
        assert (await ask(doors, "GET", "/api/session", header(cookie))).status_code == 200


async def test_whoever_shows_a_token_logs_out_though_nobody_can_read_the_cookie(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with web(tmp_path) as doors:
        token, _ = await alice(doors)
        monkeypatch.setattr(doors.house.book.keyring, "service_keys", failing)
        doors.house.clock.pass_by(minutes=1)
        answer = await ask(doors, "POST", "/api/logout", header("AAAA"), ("Authorization", f"Bearer {token}"))
        assert (answer.status_code, "set-cookie" in answer.headers) == (204, False)
        assert len(doors.events("session.closed")) == 1


# Logging out.


@pytest.mark.parametrize(("method", "path"), [("DELETE", "/api/session"), ("POST", "/api/logout")])
async def test_logging_out_by_cookie_takes_it_back(tmp_path: Path, method: str, path: str) -> None:
    async with web(tmp_path) as doors:
        token, cookie = await alice(doors)
        answer = await ask(doors, method, path, header(cookie))
        assert (answer.status_code, answer.headers.get_list("set-cookie")) == (204, [CLEARED])
        assert is_no_session(await ask(doors, method, path, header(cookie)))
        assert (await doors.get("/api/session", token)).status_code == 401
        assert len(doors.events("session.closed")) == 1


@pytest.mark.parametrize(("method", "path"), [("DELETE", "/api/session"), ("POST", "/api/logout")])
async def test_logging_out_by_token_touches_no_cookie(tmp_path: Path, method: str, path: str) -> None:
    """Nobody looked at where the request comes from; the cookie of a session that is over is none."""
    async with web(tmp_path) as doors:
        token, cookie = await alice(doors)
        other = await doors.log_in()
        for shown in (other, token):
            answer = await ask(doors, method, path, header(cookie), ("Authorization", f"Bearer {shown}"))
            assert (answer.status_code, "set-cookie" in answer.headers) == (204, False)
        assert is_no_session(await ask(doors, "GET", "/api/session", header(cookie)))


async def test_logging_in_at_the_account_api_sets_no_cookie(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        await doors.register()
        answer = await doors.ask("POST", "/api/session", LOGIN)
        assert (answer.status_code, "set-cookie" in answer.headers) == (201, False)


# Setting it.


async def held(doors: Web, cookie: str) -> Holder:
    claims = doors.house.cookies.open(cookie)
    assert claims is not None
    return doors.house.gate.lookups.holder(claims.at)


async def test_a_cookie_is_set_until_its_session_ends(tmp_path: Path) -> None:
    lifetime = GateSettings().session_lifetime
    async with web(tmp_path) as doors:
        for who, user_id, guest_flag in ((alice, 1, 0), (guest, None, 1)):
            token, cookie = await who(doors)
            holder = await held(doors, cookie)
            for passed in (0, 60, 3600):
                response = Response(b"")
                doors.house.clock.now = holder.session.opened_at
                doors.house.clock.pass_by(seconds=passed)
                doors.cookies.put(response, token, holder)
                [told] = response.headers.getlist("Set-Cookie")
                value, _, attributes = told.partition("; ")
                seconds = int(lifetime.total_seconds()) - passed
                assert attributes == f"Max-Age={seconds}; Secure; HttpOnly; Path=/; SameSite=Lax"
                name, _, again = value.partition("=")
                assert name == "__Host-gatebook"
                assert doors.house.cookies.open(again) == CookieClaims(
                    token, user_id or holder.session.id, 1 if guest_flag else 0
                )
            doors.house.clock.pass_by(days=2)
            response = Response(b"")
            doors.cookies.put(response, token, holder)
            assert "; Max-Age=0; " in response.headers["Set-Cookie"]


async def test_in_development_it_goes_over_plain_http_under_another_name(tmp_path: Path) -> None:
    async with web(tmp_path, development=True) as doors:
        token, cookie = await alice(doors)
        assert (await ask(doors, "GET", "/api/session", header(cookie, "gatebook"))).status_code == 200
        assert is_no_session(await ask(doors, "GET", "/api/session", header(cookie, NAME)))
        response = Response(b"")
        doors.cookies.put(response, token, await held(doors, cookie))
        told = response.headers["Set-Cookie"]
        assert told.startswith("gatebook=gAAAA")
        assert told.endswith("; Max-Age=86400; HttpOnly; Path=/; SameSite=Lax")
        answer = await ask(doors, "POST", "/api/logout", header(cookie, "gatebook"))
        assert answer.headers.get_list("set-cookie") == ["gatebook=; Max-Age=0; HttpOnly; Path=/; SameSite=Lax"]
