"""Attempts that come all at once get no more guesses than attempts that come one after another."""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path

import pytest
import trio

from events.catalogue import LoginFailed, PasswordChanged, SessionOpened
from service.credentials.passwords import Verified
from service.decisions.login import RecordFailure
from service.errors import BadCredentials, InvalidFields, Refused, Throttled
from service.gate.attempts import Client
from service.gate.throttling import ThrottlePolicy
from tests.gate.visiting import ANOTHER, CLIENT, PASSWORD, Visitor, all_at_once, meddle, visiting

WRONG = "wrong " + PASSWORD
FREE = 3
POLICY = ThrottlePolicy(account_failures=FREE)


def overtaken(visitor: Visitor, device: str | None = None) -> list[Verified]:
    """From here on, each verified password is overtaken by a failure that another process on the store writes down."""
    limits = visitor.gate._attempts.limits(CLIENT, "user 1", device)
    return meddle(visitor, lambda: RecordFailure("wrong_password", 1, limits), times=FREE)


@pytest.mark.parametrize("password", [PASSWORD, WRONG])
async def test_an_attempt_that_was_overtaken_by_failures_is_told_nothing(tmp_path: Path, password: str) -> None:
    """ASVS 5.0: 2.4.1. Of what N processes evaluate at once beyond the free ones, nobody learns anything."""
    async with visiting(tmp_path, policy=POLICY) as visitor:
        await visitor.register()
        await visitor.fail(FREE - 1)
        overtaken(visitor)
        with pytest.raises(Refused) as refusal:
            await visitor.log_in(password=password)
        assert type(refusal.value) is Throttled
        assert len(visitor.told(LoginFailed)) == FREE
        assert visitor.told(SessionOpened) == []


async def test_a_guess_that_was_right_one_failure_too_late_opens_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last look is the decision's own, inside the transaction: nothing comes between it and what it writes."""
    async with visiting(tmp_path, policy=POLICY) as visitor:
        await visitor.register()
        await visitor.fail(FREE - 1)
        limits = visitor.gate._attempts.limits(CLIENT, "user 1", None)
        open_session = visitor.gate._open_session

        async def late(*arguments: object) -> object:
            await visitor.order(RecordFailure("wrong_password", 1, limits))
            return await open_session(*arguments)  # type: ignore[arg-type]  # handed on as it came

        monkeypatch.setattr(visitor.gate, "_open_session", late)
        with pytest.raises(Throttled):
            await visitor.log_in()
        assert visitor.told(SessionOpened) == []


async def test_an_old_password_is_not_guessed_in_a_burst_either(tmp_path: Path) -> None:
    async with visiting(tmp_path, policy=POLICY) as visitor:
        await visitor.register()
        principal = (await visitor.log_in()).principal
        change = partial(visitor.gate.change_profile, CLIENT, principal)
        for _ in range(FREE - 1):
            with pytest.raises(InvalidFields):
                await change(old_password=WRONG)
        overtaken(visitor, f"session {principal.session.id}")
        with pytest.raises(Throttled):
            await change(old_password=PASSWORD, new_password=ANOTHER)
        assert visitor.told(PasswordChanged) == []


async def test_an_old_password_that_was_right_one_failure_too_late_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with visiting(tmp_path, policy=POLICY) as visitor:
        await visitor.register()
        principal = (await visitor.log_in()).principal
        limits = visitor.gate._attempts.limits(CLIENT, "user 1", f"session {principal.session.id}")
        hash_new = visitor.gate._passwords.hash

        async def hash_late(password: str) -> str:
            for _ in range(FREE):
                await visitor.order(RecordFailure("wrong_password", 1, limits))
            return await hash_new(password)

        monkeypatch.setattr(visitor.gate._passwords, "hash", hash_late)
        with pytest.raises(Throttled):
            await visitor.gate.change_profile(CLIENT, principal, old_password=PASSWORD, new_password=ANOTHER)
        assert visitor.told(PasswordChanged) == []


