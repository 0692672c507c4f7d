"""Password hashing: what matches, what it costs, who waits for whom, and what happens to those who leave."""

import os
import re
import sys
import threading
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from argon2 import PasswordHasher, Type, extract_parameters
from argon2 import exceptions as argon2_exceptions
from trio.testing import wait_all_tasks_blocked

from service.credentials.passwords import HashingCost, Passwords, Verified, usable_cores
from service.errors import Overloaded, Refused, Unavailable

CHEAP = HashingCost(memory=8, time=1)


class Gauges:
    def __init__(self) -> None:
        self.shown: list[tuple[int, int]] = []
        self.refused = 0

    def hashing(self, *, in_flight: int, waiting: int) -> None:
        self.shown.append((in_flight, waiting))

    def hashing_refused(self) -> None:
        self.refused += 1


class HeldPasswords(Passwords):
    """Its hashes begin, and end when they are let go; each is said to take a second."""

    def __init__(self, *, workers: int = 1, longest_wait: float = 100.0) -> None:
        self.gauges = Gauges()
        self.readings: Counter[int] = Counter()
        super().__init__(
            CHEAP, workers=workers, longest_wait=longest_wait, gauges=self.gauges, clock=self.one_second_later
        )
        self._seconds_each = 1.0
        self.begun: list[str] = []
        self.changed = threading.Condition()
        self.let_go: Counter[str] = Counter()

    def one_second_later(self) -> float:
        # Read before and after each hash, by several threads: each sees a second go by.
        self.readings[threading.get_ident()] += 1
        return float(self.readings[threading.get_ident()])

    def hash_now(self, password: str) -> str:
        with self.changed:
            self.begun.append(password)
            self.changed.notify_all()
            assert self.changed.wait_for(lambda: self.let_go[password] > 0, timeout=10)
            self.let_go[password] -= 1
        return f"hash of {password}"

    def finish(self, password: str) -> None:
        with self.changed:
            self.let_go[password] += 1
            self.changed.notify_all()

    async def until_begun(self, count: int) -> list[str]:
        def wait() -> list[str]:
            with self.changed:
                assert self.changed.wait_for(lambda: len(self.begun) >= count, timeout=10)
                return list(self.begun)

        return await trio.to_thread.run_sync(wait)


@asynccontextmanager
async def running(passwords: Passwords) -> AsyncIterator[trio.Nursery]:
    async with trio.open_nursery() as workers:
        await workers.start(passwords.run)
        async with trio.open_nursery() as callers:
            yield callers
        workers.cancel_scope.cancel()


class Caller:
    """A task that wants one hash, and what came of it."""

    def __init__(self) -> None:
        self.result: str | None = None
        self.refusal: Refused | None = None
        self.scope = trio.CancelScope()
        self.over = trio.Event()

    async def hash(self, passwords: Passwords, password: str) -> None:
        with self.scope:
            try:
                self.result = await passwords.hash(password)
            except Refused as refusal:
                self.refusal = refusal
        self.over.set()


async def ask(nursery: trio.Nursery, passwords: Passwords, password: str) -> Caller:
    """Let one more caller ask, and return once it waits or was answered."""
    caller = Caller()
    nursery.start_soon(caller.hash, passwords, password)
    await wait_all_tasks_blocked()
    return caller


async def test_a_password_matches_its_hash_and_no_other() -> None:
    passwords = Passwords(CHEAP)
    async with running(passwords):
        encoded = await passwords.hash("correct horse")
        assert await passwords.verify(encoded, "correct horse") == Verified(matches=True)
        assert await passwords.verify(encoded, "correct horse ") == Verified(matches=False)
        assert await passwords.hash("correct horse") != encoded


def test_the_default_cost_is_what_owasp_asks_for() -> None:
    kept = extract_parameters(Passwords().hash_now("correct horse"))
    assert (kept.type, kept.version, kept.memory_cost, kept.time_cost, kept.parallelism) == (Type.ID, 19, 19_456, 2, 1)
    assert (kept.hash_len, kept.salt_len) == (32, 16)


def test_nothing_of_a_long_password_is_cut_off() -> None:
    passwords = Passwords(CHEAP)
    encoded = passwords.hash_now("a" * 60_000)
    assert passwords.verify_now(encoded, "a" * 60_000).matches
    assert not passwords.verify_now(encoded, "a" * 59_999 + "b").matches


