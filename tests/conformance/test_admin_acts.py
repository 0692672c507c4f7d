"""What an admin does, as it is met at every door: users and sessions, rebuilds, the book followed as it is written."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import trio

from tests.books import NOON, tell
from tests.books import registered as registration
from tests.conformance.running import FAST, PATIENCE, Running, fresh, running
from tests.conformance.talk import talk
from tests.conformance.test_account_api import PASSWORD, logged_in, refusal, registered
from tests.house import book_in
from tests.web.following import following

API = "/admin/api"
NAMES = ["users", "names", "sessions", "throttles", "activity"]
MANY = 4_000
"""So many accounts that a rebuild of their names is at work for a while."""


def new_admin(service: Running) -> str:
    """The token of an admin whom the command line made."""
    name = fresh("warden")
    made = service.cli("users", "add", name, "--level", "admin", "--password-stdin", given=PASSWORD)
    assert made.returncode == 0, made.stderr
    return logged_in(service, {"username": name, "password": PASSWORD})


def number_of(token: str) -> str:
    return token.partition("|")[0]


def port_of(service: Running) -> int:
    port = urlsplit(service.http).port
    assert port is not None
    return port


@pytest.fixture(scope="module")
def admin(service: Running) -> str:
    return new_admin(service)


def act(service: Running, token: str, path: str, body: Any = None) -> dict[str, Any]:
    answer = service.ask("POST", f"{API}{path}", body, token=token)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    assert list(found) == ["projection", "key", "document"]
    assert found == service.ask("GET", f"{API}/projections/users/{found['key']}", token=token).json()
    document: dict[str, Any] = found["document"]
    return document


async def test_a_user_is_put_out_everywhere_and_let_in_again(service: Running, admin: str) -> None:
    form = registered(service)
    token = logged_in(service, form)
    async with talk(service) as socket:
        assert (await socket.call("authenticate", session_key=token))["error"] is False
        document = act(service, admin, f"/users/{form['id']}/deactivate", {"reason": "left the house"})
        assert (document["active"], document["open_sessions"]) == (False, 0)
        assert await socket.refusal("authenticate", session_key=token) == (401, [])
    refusal(service.ask("GET", "/api/session", token=token), 401, "unauthenticated")
    refusal(
        service.ask("POST", "/api/session", {"identifier": form["username"], "password": PASSWORD}),
        401,
        "bad_credentials",
    )
    refusal(service.ask("POST", f"{API}/users/{form['id']}/deactivate", token=admin), 409, "conflict")
    assert act(service, admin, f"/users/{form['id']}/reactivate")["active"] is True
    refusal(service.ask("POST", f"{API}/users/{form['id']}/reactivate", token=admin), 409, "conflict")
    logged_in(service, form)
    told = service.events("--user", str(form["id"]), "--type", "user.deactivated")
    assert [(one["reason"], one["door"]) for one in told] == [("left the house", "admin")]


def test_a_level_counts_at_once(service: Running, admin: str) -> None:
    form = registered(service)
    token = logged_in(service, form)
    refusal(service.ask("GET", f"{API}/projections", token=token), 403, "forbidden")
    assert act(service, admin, f"/users/{form['id']}/level", {"level": 2})["level"] == 2
    assert service.ask("GET", f"{API}/projections", token=token).status_code == 200
    assert act(service, token, f"/users/{form['id']}/level", {"level": 2})["level"] == 2
    assert act(service, admin, f"/users/{form['id']}/level", {"level": 1})["level"] == 1
    refusal(service.ask("GET", f"{API}/projections", token=token), 403, "forbidden")
    told = service.events("--user", str(form["id"]), "--type", "user.level_changed")
    assert [one["level"] for one in told] == [2, 1]


def test_the_last_admin_stays(tmp_path: Path) -> None:
    with running(tmp_path, **FAST) as service:
        admin = new_admin(service)
        me = service.ask("GET", "/api/session", token=admin).json()["user"]["id"]
        refusal(service.ask("POST", f"{API}/users/{me}/deactivate", token=admin), 409, "last_admin")
        refusal(service.ask("POST", f"{API}/users/{me}/level", {"level": 1}, token=admin), 409, "last_admin")
        other = new_admin(service)
        left = service.ask("POST", f"{API}/users/{me}/level", {"level": 1}, token=admin)
        assert (left.status_code, left.json()["document"]["level"]) == (200, 1)
        refusal(service.ask("GET", f"{API}/projections", token=admin), 403, "forbidden")
        assert service.ask("GET", f"{API}/projections", token=other).status_code == 200


def test_a_session_is_ended_by_the_number_in_its_token(service: Running, admin: str) -> None:
    form = registered(service)
    one, other = logged_in(service, form), logged_in(service, form)
    ended = service.ask("DELETE", f"{API}/sessions/{number_of(one)}", token=admin)
    assert (ended.status_code, ended.content) == (204, b"")
    refusal(service.ask("GET", "/api/session", token=one), 401, "unauthenticated")
    assert service.ask("GET", "/api/session", token=other).status_code == 200
    refusal(service.ask("DELETE", f"{API}/sessions/{number_of(one)}", token=admin), 404, "not_found")
    [told] = service.events("--stream", f"session-{number_of(one)}", "--type", "session.closed")
    assert told["reason"] == "revoked"


def test_a_guest_s_session_is_ended_too(service: Running, admin: str) -> None:
    guest = httpx.post(f"{service.http}/api/authenticate", trust_env=False).json()["at"]
    assert service.ask("DELETE", f"{API}/sessions/{number_of(guest)}", token=admin).status_code == 204
    again = service.ask("POST", "/api/authenticate", token=guest)
    assert again.json()["at"] != guest


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/users/1/deactivate", None),
        ("POST", "/users/1/reactivate", None),
        ("POST", "/users/1/level", {"level": 1}),
        ("DELETE", "/sessions/1", None),
        ("POST", "/projections/users/rebuild", None),
        ("GET", "/projections/users/rebuild", None),
        ("GET", "/events/follow", None),
    ],
)
def test_only_an_admin_may(service: Running, method: str, path: str, body: Any) -> None:
    refusal(service.ask(method, f"{API}{path}", body), 401, "unauthenticated")
    token = logged_in(service, registered(service))
    refusal(service.ask(method, f"{API}{path}", body, token=token), 403, "forbidden")


# Rebuilds.


def ask_rebuild(service: Running, token: str, name: str) -> dict[str, Any]:
    answer = service.ask("POST", f"{API}/projections/{name}/rebuild", token=token)
    assert answer.status_code == 202, answer.text
    found: dict[str, Any] = answer.json()
    return found


def state(service: Running, token: str, name: str) -> dict[str, Any]:
    answer = service.ask("GET", f"{API}/projections/{name}/rebuild", token=token)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def ended(service: Running, token: str, name: str) -> tuple[dict[str, Any], list[int]]:
    """How it went, and the positions that it was seen at."""
    seen: list[int] = []
    deadline = time.monotonic() + PATIENCE
    while (found := state(service, token, name))["state"] == "running":
        seen.append(found["position"])
        assert time.monotonic() < deadline, found
    return found, seen


def digests(service: Running, token: str) -> dict[str, str]:
    answer = service.ask("GET", f"{API}/projections", token=token).json()
    return {one["name"]: one["digest"] for one in answer["projections"]}


def verify(service: Running) -> None:
    verified = service.cli("verify")
    assert verified.returncode == 0, verified.stdout + verified.stderr


def tables(store: Path) -> list[str]:
    connection = sqlite3.connect(store)
    try:
        found = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    finally:
        connection.close()
    return sorted(name for (name,) in found)


@pytest.mark.parametrize("name", NAMES)
def test_a_read_model_is_rebuilt_while_the_service_goes_on(service: Running, admin: str, name: str) -> None:
    for _ in range(5):
        logged_in(service, registered(service))
    begun = ask_rebuild(service, admin, name)
    assert begun["projection"] == name
    found, _ = ended(service, admin, name)
    assert list(found) == ["projection", "state", "position", "head", "started_at", "finished_at"]
    assert (found["state"], found["position"]) == ("done", found["head"])
    assert datetime.fromisoformat(found["started_at"]) <= datetime.fromisoformat(found["finished_at"])
    verify(service)
    me = service.ask("GET", "/api/session", token=admin).json()["user"]["id"]
    asks = service.events("--type", "projection.rebuild_asked")
    assert (asks[-1]["projection"], asks[-1]["actor"], asks[-1]["stream"]) == (name, f"user-{me}", "service")


def crowd(folder: Path) -> None:
    """Makes a book with many accounts."""
    with book_in(folder) as book:
        for start in range(0, MANY, 500):
            tell(book, NOON.replace(year=2020), *(("user", registration(f"u{start + n}")) for n in range(500)))


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, str]]:
    """A service over a book with many accounts, and an admin's token."""
    folder = tmp_path_factory.mktemp("many")
    crowd(folder)
    with running(folder, **FAST) as service:
        yield service, new_admin(service)