async def test_who_is_throttled_is_told_so_at_once_whoever_has_the_turn(tmp_path: Path) -> None:
    async with visiting(tmp_path, policy=ThrottlePolicy(account_failures=1, address_in_flight=1)) as visitor:
        await visitor.register()
        async with visitor.gate._attempts.turn(CLIENT, "user 1", throttled_as="user 1"):
            limits = visitor.gate._attempts.limits(CLIENT, "user 1", None)
            await visitor.order(RecordFailure("wrong_password", 1, limits))
            visitor.house.clock.pass_by(seconds=-9)
            with trio.fail_after(10), pytest.raises(Throttled) as refusal:
                await visitor.log_in()
            # Until the throttle's window is over, and not only until the other attempt is.
            assert refusal.value.retry_after > 9


async def test_of_fifty_guesses_at_once_no_more_are_evaluated_than_are_free(tmp_path: Path) -> None:
    policy = ThrottlePolicy(account_failures=5, address_in_flight=50)
    async with visiting(tmp_path, policy=policy) as visitor:
        await visitor.register()
        verified = meddle(visitor, lambda: pytest.fail("nothing is to be written"), times=0)
        outcomes = await all_at_once(*[partial(visitor.log_in, password=f"{WRONG} {n}") for n in range(50)])
        assert len(verified) == 5
        assert Counter(map(type, outcomes)) == {BadCredentials: 5, Throttled: 45}


async def test_an_address_has_only_so_many_attempts_under_way(tmp_path: Path) -> None:
    policy = ThrottlePolicy(address_in_flight=3)
    async with visiting(tmp_path, policy=policy) as visitor:
        names = [f"nobody{n}" for n in range(10)]
        outcomes = await all_at_once(*[partial(visitor.log_in, name) for name in names])
        assert Counter(map(type, outcomes)) == {BadCredentials: 3, Throttled: 7}
        assert {one.retry_after for one in outcomes if isinstance(one, Throttled)} == {1}
        # Others are not touched by it, and the places are free again.
        elsewhere = Client("test", "198.51.100.9")
        at_once = [partial(visitor.log_in, name, client=who) for name in names[:3] for who in (CLIENT, elsewhere)]
        assert {type(one) for one in await all_at_once(*at_once)} == {BadCredentials}
        assert visitor.gate._attempts._in_flight == {}


async def test_registrations_are_attempts_of_their_address_too(tmp_path: Path) -> None:
    async with visiting(tmp_path, policy=ThrottlePolicy(address_in_flight=2)) as visitor:
        outcomes = await all_at_once(*[partial(visitor.register, f"somebody{n}") for n in range(5)])
        assert Counter(map(type, outcomes)) == {int: 2, Throttled: 3}


async def test_this_machine_may_have_any_number_under_way(tmp_path: Path) -> None:
    here = Client("test", "127.0.0.1")
    async with visiting(tmp_path, policy=ThrottlePolicy(address_in_flight=1)) as visitor:
        outcomes = await all_at_once(*[partial(visitor.log_in, f"nobody{n}", client=here) for n in range(4)])
        assert {type(one) for one in outcomes} == {BadCredentials}


async def test_whoever_leaves_before_the_answer_has_failed_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CWE-307: a guess counts when it was evaluated, whether anybody waits for what came of it or not."""
    async with visiting(tmp_path) as visitor:
        await visitor.register()
        verify = visitor.gate._passwords.verify
        verified = trio.Event()

        async def verify_and_tell(encoded: str | None, password: str) -> Verified:
            outcome = await verify(encoded, password)
            verified.set()
            await trio.lowlevel.cancel_shielded_checkpoint()
            return outcome

        monkeypatch.setattr(visitor.gate._passwords, "verify", verify_and_tell)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(visitor.fail)
            await verified.wait()
            nursery.cancel_scope.cancel()
        assert [one.reason for one in visitor.events(LoginFailed)] == ["wrong_password"]
