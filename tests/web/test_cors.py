"""CORS: pages of the origins that are trusted may read our answers, nobody else's may (ASVS 5.0: 3.4.2; CWE-942)."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tests.web.serving import Web, web

APP = "https://app.example.org"
OTHERS = (
    "https://evil.example",
    "null",
    f"{APP}.evil.example",
    "https://evil-app.example.org",
    "https://xapp.example.org",
    "http://app.example.org",
    f"{APP}:8443",
    f"{APP}:443",
    f"{APP}/",
    "https://APP.example.org",
    f"{APP}, {APP}",
    "*",
    "",
)


def allowed(answer: httpx.Response) -> dict[str, str]:
    """What an answer says of CORS."""
    return {name: value for name, value in answer.headers.items() if name.startswith("access-control-")}


async def preflight(doors: Web, path: str, origin: str, method: str = "PATCH") -> httpx.Response:
    sent = {"Origin": origin, "Access-Control-Request-Method": method, "Access-Control-Request-Headers": "x-evil"}
    return await doors.client.options(path, headers=sent)


async def test_without_trusted_origins_nothing_is_said(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        for origin in (APP, "null", f"http://127.0.0.1:{doors.port}"):
            answers = [
                await doors.client.get("/api/session", headers={"Origin": origin}),
                await preflight(doors, "/api/profile", origin),
            ]
            assert [(allowed(answer), answer.headers.get("Vary")) for answer in answers] == [({}, None)] * 2


async def test_a_page_of_a_trusted_origin_may_read_every_answer(tmp_path: Path) -> None:
    async with web(tmp_path, trusted=(APP,)) as doors:
        await doors.register()
        token = await doors.log_in()
        sent = {"Origin": APP, "Authorization": f"Bearer {token}"}
        for method, path, status in (
            ("GET", "/api/session", 200),
            ("GET", "/admin/api/events", 403),
            ("GET", "/nowhere", 404),
            ("PUT", "/api/session", 405),
            ("GET", "//api/session", 404),
            ("OPTIONS", "/api/session", 204),
            ("POST", "/api/register", 400),
            ("GET", "/openapi.json", 200),
        ):
            answer = await doors.client.request(method, path, headers=sent, json={} if method == "POST" else None)
            assert answer.status_code == status, path
            assert allowed(answer) == {
                "access-control-allow-origin": APP,
                "access-control-allow-credentials": "true",
                "access-control-expose-headers": "ETag, Retry-After, WWW-Authenticate",
            }
            assert answer.headers["Vary"] == "Origin"


async def test_a_preflight_is_given_leave_for_what_the_address_takes(tmp_path: Path) -> None:
    async with web(tmp_path, trusted=(APP, "https://www.example.org")) as doors:
        answer = await preflight(doors, "/api/session", APP)
        assert (answer.status_code, answer.content, answer.headers["Vary"]) == (204, b"", "Origin")
        assert allowed(answer) == {
            "access-control-allow-origin": APP,
            "access-control-allow-credentials": "true",
            "access-control-allow-methods": "DELETE, GET, HEAD, OPTIONS, POST",
            "access-control-allow-headers": "Authorization, Content-Type, If-None-Match, Last-Event-ID",
            "access-control-max-age": "600",
        }
        assert "access-control-allow-methods" not in allowed(await preflight(doors, "/nowhere", APP))
        assert doors.events() == []


@pytest.mark.parametrize("origin", OTHERS)
async def test_nobody_else_is_given_any(tmp_path: Path, origin: str) -> None:
    async with web(tmp_path, trusted=(APP,)) as doors:
        answers = [
            await doors.client.get("/health/live", headers={"Origin": origin}),
            await preflight(doors, "/api/session", origin),
        ]
        # A cache that holds this one must ask again for the origin that is allowed.
        assert [(allowed(answer), answer.headers["Vary"]) for answer in answers] == [({}, "Origin")] * 2


async def test_an_origin_that_comes_twice_is_none(tmp_path: Path) -> None:
    async with web(tmp_path, trusted=(APP,)) as doors:
        answer = await doors.client.get("/health/live", headers=[("Origin", APP), ("Origin", APP)])
        assert allowed(answer) == {}


async def test_every_answer_says_that_it_is_no_page(tmp_path: Path) -> None:
    """ASVS 5.0: 3.4.3 to 3.4.6, 3.5.8, 14.3.2."""
    async with web(tmp_path) as doors:
        for method, path, body in (
            ("GET", "/health/live", b""),
            ("GET", "/nowhere", b""),
            ("OPTIONS", "/api/session", b""),
            ("PUT", "/api/session", b""),
            ("POST", "/api/register", b"{"),
            ("POST", "/api/register", b"x" * 70_000),  # refused by the listener
            ("POST", "/react-auth", b"x" * 70_000),
            ("GET", "/api/session", b""),
        ):
            answer = await doors.ask(method, path, body)
            assert {
                "cache-control": "no-store",
                "x-content-type-options": "nosniff",
                "content-security-policy": "default-src 'none'; base-uri 'none'; frame-ancestors 'none'",
                "cross-origin-resource-policy": "same-origin",
                "referrer-policy": "no-referrer",
            }.items() <= dict(answer.headers).items(), path
