"""The session cookie as a browser meets it: black box, over real sockets, against running services."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conformance.running import FAST, Running, running
from tests.conformance.test_account_api import PASSWORD, refusal, registered

NAME = "__Host-gatebook"
SET = re.compile(r"([\w-]+)=([\w-]*={0,2}); Max-Age=(\d+); (Secure; )?HttpOnly; Path=/; SameSite=Lax")


def ask(
    service: Running, method: str, path: str, *, cookie: str | None = None, body: Any = None, **headers: str
) -> Any:
    """One request with a cookie, as a browser of ours sends it; names of headers are written with underlines."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    if cookie is not None:
        sent["Cookie"] = f"{NAME}={cookie}"
    return httpx.request(method, f"{service.http}{path}", json=body, headers=sent, trust_env=False)


def cookie_in(answer: httpx.Response, name: str = NAME, *, secure: bool = True) -> tuple[str, int]:
    """The value and the seconds of the session's cookie that the answer sets, as it has to be written.

    Behind it a login sets the device's, and nothing else does.
    """
    told, *device = answer.headers.get_list("Set-Cookie")
    assert [one.partition("=")[0] for one in device] in ([], [f"{name}-device"])
    found = SET.fullmatch(told)
    assert found is not None, told
    assert (found[1], found[4]) == (name, "Secure; " if secure else None)
    return found[2], int(found[3])


def visited(service: Running) -> tuple[str, str]:
    """A new guest's token and cookie."""
    answer = ask(service, "POST", "/api/authenticate")
    assert answer.status_code == 200, answer.text
    cookie, seconds = cookie_in(answer)
    assert 86_390 <= seconds <= 86_400
    return answer.json()["at"], cookie


def logged_in(service: Running, form: dict[str, Any]) -> tuple[str, str]:
    """A token and a cookie of that account."""
    token, _ = visited(service)
    login = {"email": form["username"], "password": PASSWORD}
    answer = ask(service, "POST", "/api/login", body=login, Authorization=f"Bearer {token}")
    assert answer.status_code == 200, answer.text
    return answer.json()["at"], cookie_in(answer)[0]


def no_session(answer: httpx.Response) -> None:
    refusal(answer, 401, "unauthenticated")
    assert "Set-Cookie" not in answer.headers


def test_a_life_by_cookie(service: Running) -> None:
    form = registered(service)
    token, cookie = logged_in(service, form)
    assert token.partition("|")[2] not in cookie

    me = ask(service, "GET", "/api/session", cookie=cookie)
    assert me.status_code == 200
    assert me.json() == service.ask("GET", "/api/session", token=token).json()
    assert me.json()["user"]["username"] == form["username"]
    assert "Set-Cookie" not in me.headers

    changed = ask(service, "PATCH", "/api/profile", cookie=cookie, body={"email": None}, Sec_Fetch_Site="same-origin")
    assert (changed.status_code, changed.json()["user"]["email"]) == (200, None)

    # Whoever authenticates anew gets the same session in a cookie that is sealed anew.
    again = ask(service, "POST", "/api/authenticate", cookie=cookie, Origin=service.http)
    renewed, _ = cookie_in(again)
    assert (again.json()["at"], renewed == cookie) == (token, False)

    ended = ask(service, "DELETE", "/api/session", cookie=renewed, Sec_Fetch_Site="same-origin")
    assert ended.status_code == 204
    assert cookie_in(ended) == ("", 0)
    for replayed in (cookie, renewed):
        no_session(ask(service, "GET", "/api/session", cookie=replayed))
        no_session(ask(service, "POST", "/api/logout", cookie=replayed))
    refusal(service.ask("GET", "/api/session", token=token), 401, "unauthenticated")


