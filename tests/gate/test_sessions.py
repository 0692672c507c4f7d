"""Sessions at the gate: how long a token is good, what ends one, and being seen."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from events.catalogue import SessionClosed, SessionSeen
from service.errors import BadCredentials, Unauthenticated
from service.gate.gate import GateSettings
from tests.gate.visiting import ANOTHER, CLIENT, all_at_once, visiting


async def test_a_token_is_good_whole_and_in_its_time(tmp_path: Path) -> None:
    async with visiting(tmp_path) as visitor:
        await visitor.register()
        logged_in = await visitor.log_in()
        number, _, secret = logged_in.token.partition("|")
        swapped = secret[:-1] + ("a" if secret[-1] != "a" else "b")
        for token in ("", "nothing", f"{number}|{swapped}", f"{int(number) + 1}|{secret}", f" {logged_in.token}"):
            with pytest.raises(Unauthenticated):
                visitor.gate.lookups.principal(token)
        visitor.house.clock.pass_by(hours=23, minutes=59, seconds=59)
        assert visitor.lives(logged_in)
        visitor.house.clock.pass_by(seconds=1)
        assert not visitor.lives(logged_in)
        with pytest.raises(Unauthenticated):
            visitor.gate.lookups.renewed(logged_in.principal)


async def test_logging_out_ends_that_session_and_no_other(tmp_path: Path) -> None:
    async with visiting(tmp_path) as visitor:
        await visitor.register()
        first, second = await visitor.log_in(), await visitor.log_in()
        await visitor.gate.log_out(CLIENT, first.principal)
        assert not visitor.lives(first)
        assert visitor.lives(second)
        with pytest.raises(Unauthenticated):
            await visitor.gate.log_out(CLIENT, first.principal)
        assert [one.reason for one in visitor.events(SessionClosed)] == ["logout"]


async def test_logging_in_again_on_a_connection_ends_what_it_held(tmp_path: Path) -> None:
    async with visiting(tmp_path) as visitor:
        await visitor.register()
        await visitor.register("grace")
        first = await visitor.log_in()
        second = await visitor.log_in("grace", replaces=first.principal)
        assert not visitor.lives(first)
        assert visitor.lives(second)
        assert visitor.events(SessionClosed) == [SessionClosed(1, "replaced")]


async def test_a_failed_login_ends_nothing_that_the_connection_held(tmp_path: Path) -> None:
    async with visiting(tmp_path) as visitor:
        await visitor.register()
        first = await visitor.log_in()
        with pytest.raises(BadCredentials):
            await visitor.log_in(password=ANOTHER, replaces=first.principal)
        assert visitor.lives(first)


async def test_one_login_too_many_ends_the_oldest_session(tmp_path: Path) -> None:
    async with visiting(tmp_path, settings=GateSettings(sessions_per_user=2)) as visitor:
        await visitor.register()
        sessions = [await visitor.log_in() for _ in range(3)]
        assert [visitor.lives(one) for one in sessions] == [False, True, True]
        assert visitor.events(SessionClosed) == [SessionClosed(1, "replaced")]
        # At once, too, no more are open than may be.
        await all_at_once(*[visitor.log_in] * 10)
        assert visitor.house.book.read_models.states()["sessions"].documents == 2
        user = visitor.gate.lookups.user(1)
        assert user is not None
        assert user.open_sessions == 2


async def test_a_session_in_use_is_noted_at_most_once_an_hour(tmp_path: Path) -> None:
    async with visiting(tmp_path) as visitor:
        clock = visitor.house.clock
        await visitor.register()
        token = (await visitor.log_in()).token
        for minutes, notes in ((0, 0), (59, 0), (1, 1), (0, 1), (59, 1), (1, 2)):
            clock.pass_by(minutes=minutes)
            await visitor.gate.seen(CLIENT, visitor.gate.lookups.principal(token))
            assert len(visitor.told(SessionSeen)) == notes
        clock.pass_by(hours=1)
        stale = visitor.gate.lookups.principal(token)
        await all_at_once(*[partial(visitor.gate.seen, CLIENT, stale)] * 5)
        assert len(visitor.told(SessionSeen)) == 3


async def test_a_check_holds_though_its_use_cannot_be_noted(tmp_path: Path) -> None:
    async with visiting(tmp_path) as visitor:
        await visitor.register()
        principal = (await visitor.log_in()).principal
        visitor.house.clock.pass_by(hours=2)
        visitor.house.writer.trouble = "the disk is full"
        await visitor.gate.seen(CLIENT, principal)
        assert visitor.told(SessionSeen) == []
