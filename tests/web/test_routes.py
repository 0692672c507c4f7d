"""What a route says of itself: that it sets a cookie, and how its contract refuses."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from quart import Response

from service.errors import HTTP_STATUS, Refused, Throttled
from service.metrics import Metrics
from service.web.answers import nothing
from service.web.app import Doors
from service.web.cookies import SessionCookies
from service.web.origins import Origins
from service.web.principals import Asked, Needs, Route
from tests.house import house
from tests.web.serving import serving

PARTNER = "https://partner.example.org"


def in_its_own_words(refusal: Refused, *, token_given: bool = False) -> Response:
    said = json.dumps({"no": refusal.code, "token": token_given})
    return Response(said, HTTP_STATUS[type(refusal)], content_type="application/json")


def beyond_words(refusal: Refused, *, token_given: bool = False) -> Response:
    raise ZeroDivisionError


async def done(_: Asked) -> Response:
    return nothing()


async def throttled(_: Asked) -> Response:
    raise Throttled(7)


async def broken(asked: Asked) -> Response:
    raise RuntimeError(await asked.request.get_data(as_text=True))


ROUTES = [
    Route("POST", "/setting", done, "test", Needs.NOBODY, sets_cookie=True),
    Route("GET", "/setting", done, "test", Needs.NOBODY, sets_cookie=True),
    Route("POST", "/plain", done, "test", Needs.NOBODY),
    Route("POST", "/own/user", done, "test", refused=in_its_own_words),
    Route("POST", "/own/setting", done, "test", Needs.NOBODY, sets_cookie=True, refused=in_its_own_words),
    Route("POST", "/own/throttled", throttled, "test", Needs.NOBODY, refused=in_its_own_words),
    Route("POST", "/own/broken", broken, "test", Needs.NOBODY, refused=in_its_own_words),
    Route("POST", "/beyond", throttled, "test", Needs.NOBODY, refused=beyond_words),
]


@asynccontextmanager
async def doors(folder: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with (
        house(folder) as inside,
        serving(Doors(inside.gate, ROUTES, SessionCookies(inside.cookies), Origins((PARTNER,)), Metrics())) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client,
    ):
        yield client


@pytest.mark.parametrize(
    ("headers", "passes"),
    [
        ({}, True),
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "same-site", "Origin": "https://evil.example"}, False),
        ({"Sec-Fetch-Site": "same-site", "Origin": PARTNER}, True),
        ({"Origin": "https://evil.example"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": PARTNER}, True),
        # A token is no excuse: the cookie would be set all the same.
        ({"Origin": "https://evil.example", "Authorization": "Bearer 1|" + "a" * 40}, False),
    ],
)
@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_a_route_that_sets_a_cookie_is_asked_by_our_pages_alone(
    tmp_path: Path, headers: dict[str, str], passes: bool, method: str
) -> None:
    async with doors(tmp_path) as client:
        answer = await client.request(method, "/setting", headers=headers)
        if passes:
            assert answer.status_code == 204
        else:
            assert (answer.status_code, answer.json()["error"]["code"]) == (403, "cross_site")


async def test_a_route_that_sets_none_is_asked_by_anybody(tmp_path: Path) -> None:
    async with doors(tmp_path) as client:
        answer = await client.post("/plain", headers={"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"})
        assert answer.status_code == 204


async def test_a_contract_refuses_in_its_own_words(tmp_path: Path) -> None:
    async with doors(tmp_path) as client:
        told = {
            path: (answer.status_code, answer.json())
            for path in ("user", "setting", "throttled", "broken")
            for answer in [await client.post(f"/own/{path}", content="hunter2", headers={"Origin": "null"})]
        }
        assert told == {
            "user": (401, {"no": "unauthenticated", "token": False}),
            "setting": (403, {"no": "cross_site", "token": False}),
            "throttled": (429, {"no": "throttled", "token": False}),
            "broken": (500, {"no": "internal_error", "token": False}),
        }
        answer = await client.post("/own/user", headers={"Authorization": "Bearer nonsense"})
        assert (answer.status_code, answer.json()) == (401, {"no": "unauthenticated", "token": True})


async def test_a_contract_without_words_is_a_fault_of_ours(tmp_path: Path) -> None:
    async with doors(tmp_path) as client:
        answer = await client.post("/beyond")
        assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal_error")
