"""Guests at the gate: who comes without a session gets one, and trades it for one of an account's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from events.catalogue import GuestCreated, GuestLinked, LoginFailed, SessionClosed, SessionOpened, SessionSeen
from service.credentials.tokens import digest
from service.decisions.sessions import EndSession
from service.errors import BadCredentials, Overloaded, TooManyGuests, Unauthenticated
from service.gate.attempts import Client
from service.gate.guests import GuestAdmitted
from service.gate.lookups import Guest
from tests.gate.visiting import CLIENT, PASSWORD, Visitor, all_at_once, meddle, visiting


async def admitted(visitor: Visitor, address: str | None = "192.0.2.7") -> GuestAdmitted:
    return await visitor.house.guests.admit(Client("test", address, "agent/1"))


async def log_in(visitor: Visitor, came: GuestAdmitted, password: str = PASSWORD) -> Any:
    return await visitor.gate.log_in(CLIENT, "alma", password, guest=came.guest)


async def test_a_guest_has_a_token_which_is_kept_nowhere(tmp_path: Path) -> None:
    async with visiting(tmp_path) as visitor:
        came = await admitted(visitor)
        [told] = visitor.told()
        secret = came.token.partition("|")[2]
        assert told.event == GuestCreated(digest(secret), told.event.expires_at, told.event.origin)  # type: ignore[union-attr]  # the line says which
        assert (told.stream, told.actor, told.door) == ("session-1", "anonymous", "test")
        assert came.token == f"1|{secret}"
        assert secret.encode() not in visitor.bytes_on_disk()
        assert b"192.0.2.7" not in visitor.bytes_on_disk()
        assert secret not in repr(came)


async def test_a_guests_token_is_good_where_guests_count_and_nowhere_else(tmp_path: Path) -> None:
    async with visiting(tmp_path) as visitor:
        came = await admitted(visitor)
        lookups = visitor.gate.lookups
        holder = lookups.holder(came.token)
        assert holder == came.guest
        assert holder.actor == "guest-1"
        with pytest.raises(Unauthenticated):
            lookups.principal(came.token)
        with pytest.raises(Unauthenticated):
            lookups.holder(came.token[:-1] + ("a" if came.token[-1] != "a" else "b"))


async def test_a_guest_is_over_after_a_day(tmp_path: Path) -> None:
    async with visiting(tmp_path) as visitor:
        came = await admitted(visitor)
        visitor.house.clock.pass_by(hours=24, seconds=-1)
        assert isinstance(visitor.gate.lookups.holder(came.token), Guest)
        visitor.house.clock.pass_by(seconds=1)
        with pytest.raises(Unauthenticated):
            visitor.gate.lookups.holder(came.token)


async def test_a_guest_is_seen_once_in_the_interval(tmp_path: Path) -> None:
    async with visiting(tmp_path) as visitor:
        came = await admitted(visitor)
        visitor.house.clock.pass_by(hours=2)
        for _ in range(2):
            await visitor.gate.seen(CLIENT, visitor.gate.lookups.holder(came.token))
        [seen] = visitor.told(SessionSeen)
        assert (seen.stream, seen.actor, seen.event) == ("session-1", "guest-1", SessionSeen(1))


async def test_one_address_has_so_many_guests_and_no_more(tmp_path: Path) -> None:
    async with visiting(tmp_path, guests_per_address=2) as visitor:
        first = await admitted(visitor)
        await admitted(visitor)
        with pytest.raises(TooManyGuests) as refused:
            await admitted(visitor)
        assert refused.value.retry_after == 86_401
        # Another address has its own, and a guest who is gone makes room.
        await admitted(visitor, "192.0.2.8")
        await visitor.order(EndSession(first.guest.session.id, first.guest.session.id))
        await admitted(visitor)
        with pytest.raises(TooManyGuests):
            await admitted(visitor)


async def test_whoever_must_wait_is_told_until_the_first_guest_is_over(tmp_path: Path) -> None:
    async with visiting(tmp_path, guests_per_address=2) as visitor:
        await admitted(visitor)
        visitor.house.clock.pass_by(hours=1)
        await admitted(visitor)
        with pytest.raises(TooManyGuests) as refused:
            await admitted(visitor)
        assert refused.value.retry_after == 23 * 3_600 + 1
        # Over by the clock, and not written down yet.
        visitor.house.clock.pass_by(hours=23)
        with pytest.raises(TooManyGuests) as refused:
            await admitted(visitor)
        assert refused.value.retry_after == 1


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "::ffff:127.0.0.1", None])
async def test_this_machines_own_address_has_no_bound_but_that_for_all(tmp_path: Path, address: str | None) -> None:
    async with visiting(tmp_path, guests_per_address=1, guests_in_all=3) as visitor:
        for _ in range(2):
            await admitted(visitor, address)


async def test_there_are_no_more_guests_than_may_be_in_all(tmp_path: Path) -> None:
    async with visiting(tmp_path, guests_in_all=2) as visitor:
        first = await admitted(visitor, "127.0.0.1")
        await admitted(visitor, "192.0.2.1")
        with pytest.raises(Overloaded) as refused:
            await admitted(visitor, "192.0.2.2")
        assert refused.value.retry_after == 60
        await visitor.order(EndSession(first.guest.session.id, first.guest.session.id))
        # How many there are is remembered for a second.
        visitor.house.clock.pass_by(seconds=1)
        await admitted(visitor, "192.0.2.2")
        visitor.house.clock.pass_by(seconds=1)
        with pytest.raises(Overloaded):
            await admitted(visitor, "192.0.2.3")


async def test_a_network_of_ipv6_counts_as_one_address(tmp_path: Path) -> None:
    async with visiting(tmp_path, guests_per_address=1) as visitor:
        await admitted(visitor, "2001:db8::1")
        with pytest.raises(TooManyGuests):
            await admitted(visitor, "2001:db8::2")
        await admitted(visitor, "2001:db8:0:1::1")


async def test_a_burst_of_guests_gets_no_more_than_a_queue(tmp_path: Path) -> None:
    async with visiting(tmp_path, guests_per_address=5) as visitor:
        outcomes = await all_at_once(*[lambda: admitted(visitor)] * 20)
        assert sum(isinstance(one, GuestAdmitted) for one in outcomes) == 5
        assert len(visitor.told(GuestCreated)) == 5


async def test_a_guest_who_logs_in_is_linked_and_their_token_dies(tmp_path: Path) -> None:
    async with visiting(tmp_path) as visitor:
        user_id = await visitor.register()
        came = await admitted(visitor)
        opened = await log_in(visitor, came)
        assert visitor.lives(opened)
        with pytest.raises(Unauthenticated):
            visitor.gate.lookups.holder(came.token)
        linked, closed, _ = visitor.told()[-3:]
        assert (linked.stream, linked.event, linked.actor) == (
            came.guest.session.id and f"session-{came.guest.session.id}",
            GuestLinked(user_id),
            f"user-{user_id}",
        )
        assert closed.event == SessionClosed(came.guest.session.id, "replaced")
        assert len({one.command_id for one in visitor.told()[-3:]}) == 1


async def test_a_guest_whose_login_fails_stays_a_guest(tmp_path: Path) -> None:
    async with visiting(tmp_path) as visitor:
        await visitor.register()
        came = await admitted(visitor)
        with pytest.raises(BadCredentials):
            await log_in(visitor, came, "wrong " + PASSWORD)
        assert visitor.gate.lookups.holder(came.token) == came.guest
        assert len(visitor.told(LoginFailed)) == 1


async def test_of_two_logins_of_one_guest_at_once_one_is_let_in(tmp_path: Path) -> None:
    async with visiting(tmp_path) as visitor:
        await visitor.register()
        came = await admitted(visitor)
        outcomes = await all_at_once(*[lambda: log_in(visitor, came)] * 3)
        assert sorted(type(one).__name__ for one in outcomes) == ["LoggedIn", "Unauthenticated", "Unauthenticated"]
        assert len(visitor.told(SessionOpened)) == 1


async def test_a_guest_who_ends_while_the_password_is_verified_is_not_let_in(tmp_path: Path) -> None:
    async with visiting(tmp_path) as visitor:
        await visitor.register()
        came = await admitted(visitor)
        meddle(visitor, lambda: EndSession(came.guest.session.id, came.guest.session.id, "revoked"))
        with pytest.raises(Unauthenticated):
            await log_in(visitor, came)
        assert visitor.told(SessionOpened) == []
