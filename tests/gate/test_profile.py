"""Changing one's own profile: what is freed, what is taken, and what moves meanwhile."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from events.catalogue import LoginFailed, ProfileChanged, SessionClosed
from events.recorded import Recorded
from service.credentials.identifiers import Prepared
from service.decisions.administration import SetPassword
from service.decisions.command import Command
from service.decisions.profile import ChangeProfile, Renaming
from service.decisions.sessions import EndSession
from service.errors import BadCredentials, InvalidFields, Throttled, Unauthenticated, Unavailable
from tests.gate.visiting import ANOTHER, CLIENT, PASSWORD, all_at_once, fields, meddle, visiting


async def test_a_new_nickname_frees_the_old_one(tmp_path: Path) -> None:
    async with visiting(tmp_path) as visitor:
        await visitor.register(nickname="Countess")
        principal = (await visitor.log_in()).principal
        view = await visitor.gate.change_profile(CLIENT, principal, nickname="Lovelace")
        assert view.nickname == "Lovelace"
        assert await visitor.register("grace", nickname="COUNTESS")
        with pytest.raises(InvalidFields) as refusal:
            await visitor.gate.change_profile(CLIENT, principal, nickname="Countess")
        assert fields(refusal) == ["nickname"]


async def test_a_change_of_case_keeps_the_nickname(tmp_path: Path) -> None:
    async with visiting(tmp_path) as visitor:
        await visitor.register(nickname="Countess")
        principal = (await visitor.log_in()).principal
        view = await visitor.gate.change_profile(CLIENT, principal, nickname="COUNTESS")
        assert view.nickname == "COUNTESS"
        with pytest.raises(InvalidFields) as refusal:
            await visitor.register("grace", nickname="countess")
        assert fields(refusal) == ["nickname"]


async def test_an_address_that_is_removed_is_free_and_logs_nobody_in(tmp_path: Path) -> None:
    async with visiting(tmp_path) as visitor:
        await visitor.register(email="alma@example.org")
        principal = (await visitor.log_in("alma@example.org")).principal
        assert (await visitor.gate.change_profile(CLIENT, principal, email=None)).email is None
        with pytest.raises(BadCredentials):
            await visitor.log_in("alma@example.org")
        assert await visitor.register("grace", email="alma@example.org")
        # Where there is none, none is removed.
        await visitor.gate.change_profile(CLIENT, principal, email=None)
        assert len(visitor.told(ProfileChanged)) == 1


async def test_another_address_logs_in_and_the_old_one_no_more(tmp_path: Path) -> None:
    async with visiting(tmp_path) as visitor:
        await visitor.register(email="alma@example.org")
        principal = (await visitor.log_in()).principal
        assert (
            await visitor.gate.change_profile(CLIENT, principal, email="new@example.org")
        ).email == "new@example.org"
        assert visitor.lives(await visitor.log_in("new@example.org"))
        with pytest.raises(BadCredentials):
            await visitor.log_in("alma@example.org")


async def test_a_new_password_takes_the_old_one_and_ends_every_other_session(tmp_path: Path) -> None:
    async with visiting(tmp_path) as visitor:
        await visitor.register()
        mine, other = await visitor.log_in(), await visitor.log_in()
        await visitor.gate.change_profile(CLIENT, mine.principal, old_password=PASSWORD, new_password=ANOTHER)
        assert visitor.lives(mine)
        assert not visitor.lives(other)
        with pytest.raises(BadCredentials):
            await visitor.log_in()
        assert visitor.lives(await visitor.log_in(password=ANOTHER))


async def test_a_wrong_old_password_is_a_failure_like_any_other(tmp_path: Path) -> None:
    async with visiting(tmp_path) as visitor:
        await visitor.register()
        principal = (await visitor.log_in()).principal
        change = partial(visitor.gate.change_profile, CLIENT, principal, nickname="Lovelace")
        for _ in range(5):
            with pytest.raises(InvalidFields) as refusal:
                await change(old_password="wrong " + PASSWORD, new_password=ANOTHER)
            assert fields(refusal) == ["old_password"]
        assert [one.reason for one in visitor.events(LoginFailed)] == ["wrong_password"] * 5
        with pytest.raises(Throttled):
            await change(old_password=PASSWORD, new_password=ANOTHER)
        # Whoever holds a session is at a device of their own: what is guessed there keeps nobody else out.
        await visitor.log_in()
        # All of it or nothing: the nickname stayed too.
        assert visitor.told(ProfileChanged) == []


async def test_every_field_that_breaks_its_rule_is_named(tmp_path: Path) -> None:
    async with visiting(tmp_path) as visitor:
        await visitor.register()
        principal = (await visitor.log_in()).principal
        with pytest.raises(InvalidFields) as refusal:
            await visitor.gate.change_profile(CLIENT, principal, nickname="", email="nowhere", new_password="short")
        assert fields(refusal) == ["nickname", "email", "new_password", "old_password"]
        with pytest.raises(InvalidFields) as refusal:
            await visitor.gate.change_profile(CLIENT, principal, old_password=PASSWORD, new_password="ALMA the Great")
        assert fields(refusal) == ["new_password"]
        assert len(visitor.told()) == 2


async def test_a_name_that_is_taken_changes_nothing(tmp_path: Path) -> None:
    async with visiting(tmp_path) as visitor:
        await visitor.register(email="alma@example.org")
        await visitor.register("grace")
        principal = (await visitor.log_in("grace")).principal
        with pytest.raises(InvalidFields) as refusal:
            await visitor.gate.change_profile(CLIENT, principal, nickname="New Name", email="alma@example.org")
        assert fields(refusal) == ["email"]
        assert visitor.told(ProfileChanged) == []


async def test_a_profile_is_changed_by_a_live_session_alone(tmp_path: Path) -> None:
    async with visiting(tmp_path) as visitor:
        await visitor.register()
        principal = (await visitor.log_in()).principal
        visitor.house.clock.pass_by(days=1)
        with pytest.raises(Unauthenticated):
            await visitor.gate.change_profile(CLIENT, principal, nickname="Lovelace")


async def test_three_changes_at_once_leave_one_nickname_taken(tmp_path: Path) -> None:
    async with visiting(tmp_path) as visitor:
        await visitor.register()
        principal = (await visitor.log_in()).principal
        wanted = ["Lovelace", "Byron", "Countess"]
        outcomes = await all_at_once(
            *[partial(visitor.gate.change_profile, CLIENT, principal, nickname=name) for name in wanted]
        )
        assert not [one for one in outcomes if isinstance(one, Exception)]
        # What each of them released is what it found: the username and one nickname are left.
        assert visitor.house.book.read_models.states()["names"].documents == 2
        now = visitor.gate.lookups.view(visitor.gate.lookups.renewed(principal).user).nickname
        free = [name for name in wanted if name != now]
        assert await visitor.register("grace", nickname=free[0])
        with pytest.raises(InvalidFields):
            await visitor.register("joan", nickname=now)


async def test_of_two_who_want_one_nickname_at_once_one_has_it(tmp_path: Path) -> None:
    async with visiting(tmp_path) as visitor:
        principals = []
        for name in ("alma", "grace"):
            await visitor.register(name)
            principals.append((await visitor.log_in(name)).principal)
        outcomes = await all_at_once(
            *[partial(visitor.gate.change_profile, CLIENT, one, nickname="Admiral") for one in principals]
        )
        assert sorted(type(one).__name__ for one in outcomes) == ["InvalidFields", "UserView"]


@pytest.mark.parametrize(
    "changes",
    [
        {"nickname": "Lovelace"},
        {"email": "new@example.org"},
        {"email": None},
        {"old_password": PASSWORD, "new_password": ANOTHER},
        {"nickname": "Lovelace", "email": None, "old_password": PASSWORD, "new_password": ANOTHER},
        {},
    ],
    ids=["nickname", "another address", "no address", "password", "everything", "nothing"],
)
async def test_the_account_is_answered_as_it_was_recorded(tmp_path: Path, changes: dict[str, Any]) -> None:
    async with visiting(tmp_path) as visitor:
        await visitor.register(email="alma@example.org")
        principal = (await visitor.log_in()).principal
        visitor.house.clock.pass_by(minutes=5)
        view = await visitor.gate.change_profile(CLIENT, principal, **changes)
        assert view == visitor.gate.lookups.view(visitor.gate.lookups.renewed(principal).user)


async def test_a_change_that_was_written_is_answered_though_the_session_ends_at_that_moment(tmp_path: Path) -> None:
    async with visiting(tmp_path) as visitor:
        await visitor.register()
        logged_in = await visitor.log_in()
        submit = visitor.house.writer.submit

        async def submit_and_end(command: Command, **given: Any) -> tuple[Recorded, ...]:
            recorded = await submit(command, **given)
            # Somebody revokes the session after the commit, and before the answer is made of it.
            await submit(EndSession(logged_in.principal.session.id, 1, "revoked"), actor="operator", door="test")
            return recorded

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(visitor.house.writer, "submit", submit_and_end)
            view = await visitor.gate.change_profile(CLIENT, logged_in.principal, nickname="Lovelace", email="a@b.org")
        assert (view.nickname, view.email) == ("Lovelace", "a@b.org")
        assert not visitor.lives(logged_in)
        assert [type(one.event) for one in visitor.told()][-2:] == [ProfileChanged, SessionClosed]


async def test_an_old_password_that_changes_meanwhile_changes_nothing(tmp_path: Path) -> None:
    async with visiting(tmp_path) as visitor:
        await visitor.register()
        logged_in = await visitor.log_in()
        new_hash = await visitor.gate._passwords.hash(ANOTHER)
        meddle(visitor, lambda: SetPassword(1, new_hash))
        # Setting it ended the session as well.
        with pytest.raises(Unauthenticated):
            await visitor.gate.change_profile(
                CLIENT, logged_in.principal, old_password=PASSWORD, new_password="a third password"
            )
        assert visitor.lives(await visitor.log_in(password=ANOTHER))


async def test_names_that_keep_changing_cannot_be_judged(tmp_path: Path) -> None:
    async with visiting(tmp_path) as visitor:
        await visitor.register()
        principal = (await visitor.log_in()).principal
        numbers = iter(range(100))

        def renamed() -> Command:
            now = visitor.gate.lookups.renewed(principal).user
            name = visitor.gate.lookups.taking("nickname", Prepared(f"n{next(numbers)}", "another"))
            released = visitor.gate.lookups.opened(now.nickname_prepared)
            return ChangeProfile(now.id, principal.session.id, now.profile_version, Renaming(name, released))

        verified = meddle(visitor, renamed, times=100)
        with pytest.raises(Unavailable):
            await visitor.gate.change_profile(CLIENT, principal, nickname="Lovelace", old_password=PASSWORD)
        assert len(verified) == 3
        assert visitor.gate.lookups.view(visitor.gate.lookups.renewed(principal).user).nickname == "n2"