def child_of(service: Running) -> int | None:
    """The process that the service started, where there is one."""
    tasks = Path(f"/proc/{service.process.pid}/task")
    if not tasks.exists():
        pytest.skip("this system does not say whose child a process is")
    # Of all its threads: a process is started in one that may wait.
    found = [child for task in tasks.iterdir() for child in (task / "children").read_text().split()]
    return int(found[0]) if found else None


def held_in_the_middle(service: Running, token: str, name: str) -> tuple[int, dict[str, Any]]:
    """A rebuild that is at work, and does not go on until its process is continued."""
    for _ in range(20):
        ask_rebuild(service, token, name)
        child = child_of(service)
        if child is not None:
            try:
                os.kill(child, signal.SIGSTOP)
            except ProcessLookupError:
                continue
            if (found := state(service, token, name))["state"] == "running":
                return child, found
            os.kill(child, signal.SIGCONT)
        ended(service, token, name)
    raise AssertionError("it was done before it could be held")


def test_its_progress_is_seen_and_one_runs_at_a_time(many: tuple[Running, str]) -> None:
    service, admin = many
    before = digests(service, admin)
    child, found = held_in_the_middle(service, admin, "names")
    try:
        assert 0 < found["position"] <= found["head"]
        for name in ("names", "users"):
            refusal(service.ask("POST", f"{API}/projections/{name}/rebuild", token=admin), 409, "conflict")
        # Everybody else is served as ever.
        logged_in(service, registered(service))
    finally:
        os.kill(child, signal.SIGCONT)
    found, seen = ended(service, admin, "names")
    assert found["state"] == "done"
    assert seen == sorted(seen)
    assert digests(service, admin)["throttles"] == before["throttles"]
    verify(service)


