"""The admin endpoint as an admin meets it: black box, over a real socket, against a running service."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conformance.running import Running, fresh
from tests.conformance.test_account_api import PASSWORD, logged_in, refusal, registered

API = "/admin/api"


@pytest.fixture(scope="module")
def admin(service: Running) -> str:
    """The token of an admin whom the command line made, while the service ran."""
    name = fresh("warden")
    made = service.cli("users", "add", name, "--level", "admin", "--password-stdin", given=PASSWORD)
    assert made.returncode == 0, made.stderr
    return logged_in(service, {"username": name, "password": PASSWORD})


def look(service: Running, token: str, path: str) -> Any:
    answer = service.ask("GET", f"{API}{path}", token=token)
    assert answer.status_code == 200, answer.text
    assert answer.headers["Cache-Control"] == "no-store"
    return answer.json()


@pytest.mark.parametrize("path", ["/projections", "/projections/users", "/projections/users/1", "/events", "/events/1"])
def test_only_an_admin_looks(service: Running, path: str) -> None:
    refusal(service.ask("GET", f"{API}{path}"), 401, "unauthenticated")
    token = logged_in(service, registered(service))
    refusal(service.ask("GET", f"{API}{path}", token=token), 403, "forbidden")


def test_the_projections(service: Running, admin: str) -> None:
    answer = look(service, admin, "/projections")
    assert {"users", "names", "sessions", "throttles", "activity"} <= {one["name"] for one in answer["projections"]}
    for one in answer["projections"]:
        assert one.keys() == {"name", "revision", "position", "lag", "documents", "digest", "indexes"}
        assert (one["position"], one["lag"]) == (answer["head"], 0)
        assert len(bytes.fromhex(one["digest"])) == 32


def test_a_person_from_first_to_last(service: Running, admin: str) -> None:
    form = registered(service)
    key, token = form["id"], logged_in(service, form)
    change = {"nickname": fresh("renamed"), "old_password": PASSWORD, "new_password": "battery horse staple"}
    assert service.ask("PATCH", "/api/profile", change, token=token).status_code == 200

    now = look(service, admin, f"/projections/users/{key}")
    assert (now["projection"], now["key"]) == ("users", str(key))
    assert (now["document"]["username"], now["document"]["nickname"]) == (form["username"], change["nickname"])
    then = look(service, admin, f"/projections/users/{key}?at={key}")
    assert (then["position"], then["document"]["nickname"]) == (key, form["nickname"])
    assert (then["document"]["open_sessions"], now["document"]["open_sessions"]) == (0, 1)
    at = now["document"]["created_at"]
    assert look(service, admin, f"/projections/users/{key}?at={at}")["document"]["nickname"] == form["nickname"]

    sessions = look(service, admin, f"/projections/sessions?index=user&value={key}")
    assert [one["key"] for one in sessions["documents"]] == [token.partition("|")[0]]
    events = look(service, admin, f"/events?user={key}&order=asc")
    assert [one["type"] for one in events["events"]] == [
        "user.registered",
        "session.opened",
        "profile.changed",
        "password.changed",
    ]
    assert events["next"] is None
    first = look(service, admin, f"/events/{key}")
    assert first == events["events"][0]
    assert (first["username"], first["address"]) == (form["username"], "127.0.0.1")
    assert {"position", "stream", "version", "at", "actor", "door", "type"} <= first.keys()
    told = repr([now, then, sessions, events])
    assert "$argon2" not in told
    assert token.partition("|")[2] not in told
    assert told.count("(redacted)") == 6


def test_a_name_as_it_was_is_replayed(service: Running, admin: str) -> None:
    form = registered(service)
    names = look(service, admin, f"/projections/names?index=user&value={form['id']}")
    assert sorted(one["document"]["kind"] for one in names["documents"]) == ["email", "nickname", "username"]
    tag = names["documents"][0]["key"]
    was = look(service, admin, f"/projections/names/{tag}?at={form['id']}")
    assert was["document"] == names["documents"][0]["document"]
    before = service.ask("GET", f"{API}/projections/names/{tag}?at={form['id'] - 1}", token=admin)
    refusal(before, 404, "not_found")


def test_pages_lead_to_the_end(service: Running, admin: str) -> None:
    form = registered(service)
    for _ in range(4):
        logged_in(service, form)
    positions: list[int] = []
    query = f"/events?user={form['id']}&order=desc&limit=2"
    page = look(service, admin, query)
    while True:
        positions += [one["position"] for one in page["events"]]
        if page["next"] is None:
            break
        page = look(service, admin, f"{query}&before={page['next']}")
    assert len(positions) == 5
    assert positions == sorted(positions, reverse=True)
    page = look(service, admin, "/projections/users?limit=1")
    following = look(service, admin, f"/projections/users?limit=1&after={page['next']}")
    assert int(following["documents"][0]["key"]) > int(page["documents"][0]["key"])


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/projections/nothing", 404, "not_found"),
        ("/projections/users/999999999", 404, "not_found"),
        ("/projections/users?index=username&value=1", 400, "malformed"),
        ("/projections/users?limit=1001", 400, "malformed"),
        ("/projections/users/1?at=soon", 400, "malformed"),
        ("/events?type=nothing", 400, "malformed"),
        ("/events?until=99999999999999999999", 400, "malformed"),
        ("/events?surprise=1", 400, "malformed"),
        ("/events/999999999", 404, "not_found"),
        ("/nothing", 404, "no_such_route"),
    ],
)
def test_what_is_no_question(service: Running, admin: str, path: str, status: int, code: str) -> None:
    refusal(service.ask("GET", f"{API}{path}", token=admin), status, code)


def test_nothing_is_changed_here(service: Running, admin: str) -> None:
    answer = service.ask("POST", f"{API}/events", {}, token=admin)
    refusal(answer, 405, "method_not_allowed")
    assert answer.headers["Allow"] == "GET, HEAD, OPTIONS"


def test_a_look_stands_in_the_book_once(service: Running, admin: str) -> None:
    form = registered(service)
    me = service.ask("GET", "/api/session", token=admin).json()["user"]["id"]
    for _ in range(3):
        look(service, admin, f"/projections/users/{form['id']}")
        look(service, admin, f"/events?user={form['id']}")
    asked = {f"projections/users/{form['id']}", f"events?user={form['id']}"}
    looks = [
        (one["actor"], one["door"], one["target"])
        for one in service.events("--type", "audit.read")
        if one["target"] in asked
    ]
    assert looks == [
        (f"user-{me}", "admin", f"projections/users/{form['id']}"),
        (f"user-{me}", "admin", f"events?user={form['id']}"),
    ]
