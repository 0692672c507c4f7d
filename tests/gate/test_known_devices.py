"""Devices that an account knows: what others fail at keeps nobody out who has been here before."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
import trio

from events.catalogue import LoginFailed
from projections.catalogue import THROTTLES
from service.errors import BadCredentials, Throttled
from service.gate.attempts import Client
from service.gate.throttling import ThrottlePolicy
from tests.gate.visiting import CLIENT, PASSWORD, Visitor, all_at_once, visiting


def at_device(device: str, address: str = "192.0.2.7") -> Client:
    return Client("test", address, "agent/1", device)


def kinds(visitor: Visitor) -> list[str]:
    return [row.key.partition(":")[0] for row in visitor.house.book.read_models.scan(THROTTLES)]


async def test_the_owner_comes_in_from_a_known_device_while_the_account_is_attacked(tmp_path: Path) -> None:
    """ASVS 5.0: 6.1.1, 6.3.1: brute force is slowed down without letting an attacker lock the owner out."""
    async with visiting(tmp_path) as visitor:
        await visitor.register()
        device = (await visitor.log_in()).device
        await visitor.fail(5)
        with pytest.raises(Throttled):
            await visitor.log_in()
        for _ in range(3):
            device = (await visitor.log_in(client=at_device(device))).device
        # The stranger is as throttled as before.
        with pytest.raises(Throttled):
            await visitor.log_in()


async def test_nor_is_the_owner_kept_out_by_what_others_did_from_the_same_address(tmp_path: Path) -> None:
    async with visiting(tmp_path, policy=ThrottlePolicy(address_failures=2, address_in_flight=1)) as visitor:
        await visitor.register()
        device = (await visitor.log_in()).device
        await visitor.fail(2, "somebody")
        with pytest.raises(Throttled):
            await visitor.log_in("another")
        assert visitor.lives(await visitor.log_in(client=at_device(device)))


async def test_a_known_device_waits_for_no_attempt_of_others_at_its_account_or_from_its_address(tmp_path: Path) -> None:
    async with visiting(tmp_path, policy=ThrottlePolicy(address_in_flight=1)) as visitor:
        await visitor.register()
        device = (await visitor.log_in()).device
        async with visitor.gate._attempts.turn(CLIENT, "user 1", throttled_as="user 1"):
            with trio.fail_after(10):
                assert visitor.lives(await visitor.log_in(client=at_device(device)))


async def test_each_account_of_a_device_has_its_own_guesses_there(tmp_path: Path) -> None:
    async with visiting(tmp_path) as visitor:
        await visitor.register()
        await visitor.register("grace")
        device = (await visitor.log_in()).device
        client = at_device((await visitor.log_in("grace", client=at_device(device))).device)
        await visitor.fail(5, "grace", client=client)
        with pytest.raises(Throttled):
            await visitor.log_in("grace", client=client)
        assert visitor.lives(await visitor.log_in(client=client))


async def test_a_known_device_has_no_more_guesses_than_a_stranger(tmp_path: Path) -> None:
    async with visiting(tmp_path) as visitor:
        await visitor.register()
        client = at_device((await visitor.log_in()).device)
        await visitor.fail(5, client=client)
        with pytest.raises(Throttled) as refusal:
            await visitor.log_in(client=client)
        assert 1 <= refusal.value.retry_after <= 2
        # Counted there and nowhere else, whatever address it has by then; another device has its own.
        with pytest.raises(Throttled):
            await visitor.log_in(client=at_device(client.device or "", "198.51.100.1"))
        assert kinds(visitor) == ["device", "registration"]
        assert visitor.lives(await visitor.log_in())
        visitor.house.clock.pass_by(seconds=2)
        await visitor.log_in(client=client)
        assert kinds(visitor) == ["registration"], "a success clears it"


async def test_guesses_at_a_known_device_come_one_after_another_too(tmp_path: Path) -> None:
    async with visiting(tmp_path, policy=ThrottlePolicy(account_failures=2)) as visitor:
        await visitor.register()
        client = at_device((await visitor.log_in()).device)

        async def guess() -> None:
            await visitor.log_in(password="wrong " + PASSWORD, client=client)

        outcomes = await all_at_once(*[guess] * 6)
        assert sorted(type(one).__name__ for one in outcomes) == ["BadCredentials"] * 2 + ["Throttled"] * 4


async def test_a_device_is_known_to_the_accounts_that_logged_in_from_it_alone(tmp_path: Path) -> None:
    async with visiting(tmp_path, policy=ThrottlePolicy(account_failures=1)) as visitor:
        await visitor.register()
        await visitor.register("grace")
        hers = (await visitor.log_in("grace")).device
        await visitor.fail(1)
        with pytest.raises(Throttled):
            await visitor.log_in(client=at_device(hers))
        # Nothing is known of a name that nobody has.
        await visitor.fail(1, "nobody", client=at_device(hers))
        assert "device" not in kinds(visitor)
        # Alma logs in from it as well: from then on it is known to both.
        visitor.house.clock.pass_by(seconds=1)
        both = (await visitor.log_in(client=at_device(hers))).device
        await visitor.fail(1)
        await visitor.fail(1, "grace")
        for name in ("alma", "grace"):
            assert visitor.lives(await visitor.log_in(name, client=at_device(both)))


@pytest.mark.parametrize("shown", ["", "gAAAAA", "x" * 10_000, "ä", "\x00"])
async def test_whoever_shows_anything_else_is_a_stranger(tmp_path: Path, shown: str) -> None:
    async with visiting(tmp_path) as visitor:
        await visitor.register()
        await visitor.fail(5)
        with pytest.raises(Throttled):
            await visitor.log_in(client=at_device(shown))
        visitor.house.clock.pass_by(seconds=1)
        assert visitor.lives(await visitor.log_in(client=at_device(shown)))


async def test_a_session_cookie_is_no_device(tmp_path: Path) -> None:
    async with visiting(tmp_path) as visitor:
        await visitor.register()
        opened = await visitor.log_in()
        await visitor.fail(5)
        with pytest.raises(Throttled):
            await visitor.log_in(client=at_device(opened.token))
        assert visitor.house.cookies.open(opened.device) is None


async def test_whoever_holds_a_session_of_the_account_is_known_by_it(tmp_path: Path) -> None:
    async with visiting(tmp_path) as visitor:
        await visitor.register()
        await visitor.register("grace")
        held, hers = await visitor.log_in(), await visitor.log_in("grace")
        await visitor.fail(5)
        with pytest.raises(Throttled):
            await visitor.log_in(replaces=hers.principal)
        with pytest.raises(BadCredentials):
            await visitor.log_in(password="wrong " + PASSWORD, replaces=held.principal)
        assert visitor.lives(await visitor.log_in(replaces=held.principal))


async def test_no_more_is_told_of_a_failure_at_a_known_device_than_of_any_other(tmp_path: Path) -> None:
    async with visiting(tmp_path) as visitor:
        await visitor.register()
        device = (await visitor.log_in()).device
        client = at_device(device)
        await visitor.fail(1, client=client)
        [failed] = visitor.events(LoginFailed)
        assert [step.failures for step in failed.throttles] == [1]
        assert device not in repr(client)
        assert device.encode() not in visitor.bytes_on_disk()


async def test_a_device_that_did_not_come_for_long_is_a_stranger_again(tmp_path: Path) -> None:
    async with visiting(tmp_path) as visitor:
        await visitor.register()
        device = (await visitor.log_in()).device
        visitor.house.clock.pass_by(days=210, seconds=1)
        seal = visitor.gate._devices.seal
        seal.destroy(seal.spent(visitor.house.clock() - timedelta(days=180)))
        await visitor.fail(5)
        with pytest.raises(Throttled):
            await visitor.log_in(client=at_device(device))
