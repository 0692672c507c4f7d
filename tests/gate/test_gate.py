"""The gate: what happens around a command, from what somebody typed to what stands in the book."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from msgspec.structs import replace

from events.catalogue import (
    LoginFailed,
    LoginThrottled,
    PasswordRehashed,
    ProfileChanged,
    SessionClosed,
    SessionOpened,
    SessionSeen,
    UserRegistered,
)
from events.log import Query
from events.recorded import Recorded
from events.sealing import open_event
from projections.catalogue import THROTTLES
from service.credentials.identifiers import Prepared
from service.credentials.passwords import HashingCost, Verified
from service.decisions.administration import Deactivate, Reactivate, SetPassword
from service.decisions.command import Command
from service.decisions.profile import ChangeProfile, Renaming
from service.errors import (
    BadCredentials,
    InvalidFields,
    Refused,
    Throttled,
    Unauthenticated,
    Unavailable,
)
from service.gate.attempts import LONGEST_AGENT, Client, client_of
from service.gate.gate import GateSettings, LoggedIn
from service.gate.lookups import Principal
from service.gate.throttling import ThrottlePolicy, network_of
from tests.house import CHEAP, House, house

PASSWORD = "tugging-Widow-41-lanterns"
ANOTHER = "plover-Cistern-88-gravity"
CLIENT = Client("test", "192.0.2.7", "agent/1")


class Visitor:
    """Somebody at the gate, in one line for each thing that they do."""

    def __init__(self, inside: House) -> None:
        self.house = inside
        self.gate = inside.gate

    async def register(self, name: str = "alma", **changes: Any) -> int:
        form = {"username": name, "nickname": f"{name} the Great", "password": PASSWORD, **changes}
        return await self.gate.register(CLIENT, **form)

    async def log_in(
        self,
        name: str = "alma",
        password: str = PASSWORD,
        *,
        client: Client = CLIENT,
        replaces: Principal | None = None,
    ) -> LoggedIn:
        return await self.gate.log_in(client, name, password, replaces=replaces)

    async def fail(self, times: int = 1, name: str = "alma", *, client: Client = CLIENT) -> None:
        for _ in range(times):
            with pytest.raises(BadCredentials):
                await self.log_in(name, "wrong " + PASSWORD, client=client)

    async def order(self, command: Command) -> None:
        await self.house.writer.submit(command, actor="operator", door="test")

    def told(self, kind: type[Any] | None = None) -> list[Recorded]:
        """The book, opened."""
        read = self.house.book.log.read(Query())
        return [
            open_event(one, self.house.book.keyring) for one in read if kind is None or type(one.event) is kind
        ]  # fmt: skip

    def events(self, kind: type[Any]) -> list[Any]:
        return [one.event for one in self.told(kind)]

    def lives(self, logged_in: LoggedIn) -> bool:
        try:
            self.gate.lookups.principal(logged_in.token)
        except Unauthenticated:
            return False
        return True

    def bytes_on_disk(self) -> bytes:
        """Everything that the store keeps: book, read models, keys, and what is still in their write-ahead logs."""
        return b"".join(path.read_bytes() for path in sorted(self.house.path.parent.iterdir()))


@asynccontextmanager
async def visiting(folder: Path, **settings: Any) -> AsyncIterator[Visitor]:
    async with house(folder, **settings) as inside:
        yield Visitor(inside)


def fields(refusal: pytest.ExceptionInfo[InvalidFields]) -> list[str]:
    return [error.field for error in refusal.value.errors]


async def all_at_once(*calls: Callable[[], Awaitable[Any]]) -> list[Any]:
    """What came of each, its result or its refusal, all of them begun before any could end."""
    outcomes: list[Any] = [None] * len(calls)

    async def one(number: int, call: Callable[[], Awaitable[Any]]) -> None:
        try:
            outcomes[number] = await call()
        except Refused as refusal:
            outcomes[number] = refusal

    async with trio.open_nursery() as nursery:
        for number, call in enumerate(calls):
            nursery.start_soon(one, number, call)
    return outcomes


# Registering


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


async def test_of_fifty_who_want_one_name_at_once_one_has_it(tmp_path: Path) -> None:
    async with visiting(tmp_path) as visitor:
        outcomes = await all_at_once(
            *[partial(visitor.register, ("alma", "ALMA")[n % 2], nickname=f"nick {n}") for n in range(50)]
        )
        won = [one for one in outcomes if isinstance(one, int)]
        lost = [one for one in outcomes if isinstance(one, InvalidFields)]
        assert won == [1]
        assert len(lost) == 49
        assert {error.field for one in lost for error in one.errors} == {"username"}
        assert len(visitor.told()) == 1
        assert visitor.house.book.read_models.states()["users"].documents == 1


# Logging in and out


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


async def test_a_token_is_good_whole_and_in_its_time(tmp_path: Path) -> None:
    async with visiting(tmp_path) as visitor:
        await visitor.register()
        logged_in = await visitor.log_in()
        number, _, secret = logged_in.token.partition("|")
        swapped = secret[:-1] + ("a" if secret[-1] != "a" else "b")
        for token in ("", "nothing", f"{number}|{swapped}", f"{int(number) + 1}|{secret}", f" {logged_in.token}"):
            with pytest.raises(Unauthenticated):
                visitor.gate.lookups.principal(token)
        visitor.house.clock.pass_by(hours=23, minutes=59, seconds=59)
        assert visitor.lives(logged_in)
        visitor.house.clock.pass_by(seconds=1)
        assert not visitor.lives(logged_in)
        with pytest.raises(Unauthenticated):
            visitor.gate.lookups.renewed(logged_in.principal)


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


async def test_logging_out_ends_that_session_and_no_other(tmp_path: Path) -> None:
    async with visiting(tmp_path) as visitor:
        await visitor.register()
        first, second = await visitor.log_in(), await visitor.log_in()
        await visitor.gate.log_out(CLIENT, first.principal)
        assert not visitor.lives(first)
        assert visitor.lives(second)
        with pytest.raises(Unauthenticated):
            await visitor.gate.log_out(CLIENT, first.principal)
        assert [one.reason for one in visitor.events(SessionClosed)] == ["logout"]


async def test_logging_in_again_on_a_connection_ends_what_it_held(tmp_path: Path) -> None:
    async with visiting(tmp_path) as visitor:
        await visitor.register()
        await visitor.register("grace")
        first = await visitor.log_in()
        second = await visitor.log_in("grace", replaces=first.principal)
        assert not visitor.lives(first)
        assert visitor.lives(second)
        assert visitor.events(SessionClosed) == [SessionClosed(1, "replaced")]


async def test_a_failed_login_ends_nothing_that_the_connection_held(tmp_path: Path) -> None:
    async with visiting(tmp_path) as visitor:
        await visitor.register()
        first = await visitor.log_in()
        with pytest.raises(BadCredentials):
            await visitor.log_in(password=ANOTHER, replaces=first.principal)
        assert visitor.lives(first)


async def test_one_login_too_many_ends_the_oldest_session(tmp_path: Path) -> None:
    async with visiting(tmp_path, settings=GateSettings(sessions_per_user=2)) as visitor:
        await visitor.register()
        sessions = [await visitor.log_in() for _ in range(3)]
        assert [visitor.lives(one) for one in sessions] == [False, True, True]
        assert visitor.events(SessionClosed) == [SessionClosed(1, "replaced")]
        # At once, too, no more are open than may be.
        await all_at_once(*[visitor.log_in] * 10)
        assert visitor.house.book.read_models.states()["sessions"].documents == 2
        user = visitor.gate.lookups.user(1)
        assert user is not None
        assert user.open_sessions == 2


# What moves between verifying and deciding


def meddle(visitor: Visitor, command: Callable[[], Command], times: int = 1) -> list[Verified]:
    """From here on, so often, the command is written after a password was verified and before anything is decided."""
    verify = visitor.gate._passwords.verify
    verified: list[Verified] = []

    async def verify_and_meddle(encoded: str | None, password: str, account: Any) -> Verified:
        outcome = await verify(encoded, password, account)
        verified.append(outcome)
        if len(verified) <= times:
            await visitor.order(command())
        return outcome

    visitor.gate._passwords.verify = verify_and_meddle  # type: ignore[method-assign]  # meddles
    return verified


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


# Throttling


async def test_from_the_fifth_failure_on_an_account_waits_longer_and_longer(tmp_path: Path) -> None:
    async with visiting(tmp_path) as visitor:
        clock = visitor.house.clock
        await visitor.register()
        await visitor.fail(5)
        for delay in (1, 2, 4, 8):
            # Now not even the right password is looked at, and the refusal says for how long.
            with pytest.raises(Throttled) as refusal:
                await visitor.log_in()
            assert delay <= refusal.value.retry_after <= delay + 1
            clock.pass_by(seconds=delay - 0.001)
            with pytest.raises(Throttled) as refusal:
                await visitor.log_in()
            assert refusal.value.retry_after == 1
            clock.pass_by(seconds=0.001)
            await visitor.fail()
        assert len(visitor.told(LoginFailed)) == 9
        clock.pass_by(seconds=16)
        assert visitor.lives(await visitor.log_in())


async def test_while_an_account_waits_no_password_is_verified(tmp_path: Path) -> None:
    async with visiting(tmp_path) as visitor:
        await visitor.register()
        await visitor.fail(5)
        verified = meddle(visitor, lambda: Deactivate(1))
        with pytest.raises(Throttled):
            await visitor.log_in()
        assert verified == []


async def test_a_window_is_told_of_once(tmp_path: Path) -> None:
    async with visiting(tmp_path) as visitor:
        await visitor.register()
        await visitor.fail(5)
        for _ in range(3):
            with pytest.raises(Throttled):
                await visitor.log_in()
        assert len(visitor.told(LoginThrottled)) == 1
        visitor.house.clock.pass_by(seconds=1)
        await visitor.fail()
        outcomes = await all_at_once(*[visitor.log_in] * 5)
        assert {type(one) for one in outcomes} == {Throttled}
        assert len(visitor.told(LoginThrottled)) == 2


async def test_a_refusal_does_not_depend_on_its_note(tmp_path: Path) -> None:
    async with visiting(tmp_path) as visitor:
        await visitor.register()
        await visitor.fail(5)
        visitor.house.writer.trouble = "the disk is full"
        with pytest.raises(Throttled):
            await visitor.log_in()
        assert visitor.told(LoginThrottled) == []


async def test_a_failure_that_cannot_be_written_down_is_not_told_as_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with visiting(tmp_path) as visitor:
        await visitor.register()

        async def full(*_: Any, **__: Any) -> None:
            raise Unavailable("the disk is full")

        monkeypatch.setattr(visitor.house.writer, "submit", full)
        with pytest.raises(Unavailable):
            await visitor.log_in(password=ANOTHER)


async def test_an_unknown_account_waits_as_a_known_one_does(tmp_path: Path) -> None:
    async with visiting(tmp_path) as visitor:
        await visitor.fail(5, "nobody")
        with pytest.raises(Throttled):
            await visitor.log_in("nobody")
        # In whatever case it is typed, it is the same account that nobody has.
        with pytest.raises(Throttled):
            await visitor.log_in("NOBODY")
        await visitor.fail(1, "somebody")


async def test_an_account_is_one_whichever_of_its_names_is_typed(tmp_path: Path) -> None:
    async with visiting(tmp_path) as visitor:
        await visitor.register(email="alma@example.org")
        await visitor.fail(3, "alma")
        await visitor.fail(2, "alma@example.org")
        with pytest.raises(Throttled):
            await visitor.log_in("alma")


async def test_an_account_waits_only_where_it_failed_from(tmp_path: Path) -> None:
    async with visiting(tmp_path) as visitor:
        await visitor.register()
        await visitor.fail(5)
        with pytest.raises(Throttled):
            await visitor.log_in(client=Client("test", "192.0.2.200"))
        assert visitor.lives(await visitor.log_in(client=Client("test", "198.51.100.1")))


async def test_a_success_clears_the_account_and_not_the_address(tmp_path: Path) -> None:
    async with visiting(tmp_path, policy=ThrottlePolicy(account_failures=5, address_failures=6)) as visitor:
        await visitor.register()
        await visitor.register("grace")
        await visitor.fail(4)
        await visitor.log_in()
        # Counted on from the four, this would be the fifth.
        await visitor.fail(1)
        assert visitor.lives(await visitor.log_in())
        await visitor.fail(1, "grace")
        # The sixth failure from this address closes it to everybody's name.
        with pytest.raises(Throttled):
            await visitor.log_in("grace")
        visitor.house.clock.pass_by(seconds=1)
        assert visitor.lives(await visitor.log_in("grace"))


async def test_without_an_address_only_the_account_counts(tmp_path: Path) -> None:
    async with visiting(tmp_path, policy=ThrottlePolicy(account_failures=2, address_failures=1)) as visitor:
        await visitor.register()
        nowhere = Client("test")
        await visitor.fail(2, client=nowhere)
        with pytest.raises(Throttled):
            await visitor.log_in(client=nowhere)
        await visitor.fail(1, "grace", client=nowhere)
        assert [one.partition(":")[0] for one in _throttle_keys(visitor)] == ["account", "account"]


def _throttle_keys(visitor: Visitor) -> list[str]:
    return [row.key for row in visitor.house.book.read_models.scan(THROTTLES)]


@pytest.mark.parametrize(
    ("address", "network"),
    [
        (None, ""),
        ("not an address", ""),
        ("192.0.2.200", "192.0.2.0/24"),
        ("::ffff:192.0.2.200", "192.0.2.0/24"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
    ],
)
def test_the_network_of_an_address(address: str | None, network: str) -> None:
    assert network_of(address) == network


async def test_the_throttle_key_is_replaced_after_thirty_days(tmp_path: Path) -> None:
    async with visiting(tmp_path) as visitor:
        throttling = visitor.gate._attempts._throttling
        now = visitor.house.clock.now
        before = throttling.limits("alma", "192.0.2.7", now)
        assert not throttling.rotate(now + timedelta(days=30))
        later = now + timedelta(days=30, seconds=1)
        assert throttling.limits("alma", "192.0.2.7", now + timedelta(days=29)) == before
        assert throttling.rotate(later)
        after = throttling.limits("alma", "192.0.2.7", later)
        assert {one.key for one in before}.isdisjoint(one.key for one in after)


# Being seen


async def test_a_session_in_use_is_noted_at_most_once_an_hour(tmp_path: Path) -> None:
    async with visiting(tmp_path) as visitor:
        clock = visitor.house.clock
        await visitor.register()
        token = (await visitor.log_in()).token
        for minutes, notes in ((0, 0), (59, 0), (1, 1), (0, 1), (59, 1), (1, 2)):
            clock.pass_by(minutes=minutes)
            await visitor.gate.seen(CLIENT, visitor.gate.lookups.principal(token))
            assert len(visitor.told(SessionSeen)) == notes
        clock.pass_by(hours=1)
        stale = visitor.gate.lookups.principal(token)
        await all_at_once(*[partial(visitor.gate.seen, CLIENT, stale)] * 5)
        assert len(visitor.told(SessionSeen)) == 3


async def test_a_check_holds_though_its_use_cannot_be_noted(tmp_path: Path) -> None:
    async with visiting(tmp_path) as visitor:
        await visitor.register()
        principal = (await visitor.log_in()).principal
        visitor.house.clock.pass_by(hours=2)
        visitor.house.writer.trouble = "the disk is full"
        await visitor.gate.seen(CLIENT, principal)
        assert visitor.told(SessionSeen) == []


# One's own profile


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
        with pytest.raises(Throttled):
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


# Who asks


def test_what_a_client_says_of_itself_is_cut() -> None:
    assert client_of("test", None, "x" * 1_000).agent == "x" * LONGEST_AGENT
    assert client_of("test", None, None).agent is None
    with pytest.raises(ValueError, match="at most 400 characters"):
        Client("test", None, "x" * (LONGEST_AGENT + 1))
