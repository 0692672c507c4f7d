"""Housekeeping: what is over is ended, a little at a time, and looked at again before it is."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from events.catalogue import SessionClosed, ThrottlesForgotten
from events.log import Query
from events.recorded import EPOCH
from projections.catalogue import SESSIONS, THROTTLES
from service.credentials.cookies import CookieClaims, Cookies
from service.credentials.devices import Devices
from service.credentials.rotating_seal import PERIOD
from service.decisions.keys import RotateKey
from service.errors import BadCredentials, Unauthenticated
from service.gate.attempts import client_of
from service.gate.gate import GateSettings, LoggedIn
from service.gate.throttling import KEY_NAME, ThrottlePolicy, Throttling
from service.housekeeping import Housekeeping, Told
from tests.house import Clock, House, house

CLIENT = client_of("account-api", "192.0.2.1", "test")
PASSWORD = "correct horse battery"


def keeping(at: House, *, most: int = 100, idle_limit: timedelta | None = None) -> Housekeeping:
    """Housekeeping over the same book, writer and clock."""
    throttling = Throttling(at.book.keyring, ThrottlePolicy())
    cookies = Cookies(at.book.keyring, at.clock)
    devices = Devices(at.book.keyring, at.clock)
    return Housekeeping(at.book, at.writer, throttling, cookies, devices, at.signing_keys, at.clock, most, idle_limit)


async def log_in(at: House, name: str) -> LoggedIn:
    """A new account's first session. It was registered from here, where nothing counts that."""
    await at.gate.register(client_of("account-api", "127.0.0.1", None), username=name, nickname=name, password=PASSWORD)
    return await at.gate.log_in(CLIENT, name, PASSWORD)


def closed(at: House) -> list[str]:
    """The reasons of all closed sessions, in order."""
    events = [one.event for one in at.book.log.read(Query(type="session.closed"))]
    return [event.reason for event in events if isinstance(event, SessionClosed)]


async def test_a_session_past_its_lifetime_is_ended_and_one_within_it_lives(tmp_path: Path) -> None:
    async with house(tmp_path) as at:
        old = await log_in(at, "alice")
        at.clock.pass_by(hours=12)
        young = await log_in(at, "berta")
        at.clock.pass_by(hours=12)

        assert await keeping(at).round() == Told(sessions=1)

        assert closed(at) == ["expired"]
        assert at.book.document(SESSIONS, str(old.principal.session.id)) is None
        assert at.gate.lookups.principal(young.token).user.id == young.principal.user.id


