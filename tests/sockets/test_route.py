"""The route protocol's conversations: time, overload, faults and a stop, which no client can bring about."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio
import trio.testing
from trio_websocket import ConnectionClosed, WebSocketConnection, open_websocket_url

from events.catalogue import LoginFailed, SessionOpened
from events.log import Query
from events.sealing import open_value
from service.doors.route_calls import V1, V2, Edition
from service.errors import InternalError, Overloaded, Unavailable
from service.gate.attempts import Client
from service.guards.trio_websocket import by_path
from service.metrics import Metrics
from service.sockets.registry import Registry
from service.sockets.route import Conversation, route_handlers
from tests.guards.edge import PATIENCE, Edge, serving_sockets
from tests.house import House, house

PASSWORD = "correct horse"
CLIENT = Client("route-v2", "127.0.0.1", "a client")


@asynccontextmanager
async def inside(folder: Path) -> AsyncIterator[House]:
    """A house in which Alice is registered."""
    async with house(folder) as found:
        await found.gate.register(CLIENT, username="alice", nickname="Al", password=PASSWORD)
        yield found


def registry(found: House, metrics: Metrics) -> Registry:
    """One that is told of no ending: requests must find out for themselves."""
    return Registry(found.gate.lookups.lives, metrics)


def conversation(found: House, edition: Edition = V2, metrics: Metrics | None = None) -> Conversation:
    metrics = metrics or Metrics()
    return Conversation(found.gate, registry(found, metrics), edition, CLIENT, metrics)


async def ask(talk: Conversation, route: str, **data: Any) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(await talk.answer(packet(route, **data)))
    await talk.note_seen()
    return answer


def packet(route: str, **data: Any) -> str:
    return json.dumps({"route": f"auth.{route}", "data": data})


async def log_in(talk: Conversation) -> str:
    return str((await ask(talk, "login", username="alice", password=PASSWORD))["data"]["session_key"])


def told(found: House) -> list[str]:
    return [recorded.type for recorded in found.book.log.read(Query())]


async def test_a_session_that_is_used_is_noted_once_an_hour(tmp_path: Path) -> None:
    async with inside(tmp_path) as found:
        talk, other = conversation(found), conversation(found, V1)
        key = await log_in(talk)
        await ask(other, "authenticate", session_key=key)
        assert "session.seen" not in told(found)
        found.clock.pass_by(hours=1)
        before = (await ask(other, "authenticate", session_key=key))["data"]["user"]["last_contact"]
        after = (await ask(talk, "authenticate", session_key=key))["data"]["user"]["last_contact"]
        assert (before, after) == ("2026-11-21T12:00:00Z", "2026-11-21T13:00:00Z")
        assert told(found).count("session.seen") == 1
        found.clock.pass_by(hours=1)
        await ask(talk, "update_profile")
        assert told(found).count("session.seen") == 2
        # What needs no session uses none; nor does what is refused unread.
        found.clock.pass_by(hours=1)
        await ask(talk, "register", username="bobby", nickname="Bob", password=PASSWORD)
        await ask(talk, "nothing")
        assert told(found).count("session.seen") == 2


@pytest.mark.parametrize("route", ["logout", "update_profile"])
async def test_a_session_whose_time_is_over_is_none(tmp_path: Path, route: str) -> None:
    async with inside(tmp_path) as found:
        talk = conversation(found)
        key = await log_in(talk)
        found.clock.pass_by(days=1, seconds=-1)
        assert (await ask(talk, "update_profile"))["error"] is False
        found.clock.pass_by(seconds=1)
        assert (await ask(talk, route))["data"]["error_code"] == 403
        assert (await ask(talk, "authenticate", session_key=key))["data"]["error_code"] == 401


@pytest.mark.parametrize("route", ["logout", "update_profile"])
async def test_a_session_that_ends_while_its_request_is_carried_out_is_forbidden(
    tmp_path: Path, route: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with inside(tmp_path) as found:
        talk, other = conversation(found), conversation(found)
        key = await log_in(talk)
        await ask(other, "authenticate", session_key=key)
        stale = talk._held
        await ask(other, "logout")
        # The lookup still saw it; the decision does not.
        with monkeypatch.context() as patched:
            patched.setattr(found.gate.lookups, "renewed", lambda _: stale)
            assert (await ask(talk, route, nickname="Ally"))["data"]["error_code"] == 403
        assert talk._held is None


async def test_a_throttle_lets_in_again_after_its_time(tmp_path: Path) -> None:
    async with inside(tmp_path) as found:
        talk = conversation(found)
        for _ in range(5):
            assert (await ask(talk, "login", username="alice", password="wrong"))["data"]["error_code"] == 401
        refused = await ask(talk, "login", username="alice", password=PASSWORD)
        assert refused["data"]["error_code"] == 429
        found.clock.pass_by(seconds=refused["data"]["retry_after"])
        await log_in(talk)


async def test_what_the_service_cannot_decide_is_no_answer(tmp_path: Path) -> None:
    async with inside(tmp_path) as found:
        metrics = Metrics()
        talk = conversation(found, metrics=metrics)
        found.writer._stopping = True
        with pytest.raises(Unavailable):
            await ask(talk, "login", username="alice", password=PASSWORD)
        with pytest.raises(Unavailable):
            await ask(talk, "login", username="alice", password="wrong")


async def test_a_fault_of_ours_is_500_and_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with inside(tmp_path) as found:
        metrics = Metrics()
        talk = conversation(found, metrics=metrics)
        key = await log_in(talk)

        def fail(token: str) -> None:
            raise RuntimeError(token)

        with monkeypatch.context() as patched, structlog.testing.capture_logs() as lines:
            patched.setattr(found.gate.lookups, "principal", fail)
            answer = await ask(talk, "authenticate", session_key=key)
        assert answer["data"] == {"error_code": 500, "error_message": InternalError.message}
        assert [line["event"] for line in lines] == ["request_failed"]
        assert key not in repr(lines)
        assert counted(metrics, InternalError.code) == 1
        assert (await ask(talk, "authenticate", session_key=key))["error"] is False


def counted(metrics: Metrics, code: str) -> float | None:
    labels = {"code": code, "door": "route-v2"}
    return metrics.registry.get_sample_value("gatebook_refusals_total", labels)


async def test_refusals_are_counted_by_their_code(tmp_path: Path) -> None:
    async with inside(tmp_path) as found:
        metrics = Metrics()
        talk = conversation(found, metrics=metrics)
        await talk.answer("no packet")
        await ask(talk, "nothing")
        await ask(talk, "logout")
        assert [counted(metrics, code) for code in ("malformed", "no_such_route", "forbidden")] == [1, 1, 1]


@asynccontextmanager
async def served(found: House, metrics: Metrics | None = None, **limits: Any) -> AsyncIterator[Edge]:
    metrics = metrics or Metrics()
    handlers = route_handlers(found.gate, registry(found, metrics), metrics)
    async with serving_sockets(by_path(handlers), **limits) as edge:
        yield edge


@asynccontextmanager
async def client(edge: Edge, path: str = "/auth/v2", agent: bytes | None = None) -> AsyncIterator[WebSocketConnection]:
    headers = [] if agent is None else [(b"User-Agent", agent)]
    async with open_websocket_url(f"ws://127.0.0.1:{edge.port}{path}", extra_headers=headers) as socket:
        yield socket
        # When the server closes first, trio-websocket's client leaves its TCP connection open.
        await trio.aclose_forcefully(socket._stream)


def refusing(refusal: Exception) -> Callable[..., Any]:
    async def refuse(*_: object, **__: object) -> None:
        raise refusal

    return refuse


@pytest.mark.parametrize("refusal", [Overloaded("hashing"), Unavailable("no room: /secret/path")], ids=repr)
@pytest.mark.parametrize("path", ["/auth/v1", "/auth/v2"])
async def test_what_cannot_be_decided_closes_with_1013_behind_the_answers_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, refusal: Overloaded | Unavailable
) -> None:
    async with inside(tmp_path) as found:
        metrics = Metrics()
        monkeypatch.setattr(found.gate, "log_in", refusing(refusal))
        async with served(found, metrics) as edge, client(edge, path) as socket:
            for message in (packet("nothing"), packet("nothing"), packet("login", username="a", password="b")):
                await socket.send_message(message)
            with trio.fail_after(PATIENCE):
                for _ in range(2):
                    assert json.loads(await socket.get_message())["data"]["error_code"] == 404
                with pytest.raises(ConnectionClosed) as closed:
                    await socket.get_message()
            assert closed.value.reason is not None
            assert (closed.value.reason.code, closed.value.reason.reason) == (1013, refusal.message)
            assert edge.failures == []
        labels = {"code": refusal.code, "door": "route-v1" if path == "/auth/v1" else "route-v2"}
        assert metrics.registry.get_sample_value("gatebook_refusals_total", labels) == 1


@pytest.mark.parametrize(
    ("sent", "noted"),
    [(None, None), (b"a client/1.0", "a client/1.0"), (b"caf\xe9", "caf\ufffd"), (b"x" * 1_000, "x" * 400)],
)
async def test_where_a_login_came_from_stands_in_the_book(
    tmp_path: Path, sent: bytes | None, noted: str | None
) -> None:
    async with inside(tmp_path) as found, served(found) as edge:
        async with client(edge, "/auth/v1", sent) as socket:
            for password in ("wrong", PASSWORD):
                await socket.send_message(packet("login", username="alice", password=password))
                await socket.get_message()
        failed, opened = (recorded for recorded in found.book.log.read(Query())[1:])
        for recorded, kind in ((failed, LoginFailed), (opened, SessionOpened)):
            event = recorded.event
            assert isinstance(event, LoginFailed | SessionOpened)
            assert type(event) is kind
            assert recorded.door == "route-v1"
            assert event.address is not None
            assert open_value(event.address, found.book.keyring) == "127.0.0.1"
            agent = None if event.agent is None else open_value(event.agent, found.book.keyring)
            assert agent == noted


async def test_a_connection_notes_that_its_session_is_used_once_it_has_answered(tmp_path: Path) -> None:
    async with inside(tmp_path) as found, served(found) as edge, client(edge) as socket:
        key = await log_in(conversation(found))
        found.clock.pass_by(hours=1)
        await socket.send_message(packet("authenticate", session_key=key))
        assert "2026-11-21T12:00:00Z" in await socket.get_message()
        # The next request is taken when that is done.
        await socket.send_message(packet("authenticate", session_key=key))
        assert "2026-11-21T13:00:00Z" in await socket.get_message()
        assert told(found).count("session.seen") == 1


async def test_a_stop_answers_what_was_taken_and_says_1001(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with inside(tmp_path) as found, served(found) as edge, client(edge) as socket:
        taken, release = trio.Event(), trio.Event()
        log_in = found.gate.log_in

        async def slow(*arguments: Any, **options: Any) -> Any:
            taken.set()
            await release.wait()
            return await log_in(*arguments, **options)

        monkeypatch.setattr(found.gate, "log_in", slow)
        await socket.send_message(packet("login", username="alice", password=PASSWORD))
        await taken.wait()
        edge.stopping.set()
        await trio.testing.wait_all_tasks_blocked()
        release.set()
        with trio.fail_after(PATIENCE):
            assert "session_key" in await socket.get_message()
            with pytest.raises(ConnectionClosed, match="1001"):
                await socket.get_message()
        assert edge.failures == []


async def test_one_that_sends_and_never_reads_is_not_read_from_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with inside(tmp_path) as found, served(found) as edge, client(edge) as socket:
        asked = []

        async def never(*_: object, **__: object) -> None:
            asked.append(1)
            await trio.sleep_forever()

        monkeypatch.setattr(found.gate, "log_in", never)
        message = packet("login", username="alice", password="x" * 60_000)
        sent = 0
        with trio.move_on_after(0.5):
            while True:
                await socket.send_message(message)
                sent += 1
        assert asked == [1]
        assert sent < 500, "thirty megabytes were taken, and nothing answered"
