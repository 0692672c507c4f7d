"""Throttles at the gate: who has to wait after failures, and for how long."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from events.catalogue import LoginFailed, LoginThrottled
from projections.catalogue import THROTTLES
from service.decisions.administration import Deactivate
from service.errors import Throttled, Unavailable
from service.gate.attempts import Client
from service.gate.throttling import ThrottlePolicy
from service.networks import network_of
from tests.gate.visiting import ANOTHER, Visitor, all_at_once, meddle, visiting


async def test_from_the_fifth_failure_on_an_account_waits_longer_and_longer(tmp_path: Path) -> None:
    async with visiting(tmp_path) as visitor:
        clock = visitor.house.clock
        await visitor.register()
        await visitor.fail(5)
        for delay in (1, 2, 4, 8):
            # Now not even the right password is looked at, and the refusal says for how long.
            with pytest.raises(Throttled) as refusal:
                await visitor.log_in()
            assert delay <= refusal.value.retry_after <= delay + 1
            clock.pass_by(seconds=delay - 0.001)
            with pytest.raises(Throttled) as refusal:
                await visitor.log_in()
            assert refusal.value.retry_after == 1
            clock.pass_by(seconds=0.001)
            await visitor.fail()
        assert len(visitor.told(LoginFailed)) == 9
        clock.pass_by(seconds=16)
        assert visitor.lives(await visitor.log_in())


async def test_while_an_account_waits_no_password_is_verified(tmp_path: Path) -> None:
    async with visiting(tmp_path) as visitor:
        await visitor.register()
        await visitor.fail(5)
        verified = meddle(visitor, lambda: Deactivate(1))
        with pytest.raises(Throttled):
            await visitor.log_in()
        assert verified == []


async def test_a_window_is_told_of_once(tmp_path: Path) -> None:
    async with visiting(tmp_path) as visitor:
        await visitor.register()
        await visitor.fail(5)
        for _ in range(3):
            with pytest.raises(Throttled):
                await visitor.log_in()
        assert len(visitor.told(LoginThrottled)) == 1
        visitor.house.clock.pass_by(seconds=1)
        await visitor.fail()
        outcomes = await all_at_once(*[visitor.log_in] * 5)
        assert {type(one) for one in outcomes} == {Throttled}
        assert len(visitor.told(LoginThrottled)) == 2


async def test_a_refusal_does_not_depend_on_its_note(tmp_path: Path) -> None:
    async with visiting(tmp_path) as visitor:
        await visitor.register()
        await visitor.fail(5)
        visitor.house.writer.trouble = "the disk is full"
        with pytest.raises(Throttled):
            await visitor.log_in()
        assert visitor.told(LoginThrottled) == []


async def test_a_failure_that_cannot_be_written_down_is_not_told_as_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with visiting(tmp_path) as visitor:
        await visitor.register()

        async def full(*_: Any, **__: Any) -> None:
            raise Unavailable("the disk is full")

        monkeypatch.setattr(visitor.house.writer, "submit", full)
        with pytest.raises(Unavailable):
            await visitor.log_in(password=ANOTHER)


async def test_an_unknown_account_waits_as_a_known_one_does(tmp_path: Path) -> None:
    async with visiting(tmp_path) as visitor:
        await visitor.fail(5, "nobody")
        with pytest.raises(Throttled):
            await visitor.log_in("nobody")
        # In whatever case it is typed, it is the same account that nobody has.
        with pytest.raises(Throttled):
            await visitor.log_in("NOBODY")
        await visitor.fail(1, "somebody")


async def test_an_account_is_one_whichever_of_its_names_is_typed(tmp_path: Path) -> None:
    async with visiting(tmp_path) as visitor:
        await visitor.register(email="alma@example.org")
        await visitor.fail(3, "alma")
        await visitor.fail(2, "alma@example.org")
        with pytest.raises(Throttled):
            await visitor.log_in("alma")


async def test_an_account_waits_only_where_it_failed_from(tmp_path: Path) -> None:
    async with visiting(tmp_path) as visitor:
        await visitor.register()
        await visitor.fail(5)
        with pytest.raises(Throttled):
            await visitor.log_in(client=Client("test", "192.0.2.200"))
        assert visitor.lives(await visitor.log_in(client=Client("test", "198.51.100.1")))


async def test_a_success_clears_the_account_and_not_the_address(tmp_path: Path) -> None:
    async with visiting(tmp_path, policy=ThrottlePolicy(account_failures=5, address_failures=6)) as visitor:
        await visitor.register()
        await visitor.register("grace")
        await visitor.fail(4)
        await visitor.log_in()
        # Counted on from the four, this would be the fifth.
        await visitor.fail(1)
        assert visitor.lives(await visitor.log_in())
        await visitor.fail(1, "grace")
        # The sixth failure from this address closes it to everybody's name.
        with pytest.raises(Throttled):
            await visitor.log_in("grace")
        visitor.house.clock.pass_by(seconds=1)
        assert visitor.lives(await visitor.log_in("grace"))


async def test_without_an_address_only_the_account_counts(tmp_path: Path) -> None:
    async with visiting(tmp_path, policy=ThrottlePolicy(account_failures=2, address_failures=1)) as visitor:
        await visitor.register()
        nowhere = Client("test")
        await visitor.fail(2, client=nowhere)
        with pytest.raises(Throttled):
            await visitor.log_in(client=nowhere)
        await visitor.fail(1, "grace", client=nowhere)
        assert [one.partition(":")[0] for one in _throttle_keys(visitor)] == ["account", "account", "registration"]


def _throttle_keys(visitor: Visitor) -> list[str]:
    return [row.key for row in visitor.house.book.read_models.scan(THROTTLES)]


@pytest.mark.parametrize(
    ("address", "network"),
    [
        (None, ""),
        ("not an address", ""),
        ("192.0.2.200", "192.0.2.0/24"),
        ("::ffff:192.0.2.200", "192.0.2.0/24"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1::/48"),
    ],
)
def test_the_network_of_an_address(address: str | None, network: str) -> None:
    assert network_of(address) == network


async def test_the_throttle_key_is_replaced_after_thirty_days(tmp_path: Path) -> None:
    async with visiting(tmp_path) as visitor:
        throttling = visitor.gate._attempts._throttling
        now = visitor.house.clock.now
        before = throttling.limits("alma", "192.0.2.7", now)
        assert not throttling.rotate(now + timedelta(days=30))
        later = now + timedelta(days=30, seconds=1)
        assert throttling.limits("alma", "192.0.2.7", now + timedelta(days=29)) == before
        assert throttling.rotate(later)
        after = throttling.limits("alma", "192.0.2.7", later)
        assert {one.key for one in before}.isdisjoint(one.key for one in after)
