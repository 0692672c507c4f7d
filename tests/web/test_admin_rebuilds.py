"""Rebuilds that an admin asks for: who may, how they go, one at a time, and what becomes of those that fail."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import trio

from events.sqlite import SQLiteLog
from projections.catalogue import USERS
from projections.sqlite import table_of
from service.book import fresh_table
from service.decisions.administration import AskRebuild
from service.errors import Unavailable
from tests.guards.edge import PATIENCE
from tests.web.serving import Web, web

API = "/admin/api/projections"


class Child:
    """A child that says what the test wants said: some lines, then it waits until it is told to go on, then others."""

    def __init__(
        self, folder: Path, before: list[object], after: list[object] | None = None, *, then: str = ""
    ) -> None:
        self.pipe = folder / "go-on"
        self.started = folder / "started"
        os.mkfifo(self.pipe)
        script = f"""
import os, sys
sys.stdin.buffer.read()
open({str(self.started)!r}, "w").write(str(os.getpid()))
sys.stdout.write({"".join(_line(one) for one in before)!r})
sys.stdout.flush()
open({str(self.pipe)!r}).read()
sys.stdout.write({"".join(_line(one) for one in after or [])!r})
sys.stdout.flush()
{then}
"""
        self.command = [sys.executable, "-S", "-c", script]

    def go_on(self) -> None:
        """Lets the child that waits go on."""
        self.pipe.write_text("go on")

    @property
    def process(self) -> int:
        """Its process id."""
        return int(self.started.read_text())


def _line(said: object) -> str:
    return said if isinstance(said, str) else json.dumps(said) + "\n"


def progress(position: int, head: int) -> dict[str, Any]:
    return {"type": "progress", "position": position, "head": head}


def done(position: int) -> dict[str, Any]:
    return {"type": "done", "position": position, "changed": False}


async def asked(doors: Web, token: str, name: str = "users", status: int = 202) -> dict[str, Any]:
    answer = await doors.ask("POST", f"{API}/{name}/rebuild", token=token)
    assert answer.status_code == status, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def state(doors: Web, token: str, name: str = "users") -> dict[str, Any]:
    answer = await doors.get(f"{API}/{name}/rebuild", token)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def ended(doors: Web, token: str, name: str = "users") -> dict[str, Any]:
    """How it went, once it is over."""
    with trio.fail_after(PATIENCE):
        while (found := await state(doors, token, name))["state"] == "running":
            assert found["position"] <= found["head"]
    return found


def count(doors: Web, outcome: str, name: str = "users") -> float | None:
    labels = {"projection": name, "outcome": outcome}
    return doors.metrics.registry.get_sample_value("gatebook_rebuilds_total", labels)


async def test_only_an_admin_rebuilds(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        await doors.register()
        token = await doors.log_in()
        before = len(doors.events())
        for method in ("GET", "POST"):
            assert (await doors.ask(method, f"{API}/users/rebuild")).status_code == 401
            assert (await doors.ask(method, f"{API}/users/rebuild", token=token)).status_code == 403
        assert len(doors.events()) == before


async def test_every_read_model_is_rebuilt_and_who_asked_stands_in_the_book(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        await doors.register()
        token = await doors.admin()
        book = doors.house.book
        names = [projection.name for projection in book.projections]
        for name in names:
            assert (await doors.get(f"{API}/{name}/rebuild", token)).status_code == 404
            begun = await asked(doors, token, name)
            assert begun.keys() == {"projection", "state", "position", "head", "started_at"} or begun["state"] == "done"
            found = await ended(doors, token, name)
            assert found == {
                "projection": name,
                "state": "done",
                "position": found["head"],
                "head": found["position"],
                "started_at": "2026-11-21T12:00:00Z",
                "finished_at": "2026-11-21T12:00:00Z",
            }
            assert count(doors, "done", name) == 1
        asks = doors.events("projection.rebuild_asked")
        assert [getattr(one.event, "projection", None) for one in asks] == names
        assert {(one.stream, one.actor, one.door) for one in asks} == {("service", "user-2", "admin")}
        looks = {getattr(one.event, "target", None) for one in doors.events("audit.read")}
        assert looks == {f"projections/{name}/rebuild" for name in names}
        assert (await doors.get("/api/session", token)).status_code == 200


async def test_a_read_model_that_was_wrong_is_right_again(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        await doors.register()
        token = await doors.admin()
        log = doors.house.book.log
        right = doors.house.book.read_models.states()["users"]
        assert isinstance(log, SQLiteLog)
        log.connection.execute(f"DELETE FROM {table_of(USERS)} WHERE key = 1")  # noqa: S608 - a table of ours
        assert (await doors.get(f"{API}/users/1", token)).status_code == 404
        await asked(doors, token)
        assert (await ended(doors, token))["state"] == "done"
        assert (await doors.get(f"{API}/users/1", token)).json()["document"]["username"] == "alice"
        assert doors.house.book.read_models.states()["users"].digest == right.digest


async def test_there_is_one_at_a_time_and_it_says_where_it_is(tmp_path: Path) -> None:
    child = Child(tmp_path, [progress(1_000, 2_500), progress(2_000, 2_600)], [progress(2_600, 2_600), done(2_601)])
    async with web(tmp_path, rebuild_child=child.command) as doors:
        token = await doors.admin()
        begun = await asked(doors, token)
        assert (begun["state"], begun["started_at"]) == ("running", "2026-11-21T12:00:00Z")
        assert doors.metrics.registry.get_sample_value("gatebook_rebuilds_running") == 1
        before = len(doors.events())
        for name in ("users", "sessions"):
            refusal = await asked(doors, token, name, 409)
            assert refusal["error"]["code"] == "conflict"
        assert len(doors.events()) == before
        with trio.fail_after(PATIENCE):
            while (found := await state(doors, token))["position"] != 2_000:
                assert found["position"] == 1_000
        assert (found["head"], found["state"]) == (2_600, "running")
        assert "finished_at" not in found
        doors.house.clock.pass_by(seconds=7)
        child.go_on()
        found = await ended(doors, token)
        assert (found["state"], found["position"], found["head"]) == ("done", 2_601, 2_601)
        assert found["finished_at"] == "2026-11-21T12:00:07Z"
        assert doors.metrics.registry.get_sample_value("gatebook_rebuilds_running") == 0


async def test_while_another_process_rebuilds_the_same_it_is_refused(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        token = await doors.admin()
        book = doors.house.book
        users = book.projection("users")
        assert users is not None
        with fresh_table(book, users).alone():
            refusal = await asked(doors, token, status=409)
            assert refusal["error"]["code"] == "conflict"
            assert "users" in refusal["error"]["message"]
        assert (await doors.get(f"{API}/users/rebuild", token)).status_code == 404
        assert count(doors, "refused") == 1
        await asked(doors, token)
        assert (await ended(doors, token))["state"] == "done"


DEATHS: list[tuple[list[object], str, str]] = [
    ([], "os.kill(os.getpid(), 9)", "ended by signal 9 before it was done"),
    ([], "sys.exit(3)", "ended with status 3 before it was done"),
    ([], "", "ended with status 0 before it was done"),
    (["nonsense\n"], "", "not be understood"),
    ([{"type": "surprise"}], "", "not be understood"),
    (["x" * 40_000], "", "not be understood"),
    ([{"type": "failed", "sentence": "The disk is gone."}], "", "The disk is gone."),
    ([{"type": "failed", "sentence": "Something.", "fault": "KeyError at users.py:7"}], "", "Something."),
]


@pytest.mark.parametrize(("after", "then", "sentence"), DEATHS)
@pytest.mark.parametrize("begun", [True, False], ids=["in the middle", "at the start"])
async def test_a_child_that_dies_is_a_rebuild_that_failed(
    tmp_path: Path, after: list[object], then: str, sentence: str, *, begun: bool
) -> None:
    child = Child(tmp_path, [progress(1, 2)] if begun else [], after, then=then)
    if not begun:
        child.pipe.unlink()
        child.pipe.write_text("")
    async with web(tmp_path, rebuild_child=child.command) as doors:
        token = await doors.admin()
        right = doors.house.book.read_models.states()["users"].digest
        found = await asked(doors, token)
        if begun:
            assert found["state"] == "running"
            child.go_on()
            found = await ended(doors, token)
        assert (found["state"], found["position"]) == ("failed", 1 if begun else 0)
        assert sentence in found["error"]
        assert "finished_at" in found
        assert found == await state(doors, token)
        assert count(doors, "failed") == 1
        assert doors.house.book.read_models.states()["users"].digest == right
        assert (await asked(doors, token, "sessions"))["projection"] == "sessions"


async def test_a_child_that_cannot_be_started_is_a_rebuild_that_failed(tmp_path: Path) -> None:
    async with web(tmp_path, rebuild_child=[str(tmp_path / "nowhere")]) as doors:
        token = await doors.admin()
        found = await asked(doors, token)
        assert (found["state"], found["error"]) == (
            "failed",
            "The process of the rebuild could not be started, or not be understood.",
        )
        assert len(doors.events("projection.rebuild_asked")) == 1


async def test_what_cannot_be_written_down_is_not_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with web(tmp_path) as doors:
        token = await doors.admin()
        submit = doors.house.writer.submit

        async def full(command: Any, **who: Any) -> Any:
            if isinstance(command, AskRebuild):
                raise Unavailable("no room")
            return await submit(command, **who)

        monkeypatch.setattr(doors.house.writer, "submit", full)
        answer = await doors.ask("POST", f"{API}/users/rebuild", token=token)
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
        assert (await doors.get(f"{API}/users/rebuild", token)).status_code == 404
        monkeypatch.undo()
        await asked(doors, token)
        assert (await ended(doors, token))["state"] == "done"


async def test_a_stop_ends_the_child(tmp_path: Path) -> None:
    child = Child(tmp_path, [progress(1, 2)])
    async with web(tmp_path, rebuild_child=child.command) as doors:
        await asked(doors, await doors.admin())
        os.kill(child.process, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(child.process, signal.SIGKILL)


async def test_what_is_no_question(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        token = await doors.admin()
        for method in ("GET", "POST"):
            for path, status in (("/nothing/rebuild", 404), ("/users/rebuild?now=1", 400), ("/%00/rebuild", 404)):
                answer = await doors.ask(method, f"{API}{path}", token=token)
                assert answer.status_code == status, path
        answer = await doors.ask("POST", f"{API}/users/rebuild", {"force": True}, token=token)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "malformed")
        answer = await doors.ask("DELETE", f"{API}/users/rebuild", token=token)
        assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, HEAD, OPTIONS, POST")
        assert doors.events("projection.rebuild_asked") == []
