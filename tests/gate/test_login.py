"""Logging in: who is let in, what is said to the others, and what moves while a password is verified."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
import trio
import trio.testing
from msgspec.structs import replace

from events.catalogue import LoginFailed, PasswordRehashed, SessionOpened
from service.credentials.passwords import HashingCost
from service.decisions.administration import Deactivate, Reactivate, SetPassword
from service.errors import BadCredentials, Unavailable
from service.gate.attempts import LONGEST_AGENT, Client, client_of
from tests.gate.visiting import ANOTHER, CLIENT, PASSWORD, meddle, visiting
from tests.house import CHEAP


@pytest.mark.parametrize("identifier", ["alma", "ALMA", "alma@example.org", "ALMA@EXAMPLE.ORG"])
async def test_a_username_or_an_address_logs_in(tmp_path: Path, identifier: str) -> None:
    async with visiting(tmp_path) as visitor:
        user_id = await visitor.register(email="Alma@example.org")
        logged_in = await visitor.log_in(identifier)
        principal = visitor.gate.lookups.principal(logged_in.token)
        assert principal.user == logged_in.principal.user
        # What is answered comes out of what was recorded, in plain text; what is looked up is sealed.
        assert replace(principal.session, address="192.0.2.7", agent="agent/1") == logged_in.principal.session
        assert (principal.user.id, principal.session.user_id, principal.actor) == (user_id, user_id, f"user-{user_id}")
        (told,) = visitor.told(SessionOpened)
        assert (told.actor, told.door) == (f"user-{user_id}", "test")
        assert principal.session.expires_at == visitor.house.clock.now + timedelta(days=1)


async def test_a_nickname_does_not_log_in(tmp_path: Path) -> None:
    async with visiting(tmp_path) as visitor:
        await visitor.register(nickname="countess")
        await visitor.fail(name="countess")
        with pytest.raises(BadCredentials):
            await visitor.log_in("countess")


async def test_whatever_is_wrong_the_answer_is_the_same(tmp_path: Path) -> None:
    async with visiting(tmp_path) as visitor:
        await visitor.register()
        await visitor.register("grace")
        await visitor.order(Deactivate(2))
        attempts = [
            ("alma", ANOTHER),
            ("grace", PASSWORD),
            ("grace", ANOTHER),
            ("nobody", PASSWORD),
            ("no@body.org", PASSWORD),
            ("\x00", PASSWORD),
            ("alma", "\x00"),
        ]
        answers = set()
        for name, password in attempts:
            with pytest.raises(BadCredentials) as refusal:
                await visitor.log_in(name, password)
            answers.add((type(refusal.value), str(refusal.value)))
        assert len(answers) == 1
        assert [(one.stream, one.event.reason, one.event.user_id) for one in visitor.told(LoginFailed)] == [  # type: ignore[union-attr]  # all of them are LoginFailed
            ("user-1", "wrong_password", 1),
            ("user-2", "deactivated", 2),
            ("user-2", "wrong_password", 2),
            ("service", "unknown_account", None),
            ("service", "unknown_account", None),
            ("service", "unknown_account", None),
            ("user-1", "wrong_password", 1),
        ]
        assert visitor.told(SessionOpened) == []


async def test_what_was_typed_for_an_unknown_account_is_nowhere(tmp_path: Path) -> None:
    async with visiting(tmp_path) as visitor:
        typed = ["my-Secret-Typed-As-Name", "nobody.at.all@example.org"]
        for name in typed:
            with pytest.raises(BadCredentials):
                await visitor.log_in(name, "typed-Password-77", client=Client("test", "198.51.100.23", "odd-agent/9"))
        assert len(visitor.told(LoginFailed)) == 2
        on_disk = visitor.bytes_on_disk().lower()
        for secret in [*typed, "nobody.at.all", "typed-Password-77", "198.51.100.23", "odd-agent"]:
            assert secret.lower().encode() not in on_disk


async def test_no_secret_and_no_personal_value_lies_open_on_disk(tmp_path: Path) -> None:
    async with visiting(tmp_path) as visitor:
        await visitor.register("plain-Username", nickname="plain-Nickname", email="plain-mail@example.org")
        logged_in = await visitor.log_in("plain-username")
        await visitor.gate.change_profile(
            CLIENT, logged_in.principal, nickname="later-Nickname", old_password=PASSWORD, new_password=ANOTHER
        )
        await visitor.order(Deactivate(1, "plain-Reason"))
        on_disk = visitor.bytes_on_disk().lower()
        secrets = [
            PASSWORD,
            ANOTHER,
            logged_in.token.partition("|")[2],
            "plain-",
            "later-nickname",
            "argon2",
            "192.0.2.7",
        ]
        assert [secret for secret in secrets if secret.lower().encode() in on_disk] == []
        assert b"user.registered" in on_disk


async def test_a_password_that_changes_meanwhile_is_verified_anew_and_refused(tmp_path: Path) -> None:
    async with visiting(tmp_path) as visitor:
        await visitor.register()
        new_hash = await visitor.gate._passwords.hash(ANOTHER)
        verified = meddle(visitor, lambda: SetPassword(1, new_hash))
        with pytest.raises(BadCredentials):
            await visitor.log_in()
        assert [one.matches for one in verified] == [True, False]
        assert visitor.told(SessionOpened) == []
        assert [one.reason for one in visitor.events(LoginFailed)] == ["wrong_password"]


async def test_a_password_that_changed_while_the_turn_was_waited_for_is_the_one_that_counts(tmp_path: Path) -> None:
    async with visiting(tmp_path) as visitor:
        await visitor.register()
        new_hash = await visitor.gate._passwords.hash(ANOTHER)
        first = visitor.gate._attempts.turn(CLIENT, "user 1", throttled_as="user 1")
        async with trio.open_nursery() as nursery, first:
            nursery.start_soon(visitor.log_in, "alma", ANOTHER)
            await trio.testing.wait_all_tasks_blocked()
            await visitor.order(SetPassword(1, new_hash))
        assert visitor.events(LoginFailed) == []


async def test_a_password_that_is_set_anew_meanwhile_and_still_matches_logs_in(tmp_path: Path) -> None:
    async with visiting(tmp_path) as visitor:
        await visitor.register()
        same = await visitor.gate._passwords.hash(PASSWORD)
        verified = meddle(visitor, lambda: SetPassword(1, same), times=2)
        assert visitor.lives(await visitor.log_in())
        assert [one.matches for one in verified] == [True, True, True]


async def test_a_password_that_keeps_changing_cannot_be_judged(tmp_path: Path) -> None:
    async with visiting(tmp_path) as visitor:
        await visitor.register()
        same = await visitor.gate._passwords.hash(PASSWORD)
        verified = meddle(visitor, lambda: SetPassword(1, same), times=100)
        with pytest.raises(Unavailable):
            await visitor.log_in()
        assert len(verified) == 3
        assert visitor.told(SessionOpened) == []


async def test_an_account_that_is_deactivated_meanwhile_is_not_let_in(tmp_path: Path) -> None:
    async with visiting(tmp_path) as visitor:
        await visitor.register()
        meddle(visitor, lambda: Deactivate(1))
        with pytest.raises(BadCredentials):
            await visitor.log_in()
        assert visitor.told(SessionOpened) == []
        await visitor.order(Reactivate(1))
        assert visitor.lives(await visitor.log_in())


async def test_raised_parameters_rehash_a_password_once(tmp_path: Path) -> None:
    async with visiting(tmp_path) as visitor:
        await visitor.register()
        await visitor.log_in()
        assert visitor.told(PasswordRehashed) == []
    async with visiting(tmp_path, cost=HashingCost(memory=16, time=1)) as visitor:
        for _ in range(2):
            assert visitor.lives(await visitor.log_in())
        (rehashed,) = visitor.events(PasswordRehashed)
        assert rehashed.password_hash.startswith("$argon2id$v=19$m=16,t=1,p=1$")
        # A lower cost is no reason to weaken what is there.
    async with visiting(tmp_path, cost=CHEAP) as visitor:
        await visitor.log_in()
        assert len(visitor.told(PasswordRehashed)) == 1


def test_what_a_client_says_of_itself_is_cut() -> None:
    assert client_of("test", None, "x" * 1_000).agent == "x" * LONGEST_AGENT
    assert client_of("test", None, None).agent is None
    with pytest.raises(ValueError, match="at most 400 characters"):
        Client("test", None, "x" * (LONGEST_AGENT + 1))
