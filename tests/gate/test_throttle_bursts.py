"""Attempts that come all at once get no more guesses than attempts that come one after another."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from events.log import Query
from service.credentials.passwords import Verified
from service.errors import BadCredentials, InvalidFields, Refused, Throttled
from service.gate.attempts import Client
from service.gate.throttling import ThrottlePolicy
from tests.house import house

PASSWORD = "tugging-Widow-41-lanterns"
WRONG = "plover-Cistern-88-gravity"
CLIENT = Client("test", "192.0.2.7", "agent/1")
FREE = 3


@pytest.mark.parametrize("password", [PASSWORD, WRONG])
async def test_an_attempt_that_was_overtaken_by_failures_is_told_nothing(
    tmp_path: Path, password: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attempts that begin at once all find their throttle open; what counts is how it stands when one was checked."""
    async with house(tmp_path, policy=ThrottlePolicy(account_failures=FREE)) as at:
        await at.gate.register(CLIENT, username="alma", nickname="alma", password=PASSWORD)
        verify = at.gate._passwords.verify
        overtaking = FREE

        async def verify_late(*arguments: Any) -> Verified:
            nonlocal overtaking
            if overtaking:
                overtaking -= 1
                with pytest.raises(BadCredentials):
                    await at.gate.log_in(CLIENT, "alma", WRONG)
            return await verify(*arguments)

        monkeypatch.setattr(at.gate._passwords, "verify", verify_late)
        with pytest.raises(Refused) as refusal:
            await at.gate.log_in(CLIENT, "alma", password)

        assert type(refusal.value) is Throttled
        assert len(at.book.log.read(Query(type="login.failed"))) == FREE
        assert at.book.log.read(Query(type="session.opened")) == []


async def test_an_old_password_is_not_guessed_in_a_burst_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with house(tmp_path, policy=ThrottlePolicy(account_failures=FREE)) as at:
        await at.gate.register(CLIENT, username="alma", nickname="alma", password=PASSWORD)
        principal = (await at.gate.log_in(CLIENT, "alma", PASSWORD)).principal
        change = partial(at.gate.change_profile, CLIENT, principal)
        verify = at.gate._passwords.verify
        overtaking = FREE

        async def verify_late(*arguments: Any) -> Verified:
            nonlocal overtaking
            if overtaking:
                overtaking -= 1
                with pytest.raises(InvalidFields):
                    await change(old_password=WRONG)
            return await verify(*arguments)

        monkeypatch.setattr(at.gate._passwords, "verify", verify_late)
        with pytest.raises(Throttled):
            await change(old_password=PASSWORD, new_password="another-Gate-17-entirely")

        assert at.book.log.read(Query(type="password.changed")) == []
