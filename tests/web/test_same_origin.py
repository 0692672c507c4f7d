"""Which requests are asked where they come from: what a cookie would have changed, and what sets one."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import httpx
import pytest
from quart import Response

from service.credentials.cookies import CookieClaims
from service.gate.attempts import client_of
from service.metrics import Metrics
from service.web.answers import nothing
from service.web.app import Doors
from service.web.cookies import NAME, SessionCookies
from service.web.origins import Origins
from service.web.principals import Asked, Needs, Route
from tests.house import house
from tests.web.serving import serving, web

PARTNER = "https://partner.example.org"
OURS = "ours"
"""Stands for the origin of the service under test, whose port is not known before."""

SITES = (None, "same-origin", "none", "same-site", "cross-site", "Same-Origin", "")
ORIGINS = (None, OURS, PARTNER, "null", "https://evil.example")
PASSING = {
    (None, None), (None, OURS), (None, PARTNER),
    *product(("same-origin", "none"), ORIGINS),
    *product(("same-site", "cross-site"), (PARTNER,)),
}  # fmt: skip
"""Which of them are a page of ours, of a partner's, or no page at all."""


CLIENT = client_of("account-api", "192.0.2.1", None)


async def done(_: Asked) -> Response:
    return nothing()


UNSAFE = ("POST", "PUT", "PATCH", "DELETE")
ROUTES = [
    *(Route(method, "/user", done, "test") for method in ("GET", *UNSAFE)),
    *(Route(method, "/guest", done, "test", Needs.GUEST) for method in ("GET", *UNSAFE)),
    *(Route(method, "/setting", done, "test", Needs.NOBODY, sets_cookie=True) for method in ("GET", *UNSAFE)),
    *(Route(method, "/nobody", done, "test", Needs.NOBODY) for method in ("GET", *UNSAFE)),
    *(Route(method, "/both", done, "test", sets_cookie=True) for method in ("GET", *UNSAFE)),
]


def asks_whence(path: str, method: str, shown: str) -> bool:
    """Whether such a request is asked where it comes from."""
    if path in {"/setting", "/both"}:
        return True
    return path != "/nobody" and method in UNSAFE and shown == "cookie"


@pytest.mark.parametrize("path", ["/user", "/guest", "/setting", "/nobody", "/both"])
async def test_every_site_every_origin_every_method_every_way_to_show_a_session(tmp_path: Path, path: str) -> None:
    async with house(tmp_path) as inside:
        cookies = SessionCookies(inside.cookies, inside.clock)
        app = Doors(inside.gate, ROUTES, cookies, Origins((PARTNER,)), Metrics())
        async with serving(app) as port, httpx.AsyncClient(trust_env=False) as client:
            base = f"http://127.0.0.1:{port}"
            user_id = await inside.gate.register(CLIENT, username="alice", nickname="Al", password="correct horse")
            opened = await inside.gate.log_in(CLIENT, "alice", "correct horse")
            cookie = f"{NAME}={inside.cookies.seal(CookieClaims(opened.token, user_id, 0))}"
            ways = {
                "cookie": {"Cookie": cookie},
                "bearer": {"Authorization": f"Bearer {opened.token}"},
                "both": {"Authorization": f"Bearer {opened.token}", "Cookie": cookie},
            }
            wrong = []
            for site, origin, method, way in product(SITES, ORIGINS, ("GET", "HEAD", *UNSAFE), ways):
                headers = dict(ways[way])
                if site is not None:
                    headers["Sec-Fetch-Site"] = site
                if origin is not None:
                    headers["Origin"] = base if origin == OURS else origin
                answer = await client.request(method, f"{base}{path}", headers=headers)
                refused = asks_whence(path, method, way) and (site, origin) not in PASSING
                if answer.status_code != (403 if refused else 204):
                    wrong.append((site, origin, method, way, answer.status_code))
            assert wrong == []


async def test_no_address_changes_anything_for_another_sites_page_that_has_only_the_cookie(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        token = await doors.admin()
        admin = doors.house.gate.lookups.principal(token)
        cookie = doors.house.cookies.seal(CookieClaims(token, admin.user.id, 0))
        before = doors.house.book.log.head()
        asked = 0
        for route in doors.app._routes.values():
            if route.method == "GET" or (route.needs is Needs.NOBODY and not route.sets_cookie):
                continue
            for origin in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}, {"Origin": "null"}):
                path = route.path.replace("<", "").replace(">", "")
                answer = await doors.client.request(
                    route.method, path, headers={"Cookie": f"{NAME}={cookie}"} | origin, content=b"{}"
                )
                assert answer.status_code == 403, (route.endpoint, answer.text)
                assert "set-cookie" not in answer.headers
                asked += 1
        assert asked >= 24
        assert doors.house.book.log.head() == before


async def test_whether_there_is_a_session_is_not_told_to_another_site(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        await doors.register()
        token = await doors.log_in()
        cookie = doors.house.cookies.seal(CookieClaims(token, 1, 0))
        headers = {"Cookie": f"{NAME}={cookie}", "Sec-Fetch-Site": "cross-site"}
        alive = await doors.client.post("/api/logout", headers=headers)
        await doors.ask("POST", "/api/logout", token=token)
        dead = await doors.client.post("/api/logout", headers=headers)
        assert (alive.status_code, alive.content) == (dead.status_code, dead.content)
        assert alive.json()["error"]["code"] == "cross_site"


async def test_headers_sent_twice_are_refused(tmp_path: Path) -> None:
    async with web(tmp_path, trusted=(PARTNER,)) as doors:
        await doors.register()
        cookie = doors.house.cookies.seal(CookieClaims(await doors.log_in(), 1, 0))
        base = ("Cookie", f"{NAME}={cookie}")
        ours = str(doors.client.base_url)
        for name, value in (("Sec-Fetch-Site", "same-origin"), ("Origin", PARTNER), ("Origin", ours)):
            answer = await doors.client.post("/api/logout", headers=[base, (name, value), (name, value)])
            assert (answer.status_code, answer.json()["error"]["code"]) == (403, "cross_site")
        answer = await doors.client.post("/api/logout", headers=[base, ("Origin", PARTNER)])
        assert answer.status_code == 204
