"""Turns: one at a time for each key, in order of arrival, and no more waiting than is bearable."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from service.errors import Overloaded
from service.gate.turns import Turns


class Guesser:
    """Somebody who takes a turn, and keeps it until told to end."""

    def __init__(self, turns: Turns, key: str) -> None:
        self.turns = turns
        self.key = key
        self.scope = trio.CancelScope()
        self.has_it = False
        self.end = trio.Event()

    async def come(self) -> None:
        with self.scope:
            async with self.turns.turn(self.key):
                self.has_it = True
                await self.end.wait()
        self.has_it = False


async def come(nursery: trio.Nursery, turns: Turns, key: str) -> Guesser:
    guesser = Guesser(turns, key)
    nursery.start_soon(guesser.come)
    await wait_all_tasks_blocked()
    return guesser


def turns_of(longest_wait: float = 100.0) -> Turns:
    return Turns(longest_wait=longest_wait, seconds_each=lambda: 1.0)


async def test_one_at_a_time_for_each_key_in_order_of_arrival() -> None:
    turns = turns_of()
    async with trio.open_nursery() as nursery:
        line = [await come(nursery, turns, "ann") for _ in range(3)]
        other = await come(nursery, turns, "bob")
        assert other.has_it
        assert turns.waiting == 2
        for number, guesser in enumerate(line):
            assert [one.has_it for one in line] == [place == number for place in range(3)]
            guesser.end.set()
            await wait_all_tasks_blocked()
        other.end.set()
    assert turns.waiting == 0
    assert turns._locks == {}


async def test_too_long_a_line_is_refused_and_keeps_nobody_else_waiting() -> None:
    turns = turns_of(longest_wait=2.0)
    async with trio.open_nursery() as nursery:
        line = [await come(nursery, turns, "ann") for _ in range(3)]
        with pytest.raises(Overloaded) as refusal:
            async with turns.turn("ann"):
                pytest.fail("one too many had a turn")
        assert refusal.value.retry_after == 3
        assert (await come(nursery, turns, "bob")).has_it
        nursery.cancel_scope.cancel()
    assert len(line) == 3
    assert turns._locks == {}


async def test_who_leaves_the_line_makes_room() -> None:
    turns = turns_of()
    async with trio.open_nursery() as nursery:
        first, leaving, last = [await come(nursery, turns, "ann") for _ in range(3)]
        leaving.scope.cancel()
        await wait_all_tasks_blocked()
        assert turns.waiting == 1
        first.end.set()
        await wait_all_tasks_blocked()
        assert last.has_it
        last.end.set()
    assert turns._locks == {}


async def test_who_has_left_before_the_first_turn_leaves_nothing_behind() -> None:
    turns = turns_of()
    with trio.CancelScope() as scope:
        scope.cancel()
        async with turns.turn("ann"):
            pytest.fail("somebody who has left had a turn")
    assert turns._locks == {}
    assert turns.waiting == 0


async def test_whoever_fails_in_their_turn_gives_it_back() -> None:
    turns = turns_of()
    with pytest.raises(ZeroDivisionError):
        async with turns.turn("ann"):
            _ = 1 // 0
    assert turns._locks == {}
    async with turns.turn("ann"):
        assert set(turns._locks) == {"ann"}