async def test_who_is_over_while_nothing_can_be_written_is_told_of_once_a_round(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with house(tmp_path) as at:
        await log_in(at, "alice")
        at.clock.pass_by(days=1)
        heard: list[Told] = []
        postponed: list[int] = []
        at.writer._stopping = True
        with trio.move_on_after(2.5):
            await keeping(at).run(heard.append, lambda: postponed.append(len(heard)))
        assert (heard, postponed) == ([Told()] * 3, [0, 1, 2])
        at.writer._stopping = False
        assert await keeping(at).round() == Told(sessions=1)


async def test_nothing_is_written_while_nothing_is_over(tmp_path: Path) -> None:
    async with house(tmp_path) as at:
        await log_in(at, "alice")
        before = at.book.log.head()

        assert await keeping(at).round() == Told()

        assert at.book.log.head() == before


async def test_a_round_ends_no_more_than_it_may(tmp_path: Path) -> None:
    async with house(tmp_path) as at:
        await log_in(at, "alice")
        for _ in range(4):
            await at.gate.log_in(CLIENT, "alice", PASSWORD)
        at.clock.pass_by(days=1)
        keeper = keeping(at, most=2)

        assert [(await keeper.round()).sessions for _ in range(4)] == [2, 2, 1, 0]


async def test_a_session_that_is_not_seen_ends_where_there_is_an_idle_limit(tmp_path: Path) -> None:
    limit = timedelta(hours=2)
    async with house(tmp_path, settings=GateSettings(idle_limit=limit)) as at:
        idle = await log_in(at, "alice")
        used = await log_in(at, "berta")
        at.clock.pass_by(minutes=90)
        await at.gate.seen(CLIENT, at.gate.lookups.principal(used.token))
        at.clock.pass_by(minutes=30)

        with pytest.raises(Unauthenticated):
            at.gate.lookups.principal(idle.token)
        assert at.gate.lookups.principal(used.token).user.id == used.principal.user.id
        assert await keeping(at, idle_limit=limit).round() == Told(sessions=1)
        assert closed(at) == ["expired"]


async def test_without_an_idle_limit_a_session_lives_its_whole_time(tmp_path: Path) -> None:
    async with house(tmp_path) as at:
        session = await log_in(at, "alice")
        at.clock.pass_by(hours=23, minutes=59)

        assert await keeping(at).round() == Told()
        assert at.gate.lookups.principal(session.token).user.id == session.principal.user.id


async def test_throttles_that_had_no_failure_for_a_day_are_let_go(tmp_path: Path) -> None:
    async with house(tmp_path) as at:
        for name in ("nobody", "no-one"):
            with pytest.raises(BadCredentials):
                await at.gate.log_in(CLIENT, name, PASSWORD)
        at.clock.pass_by(hours=23)
        assert (await keeping(at).round()).throttles == 0
        at.clock.pass_by(hours=1)

        assert (await keeping(at).round()).throttles == 3, "two accounts and one address"

        assert at.book.read_models.scan(THROTTLES) == []
        [forgotten] = at.book.log.read(Query(type="throttles.forgotten"))
        assert isinstance(forgotten.event, ThrottlesForgotten)
        assert (forgotten.actor, forgotten.door) == ("service", "service")


async def test_the_throttle_key_is_replaced_after_thirty_days_and_not_before(tmp_path: Path) -> None:
    async with house(tmp_path) as at:
        made = at.book.keyring.service_key(KEY_NAME, at.clock())
        at.clock.pass_by(days=30)
        assert not (await keeping(at).round()).key_replaced
        at.clock.pass_by(seconds=1)

        assert (await keeping(at).round()).key_replaced

        assert at.book.keyring.service_key(KEY_NAME, at.clock()) != made


async def test_the_keys_of_cookies_are_made_in_time_and_destroyed_when_no_session_is_as_old(tmp_path: Path) -> None:
    def names() -> list[str]:
        return at.book.keyring.service_key_names("cookies-")

    begins = EPOCH + 693 * PERIOD
    clock = Clock(begins - timedelta(days=1))
    async with house(tmp_path, clock=clock, settings=GateSettings(session_lifetime=timedelta(days=45))) as at:
        assert await keeping(at).round() == Told()
        assert names() == ["cookies-692"]
        opened = await log_in(at, "alice")
        cookie = Cookies(at.book.keyring, clock).seal(CookieClaims(opened.token, opened.principal.user.id, 0))

        clock.now = begins - timedelta(minutes=59)
        assert (await keeping(at).round()).keys_destroyed == 0
        assert names() == ["cookies-692", "cookies-693"]

        # Sessions may live for a day by now; this one lives for as long as it was promised.
        clock.now = begins + timedelta(days=43)
        assert (await keeping(at).round()).keys_destroyed == 0
        assert names() == ["cookies-692", "cookies-693", "cookies-694"]
        claims = Cookies(at.book.keyring, clock).open(cookie)
        assert claims is not None
        assert at.gate.lookups.principal(claims.at).user.id == opened.principal.user.id
        await log_in(at, "berta")

        clock.pass_by(days=1)
        assert await keeping(at).round() == Told(sessions=1)
        assert await keeping(at).round() == Told(keys_destroyed=2)
        assert names() == ["cookies-694"]
        assert Cookies(at.book.keyring, clock).open(cookie) is None
        assert await keeping(at).round() == Told()


async def test_a_key_of_cookies_is_kept_for_as_long_as_a_session_lives_though_there_is_none(tmp_path: Path) -> None:
    begins = EPOCH + 693 * PERIOD
    clock = Clock(begins - timedelta(days=1))
    async with house(tmp_path, clock=clock) as at:
        await keeping(at).round()
        clock.now = begins + timedelta(days=1) - timedelta(microseconds=1)
        assert (await keeping(at).round()).keys_destroyed == 0
        clock.pass_by(microseconds=1)
        assert (await keeping(at).round()).keys_destroyed == 1
        assert at.book.keyring.service_key_names("cookies-") == ["cookies-693"]


async def test_a_signing_key_is_destroyed_when_the_last_token_that_it_signed_is_over(tmp_path: Path) -> None:
    def names() -> list[str]:
        return at.book.keyring.service_key_names("access-tokens-")

    async with house(tmp_path) as at:
        keeper = keeping(at)
        assert await keeper.round() == Told()
        assert names() == [], "none is made before somebody needs one"
        first = at.signing_keys.signing()
        await at.writer.submit(RotateKey("access_tokens"), actor="operator", door="command-line")
        at.signing_keys.published()
        at.clock.pass_by(minutes=11, microseconds=-1)
        assert await keeper.round() == Told()
        assert names() == ["access-tokens-0", "access-tokens-1"]
        at.clock.pass_by(microseconds=1)

        assert await keeper.round() == Told(keys_destroyed=1)

        assert names() == ["access-tokens-1"]
        assert at.signing_keys.signing().kid != first.kid
        assert await keeper.round() == Told()


async def test_a_key_that_others_may_have_is_destroyed_at_once(tmp_path: Path) -> None:
    async with house(tmp_path) as at:
        at.signing_keys.signing()
        await at.writer.submit(RotateKey("access_tokens", at_once=True), actor="operator", door="command-line")
        assert await keeping(at).round() == Told(keys_destroyed=1)
        key = at.signing_keys.signing()
        assert at.book.keyring.service_key_names("access-tokens-") == ["access-tokens-1"]
        assert key.number == 1


async def test_the_keys_of_devices_are_destroyed_when_whoever_kept_something_of_them_is_a_stranger(
    tmp_path: Path,
) -> None:
    def names() -> list[str]:
        return at.book.keyring.service_key_names("devices-")

    begins = EPOCH + 693 * PERIOD
    clock = Clock(begins - timedelta(days=1))
    async with house(tmp_path, clock=clock) as at:
        assert await keeping(at).round() == Told()
        assert names() == ["devices-692"]
        kept = (await log_in(at, "alice")).device
        clock.now = begins + timedelta(days=180, microseconds=-1)
        await keeping(at).round()
        assert Devices(at.book.keyring, clock).recognised(kept, 1) is not None
        assert names() == ["devices-692", "devices-698", "devices-699"]
        clock.pass_by(microseconds=1)
        await keeping(at).round()
        assert names() == ["devices-698", "devices-699"]
        assert Devices(at.book.keyring, clock).recognised(kept, 1) is None
