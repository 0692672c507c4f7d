"""Registering: from what somebody typed to the account in the book."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from events.catalogue import UserRegistered
from service.errors import InvalidFields, RegistrationClosed
from service.gate.gate import GateSettings
from service.gate.throttling import ThrottlePolicy
from tests.gate.visiting import all_at_once, fields, visiting


async def test_registering_makes_an_account_and_opens_no_session(tmp_path: Path) -> None:
    async with visiting(tmp_path) as visitor:
        user_id = await visitor.register("Alma", email="Alma@Example.org")
        (told,) = visitor.told()
        assert (told.position, told.stream, told.actor, told.door) == (user_id, f"user-{user_id}", "anonymous", "test")
        assert isinstance(told.event, UserRegistered)
        assert (told.event.username, told.event.username_prepared, told.event.level) == ("Alma", "alma", 1)
        assert (told.event.address, told.event.agent) == ("192.0.2.7", "agent/1")
        user = visitor.gate.lookups.user(user_id)
        assert user is not None
        view = visitor.gate.lookups.view(user)
        assert (view.username, view.nickname, view.email) == ("Alma", "Alma the Great", "Alma@Example.org")


async def test_what_breaks_a_rule_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    async with visiting(tmp_path) as visitor:
        with pytest.raises(InvalidFields) as refusal:
            await visitor.register("x", nickname="", password="short", email="nowhere")
        assert fields(refusal) == ["username", "nickname", "password", "email"]
        assert visitor.told() == []


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": "ALMA"}, "username"),
        ({"name": "grace", "nickname": "ALMA the great"}, "nickname"),
        ({"name": "grace", "email": "ALMA@example.org"}, "email"),
    ],
    ids=["username", "nickname", "email"],
)
async def test_a_name_that_is_taken_is_refused_before_anything_is_hashed(
    tmp_path: Path, changes: dict[str, str], field: str
) -> None:
    async with visiting(tmp_path) as visitor:
        await visitor.register(email="alma@example.org")
        visitor.gate._passwords = None  # type: ignore[assignment]  # must not be asked
        with pytest.raises(InvalidFields) as refusal:
            await visitor.register(**{"nickname": "Somebody", **changes})
        assert fields(refusal) == [field]


async def test_where_registration_is_closed_nothing_of_what_was_typed_is_looked_at(tmp_path: Path) -> None:
    async with visiting(tmp_path) as open_to_all:
        await open_to_all.register()
    async with visiting(tmp_path, settings=GateSettings(registration_open=False)) as visitor:
        visitor.gate._passwords = None  # type: ignore[assignment]  # must not be asked
        for form in ({"name": "grace"}, {"name": "alma"}, {"name": "x", "password": "short"}):
            with pytest.raises(RegistrationClosed):
                await visitor.register(**form)
        assert len(visitor.told()) == 1


async def test_of_fifty_who_want_one_name_at_once_one_has_it(tmp_path: Path) -> None:
    policy = ThrottlePolicy(registrations=50, address_in_flight=50)
    async with visiting(tmp_path, policy=policy) as visitor:
        outcomes = await all_at_once(
            *[partial(visitor.register, ("alma", "ALMA")[n % 2], nickname=f"nick {n}") for n in range(50)]
        )
        won = [one for one in outcomes if isinstance(one, int)]
        lost = [one for one in outcomes if isinstance(one, InvalidFields)]
        assert won == [1]
        assert len(lost) == 49
        assert {error.field for one in lost for error in one.errors} == {"username"}
        assert len(visitor.told(UserRegistered)) == 1
        assert visitor.house.book.read_models.states()["users"].documents == 1