@pytest.mark.parametrize("cost", [CHEAP, HashingCost(memory=64, time=3, parallelism=2)])
def test_an_unknown_account_costs_a_check_of_equal_parameters(
    cost: HashingCost, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[str] = []
    verify = PasswordHasher.verify

    def seen(self: PasswordHasher, encoded: str, password: str) -> bool:
        checked.append(encoded)
        return verify(self, encoded, password)

    monkeypatch.setattr(PasswordHasher, "verify", seen)
    passwords = Passwords(cost)
    assert passwords.verify_now(None, "correct horse") == Verified(matches=False)
    passwords.verify_now(passwords.hash_now("correct horse"), "correct horse")
    nobody, somebody = map(extract_parameters, checked)
    assert nobody == somebody


@pytest.mark.parametrize(
    ("then", "now", "needed"),
    [
        (CHEAP, CHEAP, False),
        (CHEAP, HashingCost(memory=16, time=1), True),
        (CHEAP, HashingCost(memory=8, time=2), True),
        (HashingCost(memory=64, time=1), HashingCost(memory=32, time=2), True),
        (HashingCost(memory=16, time=2), CHEAP, False),
    ],
)
def test_a_hash_is_renewed_when_the_parameters_were_raised(then: HashingCost, now: HashingCost, needed: bool) -> None:
    encoded = Passwords(then).hash_now("correct horse")
    assert Passwords(now).verify_now(encoded, "correct horse") == Verified(matches=True, needs_rehash=needed)
    assert Passwords(now).verify_now(encoded, "wrong horse") == Verified(matches=False)


def test_a_hash_of_another_kind_is_renewed() -> None:
    encoded = PasswordHasher(time_cost=9, memory_cost=99, parallelism=1, type=Type.I).hash("correct horse")
    assert Passwords(CHEAP).verify_now(encoded, "correct horse") == Verified(matches=True, needs_rehash=True)


@pytest.mark.parametrize("encoded", ["", "plain", "$argon2id$v=19$m=8,t=1,p=1$broken", "$2b$12$" + "a" * 53])
def test_a_hash_that_cannot_be_read_says_nothing_about_the_password(encoded: str) -> None:
    with pytest.raises(Unavailable) as refusal:
        Passwords(CHEAP).verify_now(encoded, "correct horse")
    assert "correct horse" not in f"{refusal.value.reason} {refusal.value!r}"


def test_want_of_memory_is_no_wrong_password(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(*_: object) -> bool:
        raise argon2_exceptions.VerificationError("Memory allocation error")

    monkeypatch.setattr(PasswordHasher, "verify", no_memory)
    with pytest.raises(Unavailable, match="cannot answer"):
        Passwords(CHEAP).verify_now(None, "correct horse")


def test_want_of_memory_while_hashing_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(*_: object) -> str:
        raise argon2_exceptions.HashingError("Memory allocation error")

    monkeypatch.setattr(PasswordHasher, "hash", no_memory)
    with pytest.raises(Unavailable) as refusal:
        Passwords(CHEAP).hash_now("correct horse")
    assert "Memory" in refusal.value.reason


async def test_as_many_at_a_time_as_there_are_workers() -> None:
    passwords = HeldPasswords(workers=2)
    async with running(passwords) as callers:
        asked = [await ask(callers, passwords, name) for name in "abcd"]
        assert set(await passwords.until_begun(2)) == {"a", "b"}
        assert passwords.gauges.shown[-1] == (2, 2)
        passwords.finish("b")
        assert await passwords.until_begun(3) == [*passwords.begun[:2], "c"]
        for name in "acd":
            passwords.finish(name)
        for caller in asked:
            await caller.over.wait()
    assert [caller.result for caller in asked] == [f"hash of {name}" for name in "abcd"]
    assert passwords.gauges.shown[-1] == (0, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has nice threads")
async def test_the_workers_let_everybody_else_go_first() -> None:
    nice: list[int] = []
    passwords = Passwords(CHEAP, workers=1)

    def look(password: str) -> str:
        nice.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        return password

    passwords.hash_now = look  # type: ignore[method-assign]  # looks
    async with running(passwords):
        await passwords.hash("correct horse")
    assert nice == [19]
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) < 19


async def test_more_than_the_longest_wait_is_refused_with_a_time_to_come_back() -> None:
    passwords = HeldPasswords(workers=2, longest_wait=2.0)
    async with running(passwords) as callers:
        # Two under way, and four waiting: two seconds of work for two workers.
        taken = [await ask(callers, passwords, str(number)) for number in range(6)]
        await passwords.until_begun(2)
        refused = await ask(callers, passwords, "one too many")
        assert isinstance(refused.refusal, Overloaded)
        assert refused.refusal.retry_after == 3
        assert passwords.gauges.refused == 1
        passwords.finish("0")
        await taken[0].over.wait()
        welcome = await ask(callers, passwords, "6")
        for number in range(1, 7):
            passwords.finish(str(number))
        await welcome.over.wait()
    assert welcome.result == "hash of 6"
    assert "one too many" not in passwords.begun


async def test_who_leaves_while_waiting_costs_no_hash() -> None:
    passwords = HeldPasswords()
    async with running(passwords) as callers:
        await ask(callers, passwords, "first")
        await passwords.until_begun(1)
        leaving = await ask(callers, passwords, "leaving")
        staying = await ask(callers, passwords, "staying")
        leaving.scope.cancel()
        await leaving.over.wait()
        assert passwords.gauges.shown[-1] == (1, 1)
        passwords.finish("first")
        passwords.finish("staying")
        await staying.over.wait()
    assert passwords.begun == ["first", "staying"]


async def test_the_estimate_follows_what_was_measured() -> None:
    readings = iter([0.0, 0.5] * 50)
    passwords = Passwords(CHEAP, workers=1, clock=lambda: next(readings))
    assert passwords.seconds_each < 0.001
    async with running(passwords):
        for _ in range(50):
            await passwords.hash("correct horse")
    assert passwords.seconds_each == pytest.approx(0.5, rel=0.01)


async def test_a_fault_reaches_its_caller_and_the_worker_lives_on() -> None:
    passwords = Passwords(CHEAP, workers=1)
    async with running(passwords):
        with pytest.raises(Unavailable):
            await passwords.verify("broken", "correct horse")
        assert (await passwords.verify(await passwords.hash("correct horse"), "correct horse")).matches


async def test_who_leaves_during_a_hash_is_told_of_it_all_the_same() -> None:
    passwords = HeldPasswords()
    async with running(passwords) as callers:
        leaving = await ask(callers, passwords, "leaving")
        await passwords.until_begun(1)
        leaving.scope.cancel()
        await wait_all_tasks_blocked()
        # Otherwise a guess would count for nothing when whoever makes it leaves before the answer.
        assert not leaving.over.is_set()
        passwords.finish("leaving")
        await leaving.over.wait()
    assert leaving.result == "hash of leaving"


async def test_when_the_workers_stop_those_who_wait_are_told() -> None:
    passwords = HeldPasswords()
    async with trio.open_nursery() as callers:
        async with trio.open_nursery() as workers:
            await workers.start(passwords.run)
            begun = await ask(callers, passwords, "begun")
            await passwords.until_begun(1)
            queued = [await ask(callers, passwords, f"queued {number}") for number in range(2)]
            workers.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                for caller in queued:
                    await caller.over.wait()
            passwords.finish("begun")
        late = await ask(callers, passwords, "late")
    assert begun.result == "hash of begun"
    assert all(isinstance(caller.refusal, Unavailable) for caller in (*queued, late))
    assert passwords.begun == ["begun"]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("passwords-")]


async def test_without_workers_nothing_waits_for_ever() -> None:
    with pytest.raises(Unavailable):
        await Passwords(CHEAP).hash("correct horse")


def test_by_default_there_is_a_worker_for_each_core() -> None:
    assert Passwords(CHEAP).workers == usable_cores() >= 1
    assert Passwords(CHEAP, workers=3).workers == 3


def test_the_password_shows_in_no_hash() -> None:
    assert re.fullmatch(
        r"\$argon2id\$v=19\$m=8,t=1,p=1\$[\w+/]{22}\$[\w+/]{43}", Passwords(CHEAP).hash_now("secret secret")
    )