def test_a_guests_cookie_counts_for_who_am_i_alone(service: Running) -> None:
    _, cookie = visited(service)
    assert ask(service, "GET", "/api/session", cookie=cookie).json()["user"]["level"] == 0
    for method, path in (
        ("DELETE", "/api/session"), ("POST", "/api/logout"), ("PATCH", "/api/profile"), ("GET", "/api/sessions"),
        ("GET", "/admin/api/projections"),
    ):  # fmt: skip
        no_session(ask(service, method, path, cookie=cookie))
    assert ask(service, "GET", "/api/session", cookie=cookie).status_code == 200


def test_the_admin_endpoint_takes_an_admins_cookie(service: Running) -> None:
    form = registered(service)
    _, cookie = logged_in(service, form)
    refusal(ask(service, "GET", "/admin/api/projections", cookie=cookie), 403, "forbidden")
    assert service.cli("users", "set-level", str(form["id"]), "admin").returncode == 0
    _, cookie = logged_in(service, form)
    assert ask(service, "GET", "/admin/api/projections", cookie=cookie).status_code == 200
    other = registered(service)
    path = f"/admin/api/users/{other['id']}/deactivate"
    for headers in ({"Sec_Fetch_Site": "cross-site"}, {"Origin": "https://evil.example"}, {"Origin": "null"}):
        refusal(ask(service, "POST", path, cookie=cookie, body={"reason": "x"}, **headers), 403, "cross_site")
    assert (
        service.ask("POST", "/api/session", {"identifier": other["username"], "password": PASSWORD}).status_code == 201
    )


def test_a_cookie_with_any_byte_changed_is_no_session(service: Running) -> None:
    _, cookie = logged_in(service, registered(service))
    with httpx.Client(base_url=service.http, trust_env=False) as client:
        for place, character in enumerate(cookie):
            other = "B" if character == "A" else "A"
            forged = f"{NAME}={cookie[:place]}{other}{cookie[place + 1 :]}"
            no_session(client.get("/api/session", headers={"Cookie": forged}))
        for length in range(0, len(cookie), 7):
            no_session(client.get("/api/session", headers={"Cookie": f"{NAME}={cookie[:length]}"}))
        for other in ("é", "\x80", "A" * 8_000, cookie * 2, f'"{cookie}"', cookie + "="):
            no_session(client.get("/api/session", headers={b"Cookie": f"{NAME}={other}".encode("latin-1")}))
        for several in (f"{NAME}={cookie}; {NAME}={cookie}", f"{NAME}=; {NAME}={cookie}", f"{NAME}={cookie}; {NAME}=x"):
            no_session(client.get("/api/session", headers={"Cookie": several}))
        assert client.get("/api/session", headers={"Cookie": f"{NAME}={cookie}"}).status_code == 200


def test_a_cookie_of_another_service_is_no_session(service: Running, another: Running) -> None:
    form = registered(another)
    token, cookie = logged_in(another, form)
    assert ask(another, "GET", "/api/session", cookie=cookie).status_code == 200
    no_session(ask(service, "GET", "/api/session", cookie=cookie))
    no_session(ask(service, "GET", "/api/session", Authorization=f"Bearer {token}"))


@pytest.fixture(scope="module")
def another(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("another"), **FAST) as found:
        yield found


@pytest.mark.parametrize(
    ("headers", "passes"),
    [
        ({}, True),
        ({"Sec_Fetch_Site": "same-origin", "Origin": "https://evil.example"}, True),
        ({"Sec_Fetch_Site": "none"}, True),
        ({"Sec_Fetch_Site": "same-site"}, False),
        ({"Sec_Fetch_Site": "cross-site"}, False),
        ({"Sec_Fetch_Site": "anything"}, False),
        ({"Origin": "ours"}, True),
        ({"Origin": "null"}, False),
        ({"Origin": "https://evil.example"}, False),
        ({"Origin": "http://127.0.0.1"}, False),
    ],
)
def test_what_another_sites_page_asks_is_refused(service: Running, headers: dict[str, str], passes: bool) -> None:
    headers = {name: value.replace("ours", service.http) for name, value in headers.items()}
    token, cookie = logged_in(service, registered(service))
    # To read is no danger: the page is shown nothing of it. A token is only sent by whoever has it.
    assert ask(service, "GET", "/api/session", cookie=cookie, **headers).status_code == 200
    bearer = {"Authorization": f"Bearer {token}"}
    assert ask(service, "PATCH", "/api/profile", cookie=cookie, body={}, **headers, **bearer).status_code == 200
    changed = ask(service, "PATCH", "/api/profile", cookie=cookie, body={}, **headers)
    visit = ask(service, "POST", "/api/authenticate", **headers)
    if passes:
        assert (changed.status_code, visit.status_code) == (200, 200)
    else:
        refusal(changed, 403, "cross_site")
        assert visit.status_code == 403
        assert "Set-Cookie" not in visit.headers


