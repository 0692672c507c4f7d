"""Pages of other sites, in a browser that holds an admin's cookie: what they ask is not done, and no socket opens.

After the refusals the book has not one entry more: nobody was changed, no session was opened and none ended.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

import pytest
from httpx import Response

from tests.attacks.asking import COOKIE
from tests.attacks.honest import connect
from tests.attacks.scene import AUTHENTICATE, BROWSER, OWN, PASSWORD, RESUME, SOCKETS, TRUSTED, Operation, Scene
from tests.conformance.running import PATIENCE, fresh
from tests.guards.edge import read_until, upgrade

EVIL: Final = "https://evil.example"
JSON: Final = "application/json"


def look_alikes(origin: str) -> list[str]:
    """Origins that one who compares carelessly would take for that one."""
    host = origin.partition("://")[2]
    return [
        f"{origin}.evil.example", f"https://evil{host}", f"https://evil.{host}", f"{origin}.", f"{origin}:443",
        f"{origin}:8443", f"http://{host}", f"wss://{host}", host, f"//{host}", f"https://{host}@evil.example",
        f"https://evil.example/{host}", f"https://evil.example#{origin}", f"{origin}/", f"{origin}%00.evil.example",
        f"{origin}。evil.example", origin.upper(), f"{origin}, {origin}", f"{origin} {EVIL}", f"https://{host[1:]}",
        f"https:{host}", f"*.{host}",
    ]  # fmt: skip


FOREIGN: Final = [
    EVIL, "null", "", "*", "file://", "https://example.org", "https://127.0.0.1", *look_alikes(OWN),
    *look_alikes(TRUSTED),
]  # fmt: skip
"""No pages of ours, whatever they look like."""
SOME: Final = [EVIL, "null", *look_alikes(TRUSTED)[:7]]

Pairs = list[tuple[str, str]]

PAGES: Final[list[Pairs]] = [
    *([("Origin", origin)] for origin in FOREIGN),
    *([("Sec-Fetch-Site", site), ("Origin", origin)] for site in ("cross-site", "same-site") for origin in SOME),
    *([("Sec-Fetch-Site", site), ("Origin", OWN)] for site in ("cross-site", "same-site", "", "Same-Origin", "none;")),
    *([("Sec-Fetch-Site", site)] for site in ("cross-site", "same-site", "", "same-origin, none", "✓")),
    [("Origin", OWN), ("Origin", EVIL)],
    [("Origin", TRUSTED), ("Origin", TRUSTED)],
    [("Sec-Fetch-Site", "same-origin"), ("Sec-Fetch-Site", "cross-site")],
    [("Sec-Fetch-Site", "same-origin"), ("Origin", OWN), ("Origin", EVIL)],
    # Where our own pages are says the proxy, and the browser in one header alone.
    [("Origin", EVIL), ("X-Original-Host", "evil.example"), ("Referer", f"{OWN}/")],
]
"""Headers of requests that pages of other sites make, or that nobody's page makes."""

Ask = Callable[[Scene, str], dict[str, Any]]


ASKS: Final[dict[str, Ask]] = {
    "POST /api/token": lambda scene, name: {},
    "POST /api/authenticate": lambda scene, name: {},
    "POST /react-auth": lambda scene, name: {"data": RESUME},
    "PATCH /api/profile": lambda scene, name: {"json": {"nickname": fresh("nick")}},
    "POST /api/login": lambda scene, name: {"token": scene.guest(), "data": {"email": name, "password": PASSWORD}},
    "POST /admin/api/projections/{name}/rebuild": lambda scene, name: {"parts": {"name": at_rest(scene)}},
    "POST /admin/api/users/{id}/deactivate": lambda scene, name: {"parts": {"id": scene.person().id}},
    "POST /admin/api/users/{id}/level": lambda scene, name: {
        "parts": {"id": scene.person().id}, "json": {"level": 2},
    },
    "POST /admin/api/users/{id}/reactivate": lambda scene, name: {"parts": {"id": deactivated(scene)}},
    "DELETE /admin/api/sessions/{id}": lambda scene, name: {"parts": {"id": scene.person().session}},
    "DELETE /api/sessions/{session_id}": lambda scene, name: {
        "parts": {"session_id": scene.logged_in(name).partition("|")[0]}
    },
    "DELETE /api/sessions": lambda scene, name: {"parts": {"other": scene.logged_in(name)}},
    "DELETE /api/session": lambda scene, name: {},
    "POST /api/logout": lambda scene, name: {},
}  # fmt: skip
"""What is asked well enough to be done, were it a page of ours that asks."""