def test_a_child_that_is_killed_leaves_the_old_table_as_it_was(many: tuple[Running, str]) -> None:
    service, admin = many
    before, kept = digests(service, admin), tables(service.store)
    child, _ = held_in_the_middle(service, admin, "names")
    os.kill(child, signal.SIGKILL)
    found, _ = ended(service, admin, "names")
    assert (found["state"], found["error"]) == (
        "failed",
        "The process of the rebuild ended by signal 9 before it was done.",
    )
    assert digests(service, admin) == before
    assert set(tables(service.store)) >= set(kept)
    verify(service)
    ask_rebuild(service, admin, "names")
    assert ended(service, admin, "names")[0]["state"] == "done"
    assert digests(service, admin) == before
    assert tables(service.store) == kept
    verify(service)


def test_a_stop_ends_the_child_and_leaves_nothing_half_done(tmp_path: Path) -> None:
    crowd(tmp_path)
    with running(tmp_path, **FAST) as service:
        admin = new_admin(service)
        kept = tables(service.store)
        child, _ = held_in_the_middle(service, admin, "names")
        os.kill(child, signal.SIGCONT)
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)
    assert tables(service.store) == kept
    verify(service)


# The book, followed.


async def test_the_book_is_followed_as_it_is_written_by_anybody(service: Running, admin: str) -> None:
    async with following(port_of(service), admin) as tail:
        form = registered(service)
        mine = [one for one in await tail.some(1) if one.data.get("user_id") in {None, form["id"]}]
        assert [(one.type, one.data["type"], one.id) for one in mine] == [
            ("message", "user.registered", str(form["id"]))
        ]
        assert service.cli("users", "deactivate", form["username"], "--reason", "so").returncode == 0
        [told] = await tail.some(1)
        assert (told.data["type"], told.data["reason"]) == ("user.deactivated", "so")
        assert told.data == service.ask("GET", f"{API}/events/{told.id}", token=admin).json()


async def test_it_ends_with_the_session_that_the_command_line_ends(service: Running) -> None:
    token = new_admin(service)
    async with following(port_of(service), token) as tail:
        assert service.cli("sessions", "revoke", number_of(token)).returncode == 0
        logged_in(service, registered(service))
        assert await tail.rest() == []
        assert tail.ended
    refusal(service.ask("GET", f"{API}/events/follow", token=token), 401, "unauthenticated")


async def test_there_are_ten_at_a_time(service: Running, admin: str) -> None:
    async with trio.open_nursery() as nursery:
        enough = trio.Event()
        begun: list[int] = []

        async def follow(task_status: trio.TaskStatus[None]) -> None:
            async with following(port_of(service), admin) as tail:
                begun.append(tail.status)
                task_status.started()
                await enough.wait()

        for _ in range(10):
            await nursery.start(follow)
        assert begun == [200] * 10
        answer = service.ask("GET", f"{API}/events/follow", token=admin)
        refusal(answer, 503, "overloaded")
        assert answer.headers["Retry-After"] == "10"
        enough.set()


async def test_it_is_taken_up_over_a_restart_and_a_stop_ends_it_at_once(tmp_path: Path) -> None:
    async with AsyncExitStack() as tails:
        with running(tmp_path, stop_grace_seconds=20, **FAST) as service:
            port, ws = port_of(service), urlsplit(service.ws).port
            assert ws is not None
            admin = new_admin(service)
            tail = await tails.enter_async_context(following(port, admin, "?after=0"))
            first = await tail.some(2)
            before = time.monotonic()
        assert time.monotonic() - before < 10
        first += await tail.rest()
        assert tail.ended
        with running(tmp_path, ports=(port, ws), **FAST) as again:
            form = registered(again)
            logged_in(again, form)
            async with following(port, admin, Last_Event_ID=tail.last_id) as tail:
                second = await tail.some(2)
            told = [int(one.id) for one in [*first, *second]]
            assert told == sorted(set(told))
            shown = json.dumps([one.data for one in second])
            assert form["username"] in shown
            head = again.ask("GET", f"{API}/projections", token=admin).json()["head"]
            refusal(again.ask("GET", f"{API}/events/follow?after={head + 100}", token=admin), 404, "not_found")
            everything = [one["position"] for one in again.events() if one.get("target") != "events/follow"]
            assert told == [position for position in everything if position <= told[-1]]
