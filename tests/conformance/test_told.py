"""That what is held against /openapi.json can fall: each way in which a service may say or do what is not told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conformance.running import FAST, Running, fresh, running
from tests.conformance.told import Told, holding

PROBLEM = {"error": {"code": "gone", "message": "It is gone."}}
DOCUMENT: dict[str, Any] = {
    "paths": {
        "/things": {
            "post": {
                "requestBody": {
                    "required": True,
                    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Thing"}}},
                },
                "responses": {
                    "201": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Thing"}}}},
                    "429": {"headers": {"Retry-After": {"$ref": "#/components/headers/Retry-After"}}},
                },
            }
        },
        "/things/{id}": {
            "get": {
                "parameters": [
                    {"in": "path", "name": "id", "schema": {"type": "integer", "minimum": 1}},
                    {"in": "query", "name": "at", "schema": {"type": "string", "format": "date-time"}},
                ],
                "responses": {
                    "200": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Thing"}}}},
                    "204": {},
                    "404": {"$ref": "#/components/responses/Gone"},
                },
            }
        },
    },
    "components": {
        "headers": {
            "Retry-After": {"schema": {"type": "integer", "minimum": 1}},
            "Set-Cookie": {"schema": {"type": "string"}},
        },
        "responses": {
            "Gone": {
                "content": {
                    "application/json": {
                        "schema": {"$ref": "#/components/schemas/ProblemAnswer"},
                        "examples": {"gone": {"value": PROBLEM}},
                    }
                }
            }
        },
        "schemas": {
            "Thing": {
                "type": "object",
                "properties": {"name": {"type": "string"}, "made": {"type": "string", "format": "date-time"}},
                "required": ["name"],
            },
            "ProblemAnswer": {
                "type": "object",
                "properties": {"error": {"type": "object", "properties": {"code": {}, "message": {}}}},
                "required": ["error"],
            },
        },
    },
}
THING = {"name": "x"}


def hold(method: str, path: str, status: int, answer: Any = None, sent: Any = None, **headers: str) -> None:
    request = httpx.Request(method, f"http://gatebook{path}", json=sent)
    body = {"content": answer} if isinstance(answer, bytes) else {} if answer is None else {"json": answer}
    Told(DOCUMENT).hold(httpx.Response(status, headers=headers, request=request, **body))


@pytest.mark.parametrize(
    ("method", "path", "status", "answer", "sent", "headers"),
    [
        ("POST", "/things", 201, THING | {"made": "2026-11-21T12:00:00Z"}, THING, {}),
        ("POST", "/things", 201, THING, THING | {"more": 1}, {}),
        ("POST", "/things", 429, None, {"nonsense": 1}, {"Retry-After": "7"}),
        ("GET", "/things/1?at=2026-11-21T12%3A00%3A00Z", 200, THING, None, {}),
        ("HEAD", "/things/1", 200, None, None, {"Content-Type": "application/json"}),
        ("GET", "/things/0", 404, PROBLEM, None, {}),
        ("OPTIONS", "/things", 204, None, None, {"Allow": "POST, OPTIONS"}),
        ("GET", "/things", 405, PROBLEM, None, {"Allow": "OPTIONS, POST"}),
        ("GET", "/other", 404, PROBLEM, None, {}),
    ],
)
def test_what_is_told_is_held(
    method: str, path: str, status: int, answer: Any, sent: Any, headers: dict[str, str]
) -> None:
    hold(method, path, status, answer, sent, **headers)


@pytest.mark.parametrize(
    ("method", "path", "status", "answer", "sent", "headers"),
    [
        ("POST", "/things", 200, THING, THING, {}),
        ("POST", "/things", 201, {}, THING, {}),
        ("POST", "/things", 201, {"name": 1}, THING, {}),
        ("POST", "/things", 201, THING | {"more": 1}, THING, {}),
        ("POST", "/things", 201, THING | {"made": "yesterday"}, THING, {}),
        ("POST", "/things", 201, None, THING, {"Content-Type": "text/plain"}),
        ("POST", "/things", 201, THING, {"name": 1}, {}),
        ("POST", "/things", 201, THING, None, {}),
        ("POST", "/things", 201, THING, THING, {"Retry-After": "7"}),
        ("POST", "/things", 201, THING, THING, {"Set-Cookie": "a=b"}),
        ("POST", "/things", 429, None, THING, {"Retry-After": "0"}),
        ("POST", "/things", 429, None, THING, {"Retry-After": "soon"}),
        ("POST", "/things", 429, b"later", THING, {"Retry-After": "7"}),
        ("GET", "/things/0", 200, THING, None, {}),
        ("GET", "/things/x", 200, THING, None, {}),
        ("GET", "/things/1?at=yesterday", 200, THING, None, {}),
        ("GET", "/things/1?surprise=1", 200, THING, None, {}),
        ("GET", "/things/1", 204, b"nothing", None, {}),
        ("HEAD", "/things/1", 200, THING, None, {}),
        ("GET", "/things/1", 404, THING, None, {}),
        ("GET", "/things/1", 404, {"error": {"code": "lost", "message": "It is lost."}}, None, {}),
        ("OPTIONS", "/things", 204, None, None, {"Allow": "OPTIONS"}),
        ("OPTIONS", "/things", 200, None, None, {"Allow": "OPTIONS, POST"}),
        ("GET", "/things", 405, PROBLEM, None, {"Allow": "GET, POST"}),
        ("GET", "/things", 200, THING, None, {"Allow": "OPTIONS, POST"}),
        ("GET", "/other", 200, THING, None, {}),
        ("GET", "/other", 404, THING, None, {}),
    ],
)
def test_what_is_not_told_falls(
    method: str, path: str, status: int, answer: Any, sent: Any, headers: dict[str, str]
) -> None:
    with pytest.raises(AssertionError):
        hold(method, path, status, answer, sent, **headers)


def test_events_of_a_stream_are_held_one_by_one() -> None:
    told = Told(DOCUMENT)
    told.hold_events(
        'retry: 3000\n\nid: 1\ndata: {"name": "x"}\n\n: 2\n\nid: 3\ndata: {"name": "\u2028"}\n\n', "/things/{id}"
    )
    for wrong in ('{"name": 1}', '{"name": "x", "more": 1}', "{}"):
        with pytest.raises(AssertionError, match=r"at /things/\{id\}, outside of what is told"):
            told.hold_events(f'data: {{"name": "x"}}\n\ndata: {wrong}\n\n', "/things/{id}")


def test_a_running_service_is_held_without_being_asked(
    service: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    monkeypatch.setattr(Told, "hold", lambda _, response, **__: seen.append(response.request.url.path))
    assert service.ask("GET", "/api/session").status_code == 401
    httpx.post(f"{service.http}/api/session", json={"identifier": fresh(), "password": "x"}, trust_env=False)
    with running(tmp_path, **FAST) as other:
        other.ask("GET", "/health/live")
        service.ask("GET", "/health/ready")
    assert seen == ["/api/session", "/api/session", "/health/live", "/health/ready"]


async def test_a_client_can_have_its_answers_held(service: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    async with httpx.AsyncClient(base_url=service.http, trust_env=False) as client:
        client.event_hooks = await holding(client)
        assert (await client.get("/health/live")).json() == {"status": "live"}
        monkeypatch.setattr("tests.conformance.told.JSON", "application/xml")
        with pytest.raises(AssertionError):
            await client.get("/health/live")


async def test_so_are_clients_that_do_not_block(service: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(Told, "hold", lambda _, response, *, streamed: seen.append(streamed))
    async with httpx.AsyncClient(base_url=service.http, trust_env=False) as client:
        await client.get("/health/live")
        async with client.stream("GET", "/health/live") as answer:
            await answer.aread()
    assert seen == [False, True]
