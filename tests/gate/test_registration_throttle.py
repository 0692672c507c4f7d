"""Throttles of registration: accounts made from one address, and names that it found taken."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from events.catalogue import LoginThrottled, NameRefused, UserRegistered
from service.errors import InvalidFields, Throttled
from service.gate.attempts import Client
from service.gate.throttling import ThrottlePolicy
from tests.gate.visiting import CLIENT, PASSWORD, Visitor, all_at_once, visiting

POLICY = ThrottlePolicy(registrations=3)


async def take(visitor: Visitor, name: str, client: Client = CLIENT) -> int:
    return await visitor.gate.register(client, username=name, nickname=f"{name} the Great", password=PASSWORD)


async def test_from_the_third_account_on_an_address_waits_longer_and_longer(tmp_path: Path) -> None:
    """ASVS 5.0: 2.4.1, 6.1.1; CWE-799: accounts are not made by the thousand."""
    async with visiting(tmp_path, policy=POLICY) as visitor:
        for number in range(3):
            await take(visitor, f"early{number}")
        for delay in (1, 2, 4):
            with pytest.raises(Throttled) as refusal:
                await take(visitor, f"late{delay}")
            assert delay <= refusal.value.retry_after <= delay + 1
            visitor.house.clock.pass_by(seconds=delay)
            await take(visitor, f"late{delay}")
        assert [one.throttles[0].failures for one in visitor.events(UserRegistered)] == [1, 2, 3, 4, 5, 6]
        # A login from there, and a registration from elsewhere, are other things.
        await visitor.log_in("early0")
        await take(visitor, "elsewhere", Client("test", "198.51.100.9"))


async def test_names_that_are_taken_are_not_found_out_by_the_thousand_either(tmp_path: Path) -> None:
    """CWE-204: what a registration tells of an account, as it must, it tells a few times."""
    async with visiting(tmp_path, policy=POLICY) as visitor:
        await take(visitor, "alma")
        for _ in range(2):
            with pytest.raises(InvalidFields):
                await take(visitor, "alma")
        with pytest.raises(Throttled):
            await take(visitor, "alma")
        assert [(one.stream, one.actor) for one in visitor.told(NameRefused)] == [("service", "anonymous")] * 2
        assert [one.throttles[0].failures for one in visitor.events(NameRefused)] == [2, 3]
        # The book is not flooded by what is refused from then on.
        before = len(visitor.told())
        for _ in range(5):
            with pytest.raises(Throttled):
                await take(visitor, "alma")
        assert len(visitor.told()) == before
        assert len(visitor.told(LoginThrottled)) == 1


async def test_nor_by_whoever_has_an_account_already(tmp_path: Path) -> None:
    """A change of one's own names tells of others' as much as a registration does."""
    async with visiting(tmp_path, policy=POLICY) as visitor:
        await take(visitor, "alma")
        await take(visitor, "grace", Client("test", "198.51.100.9"))
        principal = (await visitor.log_in()).principal
        change = partial(visitor.gate.change_profile, CLIENT, principal)
        for _ in range(2):
            with pytest.raises(InvalidFields):
                await change(nickname="grace the Great")
        with pytest.raises(Throttled):
            await change(nickname="grace the Great")
        # What wants no name is not concerned, and a name that is free counts nothing.
        await change(email=None)
        visitor.house.clock.pass_by(seconds=1)
        for number in range(9):
            await change(nickname=f"alma the {number}.")
        assert len(visitor.told(NameRefused)) == 2


async def test_what_breaks_a_rule_is_not_counted(tmp_path: Path) -> None:
    async with visiting(tmp_path, policy=POLICY) as visitor:
        for _ in range(9):
            with pytest.raises(InvalidFields):
                await take(visitor, "a")
        assert visitor.told() == []


async def test_of_a_burst_no_more_are_registered_than_are_free(tmp_path: Path) -> None:
    async with visiting(tmp_path, policy=ThrottlePolicy(registrations=3, address_in_flight=50)) as visitor:
        outcomes = await all_at_once(*[partial(take, visitor, f"burst{number}") for number in range(20)])
        assert [type(one) for one in outcomes].count(Throttled) == 17
        assert len(visitor.told(UserRegistered)) == 3


@pytest.mark.parametrize("address", [None, "127.0.0.1", "::1"])
async def test_this_machine_is_not_counted(tmp_path: Path, address: str | None) -> None:
    async with visiting(tmp_path, policy=POLICY) as visitor:
        client = Client("test", address)
        for number in range(5):
            await take(visitor, f"local{number}", client)
        with pytest.raises(InvalidFields):
            await take(visitor, "local0", client)
        assert visitor.told(NameRefused) == []
