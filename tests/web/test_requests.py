"""Requests that are no good: each gets an answer of its own shape, writes nothing, and ends nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import trio

from service.web.principals import Needs
from tests.guards.edge import read_all
from tests.web.serving import ALICE, LOGIN, Web, web

NO_MESSAGES = [
    b"",
    b"{",
    b"nothing",
    b"[]",
    b"null",
    b'"text"',
    b"1",
    b"\xef\xbb\xbf{}",
    b'{"username":"\xff"}',
    b'{"username":"\xed\xa0\x80"}',
    b'{"username":"\\ud800"}',
    b'{"username":"a\x00b"}',
    b'{"username":NaN}',
    b'{"username":1e999999}',
    b'{"username":Infinity}',
    b"{'username':1}",
    b'{"username":"alice",}',
    b'{"username":"alice"} {}',
    b"[" * 60_000,
    b'{"username":' * 5_000,
    b'{"a":' * 33 + b"1" + b"}" * 33,
    b"1" * 60_000,
]
BODIES = {"/api/register": ALICE, "/api/session": LOGIN}


async def refused(doors: Web, path: str, body: Any, status: int, code: str) -> str:
    before = len(doors.events())
    answer = await doors.ask("POST", path, body)
    assert answer.status_code == status, answer.text
    assert answer.json().keys() == {"error"}
    assert answer.json()["error"]["code"] == code
    assert len(doors.events()) == before
    return str(answer.json()["error"]["message"])


async def test_what_is_not_the_message_is_malformed(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        for path in BODIES:
            for body in NO_MESSAGES:
                await refused(doors, path, body, 400, "malformed")


async def test_a_message_is_held_to_its_fields(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        for path, good in BODIES.items():
            for name in good:
                if name != "email":
                    missing = {key: value for key, value in good.items() if key != name}
                    assert name in await refused(doors, path, missing, 400, "malformed")
                wrongs: list[Any] = [1, True, [], {}, None, 1.5]
                for wrong in wrongs:
                    if (name, wrong) != ("email", None):
                        assert name in await refused(doors, path, good | {name: wrong}, 400, "malformed")
            said = await refused(doors, path, good | {"hunter2secret": "x"}, 400, "malformed")
            assert "hunter2secret" not in said
            assert all(name in said for name in good)
            twice = json.dumps(good).encode()[:-1] + b', "password": "another horse"}'
            assert "twice" in await refused(doors, path, twice, 400, "malformed")
            assert "deep" in await refused(doors, path, b"[" * 40, 400, "malformed")


async def test_a_profile_knows_null_from_nothing(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        await doors.register()
        token = await doors.log_in()
        for body in (
            {"nickname": None},
            {"old_password": None},
            {"new_password": None},
            {"username": "other"},
            {"level": 2},
        ):
            answer = await doors.ask("PATCH", "/api/profile", body, token=token)
            assert (answer.status_code, answer.json()["error"]["code"]) == (400, "malformed")
        assert len(doors.events()) == 2


@pytest.mark.parametrize(
    "kind",
    [
        None,
        "",
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/json; charset=latin-1",
        "application/jsonp",
    ],
)
async def test_a_body_says_that_it_is_json(tmp_path: Path, kind: str | None) -> None:
    async with web(tmp_path) as doors:
        headers = {} if kind is None else {"Content-Type": kind}
        answer = await doors.client.post("/api/register", content=json.dumps(ALICE), headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (415, "unsupported_media")
        assert doors.events() == []


@pytest.mark.parametrize(
    "kind", ["application/json", "Application/JSON; charset=UTF-8", 'application/json;charset="utf-8"']
)
async def test_json_may_be_spelled_as_http_lets_it(tmp_path: Path, kind: str) -> None:
    async with web(tmp_path) as doors:
        answer = await doors.client.post("/api/register", content=json.dumps(ALICE), headers={"Content-Type": kind})
        assert answer.status_code == 201


async def test_a_body_has_its_largest_size(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        room = 65_536 - len(json.dumps(ALICE | {"password": ""}))
        await refused(
            doors, "/api/register", json.dumps(ALICE | {"password": "p" * (room + 1)}).encode(), 413, "too_large"
        )
        answer = await doors.ask("POST", "/api/register", json.dumps(ALICE | {"password": "p" * room}).encode())
        assert answer.status_code == 201


async def test_the_application_holds_bodies_to_its_own_bound_too(tmp_path: Path) -> None:
    async with web(tmp_path, body_bytes=1_024) as doors:
        await refused(doors, "/api/register", b" " * 1_025, 413, "too_large")
        await refused(doors, "/api/register", b" " * 1_024, 400, "malformed")


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/api/register", "OPTIONS, POST"),
        ("PATCH", "/api/session", "DELETE, GET, HEAD, OPTIONS, POST"),
        ("GET", "/api/logout", "OPTIONS, POST"),
        ("POST", "/api/profile", "OPTIONS, PATCH"),
        ("DELETE", "/health/live", "GET, HEAD, OPTIONS"),
        ("POST", "/admin/api/events", "GET, HEAD, OPTIONS"),
        ("BREW", "/api/session", "DELETE, GET, HEAD, OPTIONS, POST"),
    ],
)
async def test_another_method_hears_which_there_are(tmp_path: Path, method: str, path: str, allow: str) -> None:
    async with web(tmp_path) as doors:
        answer = await doors.ask(method, path)
        assert (answer.status_code, answer.headers["Allow"]) == (405, allow)
        assert answer.json()["error"]["code"] == "method_not_allowed"
        answer = await doors.ask("OPTIONS", path)
        assert (answer.status_code, answer.headers["Allow"], answer.content) == (204, allow, b"")
        assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/api",
        "/api/session/",
        "//api/session",
        "/api//session",
        "/api/../api/session",
        "/%2fapi/session",
        "/api%2Fsession",
        "/api%2fsession",
        "/%61pi/session",
        "/api/sessio%6E",
        "/health/%6Cive",
        "/.well%2Dknown/jwks.json",
        "/.well-known/jwks%2ejson",
        "/api/%2e/session",
        "/api/%00",
        "/static/x",
        "/%ff",
        "/admin/api/",
    ],
)
async def test_what_is_not_there_is_not_there(tmp_path: Path, path: str) -> None:
    async with web(tmp_path) as doors:
        # As bytes: a client library would tidy the path.
        answer = await tell(doors, b"GET %s HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n" % path.encode())
        assert answer.startswith(b"HTTP/1.1 404")
        assert b'"code":"no_such_route"' in answer


async def test_no_letter_of_an_address_is_encoded_and_another_character_may_be(tmp_path: Path) -> None:
    """CWE-177, CWE-436: a proxy in front that compares letters sees the address that we see."""
    async with web(tmp_path) as doors:
        token = await doors.admin()
        head = f"host: x\r\nconnection: close\r\nauthorization: Bearer {token}\r\n\r\n"
        nobody = "0" * 64
        for path, code in {
            "/admin%2Fapi/projections": b"no_such_route",
            "/%61dmin/api/projections": b"no_such_route",
            "/admin/api/projections/us%65rs": b"no_such_route",
            "/admin/api/projections/users%2f1": b"no_such_route",
            f"/admin/api/projections/names/username%3A{nobody}": b"not_found",
            f"/admin/api/projections/names/username%3a{nobody}": b"not_found",
        }.items():
            answer = await tell(doors, f"GET {path} HTTP/1.1\r\n{head}".encode())
            assert answer.startswith(b"HTTP/1.1 404"), path
            assert code in answer, path
        # No method hears of it either.
        answer = await tell(doors, f"BREW /admin%2Fapi/events HTTP/1.1\r\n{head}".encode())
        assert answer.startswith(b"HTTP/1.1 404")


async def tell(doors: Web, data: bytes) -> bytes:
    async with await trio.open_tcp_stream("127.0.0.1", doors.port) as stream:
        await stream.send_all(data)
        return await read_all(stream)


@pytest.mark.parametrize(
    "head",
    [
        b"OPTIONS * HTTP/1.1\r\nhost: x",
        b"GET /api/session?%ff=%00 HTTP/1.1\r\nhost: x",
        b"GET /api/session HTTP/1.1\r\nhost: [bad",
        b"GET /api/session HTTP/1.1\r\nhost: \xe9\xff",
        b"GET /api/session HTTP/1.1\r\nhost: a b",
        b"GET /api/session HTTP/1.1\r\nhost: x\r\nauthorization: Bearer \xff\xfe",
        b"GET /api/session HTTP/1.1\r\nhost: x\r\nauthorization: \xff",
        b"GET /api/session HTTP/1.1\r\nhost: x\r\ncookie: \xff=\xff; a",
        b"GET /api/session HTTP/1.1\r\nhost: x\r\nuser-agent: \xff\x80",
        b"POST /api/session HTTP/1.1\r\nhost: x\r\ncontent-type: \xff\r\ncontent-length: 2",
        b"POST /api/session HTTP/1.1\r\nhost: x\r\ncontent-type: multipart/form-data; a=\xff\r\ncontent-length: 2",
    ],
    ids=range(11),
)
async def test_strange_heads_are_answered_and_no_fault_of_ours(tmp_path: Path, head: bytes) -> None:
    async with web(tmp_path) as doors:
        answer = await tell(doors, head + b"\r\nconnection: close\r\n\r\n{}")
        assert int(answer[9:12]) in {204, 400, 401, 404, 415}, answer
        assert (await doors.get("/health/live")).status_code == 200


@pytest.mark.parametrize(
    "given",
    [
        "Bearer",
        "Basic YTpi",
        "Token {}",
        "Bearer{}",
        "{}",
        "Bearer {}x",
        "Bearer 0{}",
        "Bearer 99{}",
        'Bearer "{}"',
    ],
)
async def test_a_token_that_is_none_is_refused(tmp_path: Path, given: str) -> None:
    async with web(tmp_path) as doors:
        await doors.register()
        token = await doors.log_in()
        answer = await doors.client.get("/api/session", headers={"Authorization": given.format(token)})
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "unauthenticated")
        assert answer.headers["WWW-Authenticate"] == 'Bearer realm="gatebook", error="invalid_token"'


async def test_a_request_carries_one_token_in_its_header(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        await doors.register()
        token = await doors.log_in()
        answer = await doors.get("/api/session")
        assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, 'Bearer realm="gatebook"')
        twice = [("Authorization", f"Bearer {token}"), ("Authorization", f"Bearer {token}")]
        assert (await doors.client.get("/api/session", headers=twice)).status_code == 401
        assert (await doors.client.get(f"/api/session?access_token={token}")).status_code == 401
        assert (await doors.client.get("/api/session", headers={"Cookie": f"token={token}"})).status_code == 401
        answer = await doors.client.get("/api/session", headers={"Authorization": f"bEARER  {token}"})
        assert answer.status_code == 200


async def test_a_head_is_a_get_without_its_body(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        await doors.register()
        token = await doors.log_in()
        answer = await doors.ask("HEAD", "/api/session", token=token)
        assert (answer.status_code, answer.content) == (200, b"")
        assert (await doors.ask("HEAD", "/api/session")).status_code == 401
        assert (await doors.ask("HEAD", "/health/live")).status_code == 200


async def test_every_route_is_closed_but_those_that_say_otherwise(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        routes = doors.app._routes
        assert routes.keys() == {str(rule.endpoint) for rule in doors.app.url_map.iter_rules()}
        assert {name for name, route in routes.items() if route.needs is Needs.NOBODY} == {
            "POST /api/register",
            "POST /api/session",
            "POST /api/authenticate",
            "POST /api/login",
            "POST /react-auth",
            # These look at who asks themselves, and answer in shapes of their own.
            "POST /api/introspect",
            "GET /verify",
            "GET /.well-known/jwks.json",
            "GET /health/live",
            "GET /health/ready",
            "GET /openapi.json",
        }
        for route in routes.values():
            path = route.path.replace("<name>", "users").replace("<key>", "1").replace("<position>", "1")
            if route.needs is not Needs.NOBODY:
                assert (await doors.ask(route.method, path)).status_code == 401, path
            if path.startswith("/admin"):
                assert route.needs is Needs.ADMIN


async def test_health_says_whether_requests_had_better_go_elsewhere(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        answer = await doors.get("/health/ready")
        assert (answer.status_code, answer.json()) == (200, {"status": "ready"})
        doors.reasons += ["the disk is full"]
        answer = await doors.get("/health/ready")
        assert (answer.status_code, answer.json()) == (503, {"status": "unready", "reasons": ["the disk is full"]})
        answer = await doors.get("/health/live")
        assert (answer.status_code, answer.json()) == (200, {"status": "live"})
