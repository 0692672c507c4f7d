"""A service at which nobody registers: what both doors answer, and that an operator makes accounts all the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.running import FAST, Running, fresh, running
from tests.conformance.talk import PASSWORD, assert_error, talk


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("closed"), registration="closed", **FAST) as found:
        yield found


def form(**changes: str) -> dict[str, str]:
    return {"username": fresh(), "nickname": fresh("nick"), "password": PASSWORD} | changes


def test_the_account_api_says_so_whatever_was_typed(closed: Running) -> None:
    for body in (form(), form(password="short"), form(username="admin")):
        answer = closed.ask("POST", "/api/register", body)
        assert answer.status_code == 403
        error = answer.json()["error"]
        assert error.keys() == {"code", "message"}
        assert error["code"] == "registration_closed"
        assert "Registration is closed" in error["message"]
    assert closed.events("--type", "user.registered") == []


async def test_the_route_protocol_says_so_and_the_connection_lives_on(closed: Running) -> None:
    async with talk(closed) as client:
        for data in (form(), form(password="short")):
            answer = await client.call("register", **data)
            assert_error(answer, route="auth.register", receipt=1)
            assert answer["data"].keys() == {"error_code", "error_message"}
            assert answer["data"]["error_code"] == 403
            assert "Registration is closed" in answer["data"]["error_message"]
        # It is not the 403 that ends anything: what needs a session still says so itself.
        assert await client.refusal("logout") == (403, [])


async def test_an_account_that_an_operator_makes_logs_in_at_both_doors(closed: Running) -> None:
    name = fresh()
    made = closed.cli("users", "add", name, "--password-stdin", "--json", given=PASSWORD)
    assert made.returncode == 0, made.stderr
    user = json.loads(made.stdout)
    answer = closed.ask("POST", "/api/session", {"identifier": name, "password": PASSWORD})
    assert (answer.status_code, answer.json()["user"]["id"]) == (201, user["id"])
    async with talk(closed) as client:
        token = await client.log_in(name)
        # A session that was held before stays as it was.
        assert await client.refusal("register", **form()) == (403, [])
        assert (await client.call("authenticate", session_key=token))["data"]["user"]["id"] == user["id"]


@pytest.mark.parametrize("value", ["Closed", "no", ""])
def test_a_setting_that_is_neither_word_stops_the_start(tmp_path: Path, value: str) -> None:
    with pytest.raises(AssertionError, match="did not start"), running(tmp_path, registration=value, **FAST):
        pass
    assert "registration" in (tmp_path / "serve.log").read_text()
