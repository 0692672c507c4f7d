"""A session that another process ends: what its open sockets hear, each in the shape of its own contract."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest

from tests.conformance.running import Running
from tests.conformance.talk import talk
from tests.conformance.test_account_api import logged_in, registered

RESUME: Final = "fantaptik/react-auth/socket/resume"
OVER: Final = {"type": "fantaptik/react-auth/close"}


def revoke(service: Running, form: dict[str, Any], token: str) -> None:
    done = service.cli("sessions", "revoke", token.partition("|")[0])
    assert done.returncode == 0, done.stderr


def set_password(service: Running, form: dict[str, Any], token: str) -> None:
    done = service.cli("users", "set-password", form["username"], "--password-stdin", given="battery horse staple")
    assert done.returncode == 0, done.stderr


def deactivate(service: Running, form: dict[str, Any], token: str) -> None:
    done = service.cli("users", "deactivate", form["username"])
    assert done.returncode == 0, done.stderr


def log_out_over_http(service: Running, form: dict[str, Any], token: str) -> None:
    assert service.ask("POST", "/api/logout", token=token).status_code == 204


@pytest.mark.parametrize("end", [revoke, set_password, deactivate, log_out_over_http])
async def test_its_sockets_hear_of_it_and_no_others(service: Running, end: Any) -> None:
    form = registered(service)
    other_form = registered(service)
    token, other = logged_in(service, form), logged_in(service, other_form)
    bare, enveloped, bystander = (talk(service, "/react-auth") for _ in range(3))
    routes, other_routes = talk(service), talk(service)
    async with bare as one, enveloped as two, bystander as three, routes as four, other_routes as five:
        assert await one.ask({"type": RESUME, "session": token}) == {"success": True}
        answer = await two.ask({"data": {"type": RESUME, "session": token}, "id": "x"})
        assert answer == {"id": "x", "data": {"success": True}}
        assert await three.ask({"type": RESUME, "session": other}) == {"success": True}
        assert (await four.call("authenticate", session_key=token))["error"] is False
        assert (await five.call("authenticate", session_key=other))["error"] is False

        end(service, form, token)

        assert json.loads(await one.hear()) == OVER
        assert json.loads(await two.hear()) == {"data": OVER}
        # A connection of the route protocol is told nothing, and is nobody's any more.
        assert await four.refusal("update_profile") == (403, [])
        assert await four.refusal("logout") == (403, [])
        assert await four.refusal("authenticate", session_key=token) == (401, [])
        assert await one.ask({"type": RESUME, "session": token}) == {"success": False}
        # Nobody else has heard anything: the next thing that comes is the answer to what is asked.
        assert await three.ask({"type": RESUME, "session": other}) == {"success": True}
        assert (await five.call("update_profile"))["error"] is False
        assert (await four.call("authenticate", session_key=other))["error"] is False


async def test_every_session_of_a_user_ends_at_every_socket(service: Running) -> None:
    form = registered(service)
    tokens = [logged_in(service, form) for _ in range(3)]
    async with talk(service, "/react-auth") as one, talk(service, "/react-auth") as two, talk(service) as three:
        for client, token in zip((one, two), tokens, strict=False):
            assert await client.ask({"type": RESUME, "session": token}) == {"success": True}
        assert (await three.call("authenticate", session_key=tokens[2]))["error"] is False
        deactivate(service, form, tokens[0])
        for client in (one, two):
            assert json.loads(await client.hear()) == OVER
        assert await three.refusal("logout") == (403, [])
