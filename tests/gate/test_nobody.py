"""A name that nobody has costs as much as one that somebody has, so that the time of an answer tells nothing."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw
import pytest
from argon2 import PasswordHasher, extract_parameters
from msgspec.structs import replace

from events.catalogue import LoginFailed, PasswordRehashed, SessionOpened
from events.keys_sqlite import SQLiteKeyStore
from events.sqlite import SQLiteLog
from service.credentials.passwords import HashingCost
from service.credentials.rotating_seal import RotatingSeal
from service.decisions.administration import Deactivate
from service.decisions.login import RecordFailure
from service.errors import BadCredentials
from service.gate.attempts import Client
from tests.gate.visiting import ANOTHER, CLIENT, PASSWORD, Visitor, visiting
from tests.house import CHEAP, House

STRONGER = HashingCost(memory=64, time=3)
FAILURES = [
    ("alma", ANOTHER),
    ("alma@example.org", ANOTHER),
    ("grace", PASSWORD),
    ("grace", ANOTHER),
    ("nobody", PASSWORD),
    ("nobody@example.org", ANOTHER),
]
"""Logins that fail, at accounts and at names that nobody has. Grace is deactivated."""


class Work:
    """What one login was: statements on the event loop's connections, devices, hashes, and what the writer was told."""

    def __init__(self) -> None:
        self.read: list[str] = []
        self.opened = 0
        self.hashed: list[tuple[int, int]] = []
        self.written: list[tuple[str, int, int]] = []

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Work) and vars(self) == vars(other)

    def __hash__(self) -> int:
        raise NotImplementedError

    def __repr__(self) -> str:
        return repr(vars(self))


@contextmanager
def watched(at: House, monkeypatch: pytest.MonkeyPatch) -> Iterator[Work]:
    """Whatever is done for a login in the block, with no key at hand."""
    work = Work()
    assert isinstance(at.book.log, SQLiteLog)
    assert isinstance(at.book.keys, SQLiteKeyStore)
    connections = at.book.log.connection, at.book.keys._connection
    verify, open_seal, told = PasswordHasher.verify, RotatingSeal.open, len(at.told)

    def trace(_cursor: apsw.Cursor, sql: str, _bindings: object) -> bool:
        work.read.append(sql)
        return True

    def seen(self: PasswordHasher, encoded: str, password: str) -> bool:
        parameters = extract_parameters(encoded)
        work.hashed.append((parameters.memory_cost, parameters.time_cost))
        return verify(self, encoded, password)

    def opening(self: RotatingSeal[Any], value: str) -> Any:
        work.opened += 1
        return open_seal(self, value)

    with monkeypatch.context() as patched:
        patched.setattr(PasswordHasher, "verify", seen)
        patched.setattr(RotatingSeal, "open", opening)
        at.book.keyring.forget(range(100))
        for connection in connections:
            connection.exec_trace = trace
        yield work
        for connection in connections:
            connection.exec_trace = None
    for batch in at.told[told:]:
        for one in batch.orders:
            reads = one.command.reads()
            work.written.append((type(one.command).__name__, len(reads.users), len(reads.throttles)))


async def work_of(
    visitor: Visitor, name: str, password: str, monkeypatch: pytest.MonkeyPatch, client: Client = CLIENT
) -> Work:
    with watched(visitor.house, monkeypatch) as work, pytest.raises(BadCredentials):
        await visitor.log_in(name, password, client=client)
    return work


async def register_all(visitor: Visitor) -> None:
    for name in ("alma", "grace"):
        await visitor.register(name, email=f"{name}@example.org")
    await visitor.order(Deactivate(2))