NOTHING_NEW: Final = {"POST /api/token", "POST /api/authenticate", "POST /react-auth"}


def at_rest(scene: Scene) -> str:
    """A read model that is not being rebuilt, any more."""
    path, deadline = "/admin/api/projections/activity/rebuild", time.monotonic() + PATIENCE
    while scene.ask("GET", path, token=scene.warden.token).json().get("state") == "running":
        assert time.monotonic() < deadline
    return "activity"


def deactivated(scene: Scene) -> int:
    who = scene.person().id
    path = f"/admin/api/users/{who}/deactivate"
    assert scene.ask("POST", path, token=scene.warden.token).status_code == 200
    return who


def guarded(scene: Scene) -> list[Operation]:
    """Whatever sets the cookie, and whatever changes something by it."""
    return [one for one in scene.operations() if one.sets_cookie or (one.takes("cookie") and one.method != "GET")]


def asked(scene: Scene, operation: Operation, cookie: str, page: Pairs, **what: Any) -> Response:
    body = {name: value for name, value in what.items() if name != "parts"}
    headers = [*BROWSER.items(), *page]
    path = operation.path(**what.get("parts", {}))
    return scene.ask(operation.method, path, cookie=cookie, headers=headers, **body)


def refused(answer: Response) -> bool:
    """Whether it was refused as another site's page is, with no cookie, for nobody elsewhere to read."""
    shut = not any(name == "set-cookie" or name.startswith("access-control-") for name in answer.headers)
    return answer.status_code == 403 and "another site" in answer.text and shut


def test_no_page_of_another_site_changes_anything_by_the_cookie_or_has_one_set(scene: Scene) -> None:
    """ASVS 5.0: 3.5.1; CWE-352, CWE-346."""
    admin = scene.person(admin=True)
    cookie = scene.cookie(admin.token)
    operations = guarded(scene)
    assert {one.name for one in operations} >= ASKS.keys()
    for operation in operations:
        what = ASKS[operation.name](scene, admin.name) if operation.name in ASKS else {}
        before = scene.head
        got_through = [page for page in PAGES if not refused(asked(scene, operation, cookie, page, **what))]
        assert got_through == [], operation.name
        assert scene.head == before, operation.name


@pytest.mark.parametrize("page", [[("Origin", OWN)], [("Sec-Fetch-Site", "same-site"), ("Origin", TRUSTED)], []])
def test_what_was_refused_would_have_been_done_for_a_page_of_ours(scene: Scene, page: Pairs) -> None:
    """ASVS 5.0: 3.5.1: what is refused above is good when a page of ours asks it, a trusted one, or none at all.

    So it is refused for that alone.
    """
    for operation in guarded(scene):
        if operation.name in ASKS:
            admin = scene.person(admin=True)
            what = ASKS[operation.name](scene, admin.name)
            cookie, before = scene.cookie(admin.token), scene.head
            answer = asked(scene, operation, cookie, page, **what)
            assert answer.is_success, (operation.name, answer.text)
            # What the session says already is not written.
            assert scene.head > before or operation.name in NOTHING_NEW, operation.name


def test_another_sites_form_logs_nobody_in_as_somebody_else(scene: Scene) -> None:
    """Login CSRF (CWE-352; ASVS 5.0: 3.5.1): no session is opened and no cookie set, though the password is right."""
    mallory = scene.person()
    form = {"type": AUTHENTICATE, "username": mallory.name, "password": PASSWORD}
    before = scene.head
    for page in PAGES:
        for kind in ("data", "json"):
            body: dict[str, Any] = {kind: form}
            answer = scene.ask("POST", "/react-auth", headers=[*BROWSER.items(), *page], **body)
            assert refused(answer), page
    assert scene.head == before


def test_a_get_changes_nothing_whatever_it_says_that_it_is(scene: Scene) -> None:
    """ASVS 5.0: 3.5.3; CWE-650: links that other sites' pages have, followed with the cookie."""
    person = scene.person()
    cookie = scene.cookie(person.token)
    overrides = ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "X-Forwarded-Method")
    paths = {one.path(session_id=person.session) for one in scene.operations()}
    before = scene.head
    for path in sorted(paths):
        for method in ("DELETE", "PATCH", "POST"):
            headers = BROWSER | {"Sec-Fetch-Site": "cross-site"} | dict.fromkeys(overrides, method)
            for query in ("", f"?_method={method}&nickname=owned"):
                answer = scene.aside.ask("GET", path + query, cookie=cookie, headers=headers)
                assert answer.status_code in {200, 400, 401, 403, 404, 405}, path
                assert "Set-Cookie" not in answer.headers
    assert scene.head == before
    assert scene.ask("GET", "/api/session", cookie=cookie).json()["user"]["nickname"] == person.name


