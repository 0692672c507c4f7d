"""react-auth's conversations over real sockets: whose session a connection holds, and when it hears that it is over."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio
import trio.testing
from trio_websocket import ConnectionClosed, WebSocketConnection, open_websocket_url

from events.catalogue import SessionClosed
from events.follow import Arrivals, Follower
from events.log import Query
from service.credentials.tokens import parse_token
from service.decisions.administration import Deactivate, RevokeSession, SetPassword
from service.decisions.command import Command
from service.decisions.sessions import ExpireSessions
from service.errors import InternalError, Overloaded, Refused, Unauthenticated, Unavailable
from service.gate.attempts import Client
from service.gate.gate import LoggedIn
from service.guards.trio_websocket import by_path
from service.metrics import Metrics
from service.sockets.react_auth import react_auth_handlers
from service.sockets.registry import ENDING, Registry
from tests.desk import Desk
from tests.guards.edge import PATIENCE, Edge, serving_sockets
from tests.house import House, book_in, house

PASSWORD = "correct horse"
CLIENT = Client("test", "192.0.2.7", "a client")
RESUME = "fantaptik/react-auth/socket/resume"
CLOSE = "fantaptik/react-auth/close"
DONE, FAILED = {"success": True}, {"success": False}
OVER = {"type": CLOSE}


class Talk:
    """One connection, as a client has it."""

    def __init__(self, socket: WebSocketConnection) -> None:
        self.socket = socket

    async def say(self, message: str | bytes | dict[str, Any]) -> None:
        await self.socket.send_message(json.dumps(message) if isinstance(message, dict) else message)

    async def hear(self) -> dict[str, Any]:
        with trio.fail_after(PATIENCE):
            heard: dict[str, Any] = json.loads(await self.socket.get_message())
        return heard

    async def ask(self, message: str | dict[str, Any]) -> dict[str, Any]:
        await self.say(message)
        return await self.hear()

    async def resume(self, token: str, **more: Any) -> bool:
        return self._success(await self.ask({"type": RESUME, "session": token, **more}))

    async def close(self, token: str, **more: Any) -> bool:
        return self._success(await self.ask({"type": CLOSE, "session": token, **more}))

    async def heard_nothing_else(self) -> None:
        """Whatever it was sent before this has been read: the next thing is the answer to this."""
        assert await self.ask({"id": "nothing"}) == {"id": "nothing", **FAILED}

    async def closing(self) -> tuple[int, str | None]:
        with trio.fail_after(PATIENCE), pytest.raises(ConnectionClosed) as closed:
            await self.socket.get_message()
        assert closed.value.reason is not None
        return int(closed.value.reason.code), closed.value.reason.reason

    @staticmethod
    def _success(answer: dict[str, Any]) -> bool:
        assert list(answer) == ["success"], answer
        return bool(answer["success"])


@dataclass
class Inside:
    """A house with the door open, the registry behind it, and Alice registered in it."""

    house: House
    registry: Registry
    metrics: Metrics
    edge: Edge
    alice: int

    async def log_in(self, name: str = "alice") -> LoggedIn:
        return await self.house.gate.log_in(CLIENT, name, PASSWORD)

    async def order(self, command: Command) -> None:
        await self.house.writer.submit(command, actor="operator", door="test")

    @asynccontextmanager
    async def client(self, agent: bytes | None = None) -> AsyncIterator[Talk]:
        headers = [] if agent is None else [(b"User-Agent", agent)]
        address = f"ws://127.0.0.1:{self.edge.port}/react-auth"
        async with open_websocket_url(address, extra_headers=headers) as socket:
            yield Talk(socket)
            # When the server closes first, trio-websocket's client leaves its TCP connection open.
            await trio.aclose_forcefully(socket._stream)

    def lives(self, token: str) -> bool:
        try:
            self.house.gate.lookups.principal(token)
        except Unauthenticated:
            return False
        return True

    def types(self) -> list[str]:
        return [recorded.type for recorded in self.house.book.log.read(Query())]

    def endings(self) -> list[tuple[str, str, str]]:
        """The streams of the sessions that are over, why, and through which door that came."""
        return [
            (recorded.stream, recorded.event.reason, recorded.door)
            for recorded in self.house.book.log.read(Query(type=ENDING))
            if isinstance(recorded.event, SessionClosed)
        ]

    def counted(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(f"gatebook_{name}", labels) or 0

    def holding(self) -> float:
        return self.counted("sockets_holding_a_session", door="react-auth")

    def refusals(self, code: str) -> float:
        return self.counted("refusals_total", code=code, door="react-auth")


@asynccontextmanager
async def inside(folder: Path) -> AsyncIterator[Inside]:
    async with house(folder) as found:
        alice = await found.gate.register(CLIENT, username="alice", nickname="Al", password=PASSWORD)
        await found.gate.register(CLIENT, username="bobby", nickname="Bob", password=PASSWORD)
        metrics, arrivals, log = Metrics(), Arrivals(), found.book.log
        registry = Registry(found.gate.lookups.lives, metrics)
        handler = by_path(react_auth_handlers(found.gate, registry, metrics))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(arrivals.watch, log, 0.005)
            nursery.start_soon(registry.run, Follower(log, arrivals, Query(after=log.head().position, type=ENDING)))
            async with serving_sockets(handler) as edge:
                yield Inside(found, registry, metrics, edge, alice)
                assert edge.failures == []
            nursery.cancel_scope.cancel()


def session_of(token: str) -> int:
    presented = parse_token(token)
    assert presented is not None
    return presented.session_id


# Resume


async def test_a_live_session_is_resumed_bare_and_enveloped(tmp_path: Path) -> None:
    async with inside(tmp_path) as found, found.client() as bare, found.client() as enveloped:
        token = (await found.log_in()).token
        message = {"type": RESUME, "session": token, "user": {"id": found.alice, "level": 2}}
        assert await bare.ask(message) == DONE
        assert await bare.ask({**message, "id": [1]}) == {"id": [1], **DONE}
        assert await enveloped.ask({"data": message, "id": "6f1c"}) == {"id": "6f1c", "data": DONE}
        assert await enveloped.ask({"data": message}) == {"data": DONE}
        assert found.holding() == 2


async def test_what_is_no_live_session_of_a_user_is_not_resumed(tmp_path: Path) -> None:
    async with inside(tmp_path) as found, found.client() as client:
        token, other = (await found.log_in()).token, (await found.log_in("bobby")).token
        ended = await found.log_in()
        await found.house.gate.log_out(CLIENT, ended.principal)
        guest = (await found.house.guests.admit(CLIENT)).token
        number, secret = token.split("|")
        wrong = [
            ended.token, guest, "", "|", "x", number, secret, f"{number}|", f"{number}|{secret[::-1]}", f"{token}x",
            f" {token}", f"0{token}", f"{other.split('|')[0]}|{secret}", f"{2**63}|{secret}", f"999999|{secret}",
        ]  # fmt: skip
        for session in wrong:
            assert not await client.resume(session), session
        assert found.holding() == 0
        assert found.refusals("unauthenticated") == len(wrong)
        assert await client.resume(token)


async def test_a_session_whose_time_is_over_is_not_resumed(tmp_path: Path) -> None:
    async with inside(tmp_path) as found, found.client() as client:
        token = (await found.log_in()).token
        found.house.clock.pass_by(days=1, seconds=-1)
        assert await client.resume(token)
        found.house.clock.pass_by(seconds=1)
        assert not await client.resume(token)


async def test_a_user_who_is_somebody_else_is_not_resumed(tmp_path: Path) -> None:
    async with inside(tmp_path) as found, found.client() as client:
        token = (await found.log_in()).token
        lies = [{"id": found.alice + 1}, {"id": str(found.alice)}, {"id": True}, {"id": None}, None, [], "alice"]
        for user in lies:
            assert not await client.resume(token, user=user), user
        assert found.holding() == 0
        for user in [{"id": found.alice}, {}, {"username": "bobby"}]:
            assert await client.resume(token, user=user), user


async def test_a_session_is_registered_first_and_looked_up_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with inside(tmp_path) as found, found.client() as client, found.client() as late:
        lookups, look = found.house.gate.lookups, found.house.gate.lookups.principal
        before, after = (await found.log_in()).token, (await found.log_in()).token
        # What fails inside the look would be a fault of ours there, answered like any refusal: so it is noted.
        registered: list[float] = []

        with book_in(tmp_path) as book:
            elsewhere = Desk(book, found.house.clock)

            def ends_before_the_look(token: str) -> Any:
                registered.append(found.holding())
                elsewhere.one(RevokeSession(session_of(token)))
                return look(token)

            def ends_after_the_look(token: str) -> Any:
                seen = look(token)
                elsewhere.one(RevokeSession(session_of(token)))
                return seen

            monkeypatch.setattr(lookups, "principal", ends_before_the_look)
            assert not await client.resume(before)
            assert registered == [1]
            assert found.holding() == 0
            monkeypatch.setattr(lookups, "principal", ends_after_the_look)
            assert await late.resume(after)
            assert await late.hear() == OVER
            assert found.holding() == 0


# The session ends elsewhere


def the_end(how: str) -> Callable[[Inside, LoggedIn], Awaitable[Any]]:
    async def end(found: Inside, opened: LoggedIn) -> None:
        session, user = opened.principal.session.id, opened.principal.user.id
        match how:
            case "logout":
                await found.house.gate.log_out(CLIENT, opened.principal)
            case "replaced":
                await found.house.gate.log_in(CLIENT, "alice", PASSWORD, replaces=opened.principal)
            case "expired":
                found.house.clock.pass_by(days=1)
                await found.order(ExpireSessions((session,)))
            case "revoked":
                await found.order(RevokeSession(session))
            case "password_changed":
                await found.order(SetPassword(user, "hash"))
            case "deactivated":
                await found.order(Deactivate(user))

    return end


@pytest.mark.parametrize("reason", ["logout", "replaced", "expired", "revoked", "password_changed", "deactivated"])
async def test_whatever_ends_a_session_its_connections_are_told(tmp_path: Path, reason: str) -> None:
    async with inside(tmp_path) as found, found.client() as bare, found.client() as enveloped, found.client() as other:
        opened, bobs = await found.log_in(), await found.log_in("bobby")
        assert await bare.resume(opened.token)
        await enveloped.ask({"data": {"type": RESUME, "session": opened.token}})
        assert await other.resume(bobs.token)
        await the_end(reason)(found, opened)
        assert await bare.hear() == OVER
        assert await enveloped.hear() == {"data": OVER}
        # Once, and nobody else.
        for client in (bare, enveloped, other):
            await client.heard_nothing_else()
        assert found.endings()[0][1] == reason
        # A connection that was told may hold another session.
        assert await bare.resume((await found.log_in("bobby")).token)


async def test_once_enveloped_always_enveloped(tmp_path: Path) -> None:
    async with inside(tmp_path) as found, found.client() as client, found.client() as shy, found.client() as mute:
        opened = await found.log_in()
        await client.ask({"data": {"type": "anything"}, "id": 1})
        # No string for a type: that was a bare message.
        await shy.ask({"data": {"type": 1}, "id": 1})
        for talk in (client, shy, mute):
            assert await talk.resume(opened.token)
        await found.house.gate.log_out(CLIENT, opened.principal)
        assert await client.hear() == {"data": OVER}
        assert await shy.hear() == await mute.hear() == OVER
        # What cannot be read is answered the same way.
        assert await client.ask("{") == {"data": FAILED}
        assert await shy.ask("{") == FAILED


async def test_the_second_resume_moves_the_connection(tmp_path: Path) -> None:
    async with inside(tmp_path) as found, found.client() as client:
        first, second = await found.log_in(), await found.log_in("bobby")
        assert await client.resume(first.token)
        assert await client.resume(second.token)
        assert found.holding() == 1
        assert found.lives(first.token)
        await found.house.gate.log_out(CLIENT, first.principal)
        await client.heard_nothing_else()
        await found.house.gate.log_out(CLIENT, second.principal)
        assert await client.hear() == OVER


async def test_a_resume_that_fails_leaves_the_connection_as_it_was(tmp_path: Path) -> None:
    async with inside(tmp_path) as found, found.client() as client:
        opened, other = await found.log_in(), await found.log_in("bobby")
        assert await client.resume(opened.token)
        assert not await client.resume(f"{opened.token[:-1]}!")
        assert not await client.resume(opened.token[:-1] + ("b" if opened.token[-1] == "a" else "a"))
        assert not await client.resume(opened.token, user={"id": 0})
        assert not await client.resume(other.token, user={"id": found.alice})
        assert found.holding() == 1
        await found.house.gate.log_out(CLIENT, other.principal)
        await client.heard_nothing_else()
        await found.house.gate.log_out(CLIENT, opened.principal)
        assert await client.hear() == OVER


async def test_a_notification_that_comes_too_late_is_for_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with inside(tmp_path) as found, found.client() as client:
        first, second = await found.log_in(), await found.log_in()
        assert await client.resume(first.token)
        (holder,) = found.registry._holders[session_of(first.token)]
        # The session ends, and before its client is told, it has gone on to another one.
        assert holder.drop(session_of(first.token))
        assert await client.resume(second.token)
        await holder.tell()
        await client.heard_nothing_else()
        assert not holder.drop(session_of(first.token))
        assert holder.drop(session_of(second.token))
        await holder.tell()
        assert await client.hear() == OVER


async def test_a_connection_that_cannot_be_told_is_cut(tmp_path: Path) -> None:
    async with inside(tmp_path) as found, found.client() as client:
        assert await client.resume((await found.log_in()).token)
        (holders,) = found.registry._holders.values()
        for holder in holders:
            holder.cut()
        with trio.fail_after(PATIENCE), pytest.raises(ConnectionClosed):
            await client.socket.get_message()
        await found.edge.until_open(0)


async def test_a_connection_that_has_gone_holds_nothing(tmp_path: Path) -> None:
    async with inside(tmp_path) as found:
        token = (await found.log_in()).token
        async with found.client() as client, found.client() as rude:
            assert await client.resume(token)
            assert await rude.resume(token)
            assert found.holding() == 2
            await trio.aclose_forcefully(rude.socket._stream)
        await found.edge.until_open(0)
        assert found.holding() == 0
        assert found.lives(token)


# Close


async def test_close_ends_the_session_and_tells_every_other_connection(tmp_path: Path) -> None:
    async with inside(tmp_path) as found, found.client() as client, found.client() as tab, found.client() as other:
        opened, again = await found.log_in(), await found.log_in()
        assert await client.resume(opened.token)
        assert await tab.resume(opened.token)
        assert await other.resume(again.token)
        answer = await client.ask({"data": {"type": CLOSE, "session": opened.token, "user": None}, "id": "x"})
        assert answer == {"id": "x", "data": DONE}
        assert await tab.hear() == OVER
        assert found.endings() == [(f"session-{session_of(opened.token)}", "logout", "react-auth")]
        for talk in (client, tab, other):
            assert not await talk.resume(opened.token)
        assert found.lives(again.token)
        # Once more is a success too, and ends nothing.
        assert await tab.close(opened.token)
        assert len(found.endings()) == 1


@pytest.mark.parametrize("user", [None, [], "x", 7, {"id": 0}, {"id": "other"}, {}])
async def test_close_goes_by_the_token_whatever_user_says(tmp_path: Path, user: Any) -> None:
    async with inside(tmp_path) as found, found.client() as client:
        token = (await found.log_in()).token
        assert await client.close(token, user=user)
        assert not found.lives(token)


async def test_who_holds_another_session_may_close_one_and_keeps_its_own(tmp_path: Path) -> None:
    async with inside(tmp_path) as found, found.client() as client, found.client() as other:
        mine, theirs = await found.log_in(), await found.log_in("bobby")
        assert await client.resume(mine.token)
        assert await other.resume(theirs.token)
        assert await client.close(theirs.token)
        assert await other.hear() == OVER
        await found.house.gate.log_out(CLIENT, mine.principal)
        assert await client.hear() == OVER


async def test_close_of_what_is_no_session_of_a_user_succeeds_and_ends_nothing(tmp_path: Path) -> None:
    async with inside(tmp_path) as found, found.client() as client:
        opened, ended = await found.log_in(), await found.log_in()
        await found.house.gate.log_out(CLIENT, ended.principal)
        guest = (await found.house.guests.admit(CLIENT)).token
        assert await client.resume(opened.token)
        before = found.types()
        number, secret = opened.token.split("|")
        for session in (
            ended.token, guest, "", "x", "|", f"{number}|{secret[::-1]}", f"{number}|{'x' * 40}", f"999999|{secret}",
            f"{2**63}|{secret}", f"{opened.token} ", "\0",
        ):  # fmt: skip
            assert await client.close(session), session
        assert found.types() == before
        assert found.house.gate.lookups.lives(session_of(guest))
        # The connection still holds its own.
        await found.house.gate.log_out(CLIENT, opened.principal)
        assert await client.hear() == OVER


async def test_who_closes_a_session_whose_time_is_over_is_not_told_later(tmp_path: Path) -> None:
    async with inside(tmp_path) as found, found.client() as client, found.client() as other:
        opened = await found.log_in()
        for talk in (client, other):
            assert await talk.resume(opened.token)
        found.house.clock.pass_by(days=1)
        assert await client.close(opened.token)
        assert found.endings() == []
        await found.order(ExpireSessions((session_of(opened.token),)))
        assert await other.hear() == OVER
        await client.heard_nothing_else()


async def test_connections_that_close_at_once_have_each_their_reply(tmp_path: Path) -> None:
    async with inside(tmp_path) as found, found.client() as one, found.client() as two, found.client() as three:
        opened = await found.log_in()
        for talk in (one, two, three):
            assert await talk.resume(opened.token)
        for talk in (one, two):
            await talk.say({"type": CLOSE, "session": opened.token, "id": 1})
        first = [await one.hear(), await two.hear()]
        # Whichever was second may have been told before its turn came; its reply is a success all the same.
        replies = [heard if heard != OVER else await talk.hear() for heard, talk in zip(first, (one, two), strict=True)]
        assert replies == [{"id": 1, **DONE}] * 2
        assert await three.hear() == OVER
        assert len(found.endings()) == 1


async def test_messages_are_answered_in_their_order(tmp_path: Path) -> None:
    async with inside(tmp_path) as found, found.client() as client:
        token = (await found.log_in()).token
        for number in range(20):
            await client.say({"type": RESUME, "session": token, "id": number})
            await client.say({"type": "x", "id": number})
        await client.say({"type": CLOSE, "session": token, "id": "close"})
        await client.say({"type": RESUME, "session": token, "id": "again"})
        for number in range(20):
            assert await client.hear() == {"id": number, **DONE}
            assert await client.hear() == {"id": number, **FAILED}
        assert await client.hear() == {"id": "close", **DONE}
        assert await client.hear() == {"id": "again", **FAILED}


# What cannot be decided, and faults of ours


def refusing(refusal: Exception) -> Callable[..., Any]:
    async def refuse(*_: object, **__: object) -> None:
        raise refusal

    return refuse


@pytest.mark.parametrize("refusal", [Overloaded("writer"), Unavailable("no room: /secret/path")], ids=repr)
async def test_a_close_that_cannot_be_decided_closes_the_connection_with_1013(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: Overloaded | Unavailable
) -> None:
    async with inside(tmp_path) as found, found.client() as client, found.client() as other:
        token = (await found.log_in()).token
        for talk in (client, other):
            assert await talk.resume(token)
        with monkeypatch.context() as patched:
            patched.setattr(found.house.gate, "log_out", refusing(refusal))
            await client.say({"id": 1})
            await client.say({"type": CLOSE, "session": token})
            assert await client.hear() == {"id": 1, **FAILED}
            assert await client.closing() == (1013, refusal.message)
        assert found.refusals(refusal.code) == 1
        await other.heard_nothing_else()
        assert found.lives(token)
        await found.edge.until_open(1)
        assert found.holding() == 1


@pytest.mark.parametrize("message", [RESUME, CLOSE])
async def test_a_lookup_that_cannot_be_made_closes_the_connection_with_1013(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, message: str
) -> None:
    async with inside(tmp_path) as found, found.client() as client:
        token = (await found.log_in()).token
        assert await client.resume(token)

        def nobody_knows(_: str) -> None:
            raise Unavailable("the store is gone")

        monkeypatch.setattr(found.house.gate.lookups, "principal", nobody_knows)
        await client.say({"type": message, "session": token})
        assert (await client.closing())[0] == 1013
        await found.edge.until_open(0)
        assert found.holding() == 0


@pytest.mark.parametrize("fault", [RuntimeError("7|secret"), InternalError()], ids=repr)
async def test_a_fault_of_ours_fails_one_close_and_the_connection_holds_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    async with inside(tmp_path) as found, found.client() as client, found.client() as stranger:
        opened = await found.log_in()
        assert await client.resume(opened.token)
        with monkeypatch.context() as patched, structlog.testing.capture_logs() as lines:
            patched.setattr(found.house.gate, "log_out", refusing(fault))
            assert not await client.close(opened.token)
            assert not await stranger.close(opened.token)
        expected = [] if isinstance(fault, Refused) else ["request_failed"] * 2
        assert [line["event"] for line in lines] == expected
        assert "secret" not in repr(lines)
        assert opened.token not in repr(lines)
        assert found.refusals("internal_error") == 2
        assert found.holding() == 1
        await found.house.gate.log_out(CLIENT, opened.principal)
        assert await client.hear() == OVER


async def test_a_fault_of_ours_fails_one_resume_and_leaves_nothing_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with inside(tmp_path) as found, found.client() as client:
        token = (await found.log_in()).token

        def fail(_: str) -> None:
            raise RuntimeError(token)

        with monkeypatch.context() as patched, structlog.testing.capture_logs() as lines:
            patched.setattr(found.house.gate.lookups, "principal", fail)
            assert not await client.resume(token)
        assert [line["event"] for line in lines] == ["request_failed"]
        assert token not in repr(lines)
        assert found.holding() == 0
        assert await client.resume(token)


async def test_a_session_that_ends_while_its_close_fails_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with inside(tmp_path) as found, found.client() as client, found.client() as other:
        opened = await found.log_in()
        for talk in (client, other):
            assert await talk.resume(opened.token)
        log_out, heard = found.house.gate.log_out, []

        async def ends_and_fails(*arguments: Any) -> None:
            await log_out(*arguments)
            heard.append(await other.hear())
            raise RuntimeError

        monkeypatch.setattr(found.house.gate, "log_out", ends_and_fails)
        # Nobody could tell this connection meanwhile, since it held nothing; so its own reply does.
        assert await client.close(opened.token)
        assert heard == [OVER]
        assert found.holding() == 0
        await client.heard_nothing_else()


# The connection


async def test_what_is_refused_is_counted_by_its_code(tmp_path: Path) -> None:
    async with inside(tmp_path) as found, found.client() as client:
        for message in ("no message", {}, {"type": "x", "session": ""}, {"type": RESUME, "session": "x"}):
            await client.ask(message)
        codes = [found.refusals(code) for code in ("malformed", "no_such_route", "unauthenticated")]
        assert codes == [2, 1, 1]
        assert found.counted("request_seconds_count", door="react-auth") == 4


async def test_a_session_that_is_used_is_noted_once_an_hour(tmp_path: Path) -> None:
    async with inside(tmp_path) as found, found.client() as client:
        token = (await found.log_in()).token
        assert await client.resume(token)
        found.house.clock.pass_by(hours=1)
        # Neither what is refused nor a close is a use. (What is noted, is noted before the next message is taken.)
        assert await client.close("no session")
        for _ in range(2):
            await client.heard_nothing_else()
        assert "session.seen" not in found.types()
        for _ in range(2):
            assert await client.resume(token)
        await client.heard_nothing_else()
        assert found.types().count("session.seen") == 1
        seen = next(one for one in found.house.book.log.read(Query()) if one.type == "session.seen")
        assert (seen.door, seen.actor) == ("react-auth", f"user-{found.alice}")


async def test_a_binary_message_closes_with_1003(tmp_path: Path) -> None:
    async with inside(tmp_path) as found, found.client() as client:
        await client.say(b'{"type":"x"}')
        assert await client.closing() == (1003, "Messages are text.")


async def test_a_stop_is_no_end_of_a_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with inside(tmp_path) as found, found.client() as idle, found.client() as busy:
        token, other = (await found.log_in()).token, await found.log_in()
        for talk in (idle, busy):
            assert await talk.resume(token)
        taken, release, log_out = trio.Event(), trio.Event(), found.house.gate.log_out

        async def slow(*arguments: Any) -> None:
            taken.set()
            await release.wait()
            await log_out(*arguments)

        monkeypatch.setattr(found.house.gate, "log_out", slow)
        await busy.say({"type": CLOSE, "session": other.token})
        await taken.wait()
        found.edge.stopping.set()
        assert (await idle.closing())[0] == 1001
        release.set()
        # What it had taken is answered first.
        assert await busy.hear() == DONE
        assert (await busy.closing())[0] == 1001
        assert found.lives(token)
        await found.edge.until_open(0)
        assert found.holding() == 0


async def test_another_address_is_not_found(tmp_path: Path) -> None:
    async with inside(tmp_path) as found:
        for path in ("/react-auth/", "/React-auth", "/react", "/"):
            request = (
                f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
            )
            assert (await found.edge.tell(request.encode())).startswith(b"HTTP/1.1 404")