async def test_as_much_is_read_evaluated_and_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ASVS 5.0: 6.3.8."""
    async with visiting(tmp_path) as visitor:
        await register_all(visitor)
        works = [await work_of(visitor, *failure, monkeypatch) for failure in FAILURES]
        [work] = [one for number, one in enumerate(works) if one not in works[:number]]
        assert work.hashed == [(CHEAP.memory, CHEAP.time)]
        assert work.written == [(RecordFailure.__name__, 1, 2)]
        assert len([sql for sql in work.read if "subject_key" in sql]) == 1


@pytest.mark.parametrize("shown", ["a device of somebody else's", "no device"])
async def test_a_device_that_is_shown_is_opened_whoever_logs_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shown: str
) -> None:
    """CWE-208: what is none costs even a look at the key store, once a second."""
    async with visiting(tmp_path) as visitor:
        await register_all(visitor)
        await visitor.register("mallory")
        device = (await visitor.log_in("mallory")).device
        works = []
        for failure in FAILURES:
            # So that each of them is the first in its second.
            visitor.house.clock.pass_by(seconds=2)
            client = replace(CLIENT, device=device if shown != "no device" else b64encode(bytes(90)).decode())
            works.append(await work_of(visitor, *failure, monkeypatch, client))
        [work] = [one for number, one in enumerate(works) if one not in works[:number]]
        assert work.opened == 1
        assert ("service_key" in " ".join(work.read)) is (shown == "no device")


@pytest.mark.parametrize(("then", "now"), [(CHEAP, STRONGER), (STRONGER, CHEAP)], ids=["raised since", "lowered since"])
async def test_it_costs_what_the_hashes_do_that_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, then: HashingCost, now: HashingCost
) -> None:
    async with visiting(tmp_path, cost=then) as visitor:
        await register_all(visitor)
    async with visiting(tmp_path, cost=now) as visitor:
        works = [await work_of(visitor, *failure, monkeypatch) for failure in FAILURES]
        assert [work.hashed for work in works] == [[(then.memory, then.time)]] * len(FAILURES)


@pytest.mark.parametrize("name", ["nobody", "no@body.org", "", "abc", "\x00", "a b c d", "@", "x" * 10_000])
async def test_the_password_of_the_account_that_stands_in_lets_nobody_in(tmp_path: Path, name: str) -> None:
    async with visiting(tmp_path) as visitor:
        await visitor.register()
    async with visiting(tmp_path, cost=STRONGER) as visitor:
        for _ in range(2):
            with pytest.raises(BadCredentials):
                await visitor.log_in(name, PASSWORD)
        assert [one.stream for one in visitor.told(LoginFailed)] == ["service"] * 2
        failures = visitor.events(LoginFailed)
        assert [(failed.reason, failed.user_id) for failed in failures] == [("unknown_account", None)] * 2
        assert visitor.events(SessionOpened) == visitor.events(PasswordRehashed) == []
        # Nor is it counted at that account.
        [of_alma, _] = visitor.gate._attempts.limits(CLIENT, "user 1", None)
        assert of_alma.key.startswith("account:")
        assert visitor.gate.lookups.throttle(of_alma.key) is None


async def test_where_there_is_no_account_at_all_a_hash_is_evaluated_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with visiting(tmp_path, cost=STRONGER) as visitor:
        work = await work_of(visitor, "nobody", PASSWORD, monkeypatch)
        assert work.hashed == [(STRONGER.memory, STRONGER.time)]
        assert work.written == [(RecordFailure.__name__, 0, 2)]


async def test_for_one_name_it_is_the_same_account_each_time_and_for_many_it_is_any(tmp_path: Path) -> None:
    async with visiting(tmp_path) as visitor:
        for number in range(4):
            await visitor.register(f"somebody{number}")
        at_login = visitor.gate.lookups.at_login
        tags = [visitor.gate.lookups.tag("username", f"nobody{number}") for number in range(100)]
        found = [at_login(tag, "") for tag in tags]
        assert [at_login(tag, "") for tag in tags] == found
        assert {one.account for one in found} == {None}
        assert {one.evaluated and one.evaluated.id for one in found} == {1, 2, 3, 4}