def test_what_a_form_can_send_is_no_json(scene: Scene) -> None:
    """ASVS 5.0: 3.5.2; CWE-352: without a preflight a page sends these types alone, Origin or not."""
    admin = scene.person(admin=True)
    cookie = scene.cookie(admin.token)
    kinds = (
        "text/plain",
        "multipart/form-data; boundary=x",
        "application/x-www-form-urlencoded",
        "",
        "text/plain;" + JSON,
    )
    before = scene.head
    asked = 0
    for operation in scene.operations():
        if operation.media != (JSON,):
            continue
        for kind in kinds:
            answer = scene.ask(
                operation.method, operation.path(name="users"), cookie=cookie, headers=BROWSER | {"Content-Type": kind},
                content=b'{"nickname": "owned", "level": 2, "reason": "x"}',
            )  # fmt: skip
            assert answer.status_code == 415, (operation.name, kind)
            asked += 1
    assert asked > len(kinds)
    assert scene.head == before


def test_no_page_of_another_site_reads_an_answer(scene: Scene) -> None:
    """ASVS 5.0: 3.4.2; CWE-942: neither a preflight nor an answer names its origin, nor any."""
    person = scene.person()
    cookie = scene.cookie(person.token)
    preflight = {"Access-Control-Request-Method": "DELETE", "Access-Control-Request-Headers": "authorization"}
    for operation in scene.operations():
        for origin in SOME:
            answer = scene.ask("OPTIONS", operation.path(), headers=BROWSER | preflight | {"Origin": origin})
            assert not any(name.startswith("access-control-") for name in answer.headers), (operation.name, origin)
    for origin in FOREIGN:
        answer = scene.ask("GET", "/api/session", cookie=cookie, headers=BROWSER | {"Origin": origin})
        assert not any(name.startswith("access-control-") for name in answer.headers), origin
        assert "Origin" in answer.headers["Vary"]
    allowed = scene.ask("GET", "/api/session", cookie=cookie, headers=BROWSER | {"Origin": TRUSTED})
    assert allowed.headers["Access-Control-Allow-Origin"] == TRUSTED


@pytest.mark.parametrize(
    "told",
    [
        {"X-Forwarded-Method": "POST"},
        {},
        {"X-Forwarded-Method": "GET", "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA=="},
    ],
)
def test_a_proxy_lets_no_page_of_another_site_pass(scene: Scene, told: dict[str, str]) -> None:
    """ASVS 5.0: 3.5.1; CWE-352, CWE-1385: behind `/verify` neither a change nor a socket is asked for by the cookie."""
    cookie = scene.cookie(scene.person().token)
    before = scene.head
    for page in PAGES:
        answer = scene.ask("GET", "/verify", cookie=cookie, headers=[*BROWSER.items(), *told.items(), *page])
        assert refused(answer), page
        assert "X-User-Id" not in answer.headers
    assert scene.head == before
    own = scene.ask("GET", "/verify", cookie=cookie, headers=BROWSER | told | {"Origin": OWN})
    assert own.status_code == 204


@pytest.mark.parametrize("path", SOCKETS)
async def test_no_page_of_another_site_opens_a_socket(scene: Scene, path: str) -> None:
    """ASVS 5.0: 4.4.2; CWE-1385, CWE-346: cross-site WebSocket hijacking, with the cookie and all that browsers say."""
    said = BROWSER | {"Cookie": f"{COOKIE}={scene.cookie(scene.person().token)}"}
    opening = upgrade(path, **{name.replace("-", "_"): value.encode() for name, value in said.items()})
    before = scene.head

    async def status(*pairs: tuple[str, str]) -> int:
        lines = "".join(f"{name}: {value}\r\n" for name, value in pairs).encode()
        async with connect(scene.service.ws) as stream:
            await stream.send_all(opening[:-2] + lines + b"\r\n")
            return int((await read_until(stream, b"\r\n\r\n")).split()[1])

    for pairs in ([("Origin", OWN)], [("Origin", TRUSTED)], []):
        assert await status(*pairs) == 101
    for origin in FOREIGN:
        for more in ([], [("Sec-Fetch-Site", "same-origin"), ("Sec-WebSocket-Origin", OWN), ("Referer", OWN)]):
            assert await status(("Origin", origin), *more) == 403, origin
    for twice in ((OWN, EVIL), (TRUSTED, TRUSTED)):
        assert await status(*(("Origin", origin) for origin in twice)) == 403
    assert scene.head == before
