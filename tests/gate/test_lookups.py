"""Who a token stands for: remembered while nobody commits anything, and never a moment longer."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import apsw
import pytest

from events.sqlite import SQLiteLog
from service.batch import BatchRunner, order, raised
from service.book import open_book, parse_address
from service.decisions.administration import Deactivate
from service.decisions.command import Command
from service.decisions.sessions import EndSession
from service.errors import Unauthenticated
from service.gate.attempts import client_of
from service.gate.gate import LoggedIn
from tests.house import House, house

CLIENT = client_of("account-api", "192.0.2.1", "test")
PASSWORD = "correct horse battery"


async def log_in(at: House, name: str) -> LoggedIn:
    await at.gate.register(CLIENT, username=name, nickname=name.title(), password=PASSWORD)
    return await at.gate.log_in(CLIENT, name, PASSWORD)


def elsewhere(at: House, command: Command) -> None:
    """What another process does on the same store."""
    book = open_book(parse_address(f"sqlite:{at.path}"))
    raised(BatchRunner(book, clock=at.clock).run([order(command, actor="operator", door="command-line")])[0])
    book.close()


def statements(at: House) -> list[str]:
    """What is executed on the event loop's connection from here on."""
    executed: list[str] = []

    def trace(_cursor: apsw.Cursor, sql: str, _bindings: object) -> bool:
        executed.append(sql)
        return True

    assert isinstance(at.book.log, SQLiteLog)
    at.book.log.connection.exec_trace = trace
    return executed


async def test_a_second_check_asks_the_store_only_whether_anything_moved(tmp_path: Path) -> None:
    async with house(tmp_path) as at:
        token = (await log_in(at, "alice")).token
        lookups = at.gate.lookups
        first = lookups.view(lookups.principal(token).user)
        executed = statements(at)

        assert lookups.view(lookups.principal(token).user) == first
        assert set(executed) == {"PRAGMA data_version"}


async def test_a_session_that_another_process_ends_is_over_at_the_very_next_check(tmp_path: Path) -> None:
    async with house(tmp_path) as at:
        alice, berta = await log_in(at, "alice"), await log_in(at, "berta")
        lookups = at.gate.lookups
        held = lookups.principal(alice.token)
        lookups.principal(berta.token)

        elsewhere(at, EndSession(alice.principal.session.id, alice.principal.user.id, "revoked"))

        with pytest.raises(Unauthenticated):
            lookups.principal(alice.token)
        with pytest.raises(Unauthenticated):
            lookups.renewed(held)
        assert lookups.principal(berta.token).user.id == berta.principal.user.id


async def test_an_account_that_another_process_deactivates_has_no_session_at_the_very_next_check(
    tmp_path: Path,
) -> None:
    async with house(tmp_path) as at:
        token = (await log_in(at, "alice")).token
        at.gate.lookups.principal(token)

        elsewhere(at, Deactivate(1))

        with pytest.raises(Unauthenticated):
            at.gate.lookups.principal(token)


async def test_a_remembered_session_still_ends_by_the_clock(tmp_path: Path) -> None:
    async with house(tmp_path) as at:
        token = (await log_in(at, "alice")).token
        at.gate.lookups.principal(token)
        at.clock.now += timedelta(days=1)

        with pytest.raises(Unauthenticated):
            at.gate.lookups.principal(token)


async def test_a_remembered_session_still_takes_its_own_token(tmp_path: Path) -> None:
    async with house(tmp_path) as at:
        token = (await log_in(at, "alice")).token
        at.gate.lookups.principal(token)
        forged = token[:-1] + ("a" if token[-1] != "a" else "b")

        with pytest.raises(Unauthenticated):
            at.gate.lookups.principal(forged)


async def test_a_changed_name_is_shown_at_once(tmp_path: Path) -> None:
    async with house(tmp_path) as at:
        alice = await log_in(at, "alice")
        lookups = at.gate.lookups
        before = lookups.principal(alice.token)
        assert lookups.view(before.user).nickname == "Alice"

        await at.gate.change_profile(CLIENT, before, nickname="Queen")

        assert lookups.view(before.user).nickname == "Alice", "what was handed out before is what it was"
        assert lookups.view(lookups.principal(alice.token).user).nickname == "Queen"


async def test_what_is_remembered_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.gate.lookups.MOST_REMEMBERED", 2)
    async with house(tmp_path) as at:
        tokens = [(await log_in(at, name)).token for name in ("alice", "berta", "carla", "daria")]
        lookups = at.gate.lookups
        for token in tokens * 2:
            lookups.view(lookups.principal(token).user)
            assert len(lookups._holders) <= 3
            assert len(lookups._views) <= 3