def test_two_processes_on_one_store_honour_each_others_cookies_and_so_does_the_next_one(tmp_path: Path) -> None:
    with running(tmp_path, **FAST) as one:
        form = registered(one)
        with running(tmp_path, **FAST) as other:
            _, first = logged_in(one, form)
            _, second = logged_in(other, form)
            assert ask(one, "GET", "/api/session", cookie=second).status_code == 200
            assert ask(other, "GET", "/api/session", cookie=first).status_code == 200
            assert ask(other, "POST", "/api/logout", cookie=first).status_code == 204
            no_session(ask(one, "GET", "/api/session", cookie=first))
    with running(tmp_path, **FAST) as restarted:
        no_session(ask(restarted, "GET", "/api/session", cookie=first))
        assert ask(restarted, "GET", "/api/session", cookie=second).status_code == 200


def test_a_trusted_origin_is_trusted_and_no_other(tmp_path: Path) -> None:
    with running(tmp_path, **FAST, trusted_origins="https://app.example.org,https://www.example.org") as service:
        form = registered(service)
        for origin, status in (
            ("https://app.example.org", 204), ("https://www.example.org", 204), ("https://x.example.org", 403),
            ("http://app.example.org", 403), ("https://app.example.org:8443", 403),
        ):  # fmt: skip
            _, cookie = logged_in(service, form)
            answer = ask(service, "POST", "/api/logout", cookie=cookie, Sec_Fetch_Site="same-site", Origin=origin)
            assert answer.status_code == status, origin
            # Whoever may ask as a page of ours may read the answer as one; nobody else may.
            assert answer.headers.get("Access-Control-Allow-Origin") == (origin if status == 204 else None)


def test_in_development_a_browser_keeps_the_cookie_over_plain_http(tmp_path: Path) -> None:
    with (
        running(tmp_path, **FAST, development=1) as service,
        httpx.Client(base_url=service.http, trust_env=False) as browser,
    ):
        form = registered(service)
        guest = browser.post("/api/authenticate")
        assert 86_390 <= cookie_in(guest, "gatebook", secure=False)[1] <= 86_400
        assert browser.post("/api/authenticate").json() == guest.json()
        login = {"email": form["username"], "password": PASSWORD}
        token = {"Authorization": f"Bearer {guest.json()['at']}"}
        assert browser.post("/api/login", json=login, headers=token).status_code == 200
        assert browser.get("/api/session").json()["user"]["username"] == form["username"]
        no_session(ask(service, "GET", "/api/session", cookie=browser.cookies["gatebook"]))
        refusal(browser.post("/api/logout", headers={"Sec-Fetch-Site": "cross-site"}), 403, "cross_site")
        ended = browser.post("/api/logout", headers={"Origin": service.http})
        assert (ended.status_code, cookie_in(ended, "gatebook", secure=False)) == (204, ("", 0))
        assert "gatebook" not in browser.cookies
        no_session(browser.get("/api/session"))
        assert '"event": "development"' in service.log.read_text()


def test_a_browser_keeps_no_cookie_over_plain_http_otherwise(service: Running) -> None:
    with httpx.Client(base_url=service.http, trust_env=False) as browser:
        assert cookie_in(browser.post("/api/authenticate"))[0]
        no_session(browser.get("/api/session"))
