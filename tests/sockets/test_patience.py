"""Sockets that are here for nothing: how long each door waits for a session (CWE-772)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, open_websocket_url

from events.follow import Arrivals, Follower
from events.log import Query
from service.decisions.administration import RevokeSession
from service.gate.attempts import Client
from service.guards.trio_websocket import by_path
from service.guards.watching import NO_SESSION
from service.metrics import Metrics
from service.sockets.react_auth import react_auth_handlers
from service.sockets.registry import ENDING, Registry
from service.sockets.route import route_handlers
from tests.guards.edge import PATIENCE, Edge, serving_sockets
from tests.house import House, house
from tests.sockets.test_react_auth import CLOSE, PASSWORD, Talk, session_of

ALICE = Client("test", "192.0.2.7", "a client")
SHORT = 0.3
LOOK = 0.05
CLOSED = (1008, NO_SESSION)


@asynccontextmanager
async def inside(folder: Path, *, seconds: float = SHORT) -> AsyncIterator[tuple[House, Edge]]:
    """Both doors, which wait that long, and the registry behind them."""
    async with house(folder) as found:
        await found.gate.register(ALICE, username="alice", nickname="Al", password=PASSWORD)
        metrics, arrivals, log = Metrics(), Arrivals(), found.book.log
        registry = Registry(found.gate.lookups.lives, metrics)
        behind = found.gate, registry, metrics, seconds
        handler = by_path(route_handlers(*behind) | react_auth_handlers(*behind))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(arrivals.watch, log, 0.005)
            nursery.start_soon(registry.run, Follower(log, arrivals, Query(after=log.head().position, type=ENDING)))
            async with serving_sockets(handler, ping_seconds=4 * LOOK) as edge:
                yield found, edge
                assert edge.failures == []
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def client(edge: Edge, path: str) -> AsyncIterator[Talk]:
    async with open_websocket_url(f"ws://127.0.0.1:{edge.port}{path}") as socket:
        yield Talk(socket)
        await trio.aclose_forcefully(socket._stream)


async def logged_in(found: House) -> str:
    return (await found.gate.log_in(ALICE, "alice", PASSWORD)).token


async def stays(edge: Edge, socket: WebSocketConnection) -> None:
    """Longer than the door waits for anything, the connection answers."""
    with trio.move_on_after(2 * SHORT):
        await edge.until_open(0)
    await socket.ping()


async def call(talk: Talk, route: str, **data: Any) -> dict[str, Any]:
    answer: dict[str, Any] = await talk.ask({"route": f"auth.{route}", "data": data})
    return answer


@pytest.mark.parametrize("path", ["/react-auth", "/auth/v1", "/auth/v2"])
async def test_a_connection_that_shows_no_session_is_closed(tmp_path: Path, path: str) -> None:
    async with inside(tmp_path) as (_, edge), client(edge, path) as talk:
        started = trio.current_time()
        assert await talk.closing() == CLOSED
        assert trio.current_time() - started > SHORT - LOOK
        assert edge.refused == ["unused"]


async def test_react_auth_is_closed_whatever_it_says_short_of_a_session(tmp_path: Path) -> None:
    async with inside(tmp_path) as (_, edge), client(edge, "/react-auth") as talk:

        async def go_on_trying() -> None:
            while True:
                assert not await talk.resume("1|" + "x" * 40)
                with trio.move_on_after(SHORT / 4):
                    await edge.until_open(0)

        with trio.fail_after(PATIENCE), pytest.raises(ConnectionClosed) as closed:
            await go_on_trying()
        assert closed.value.reason is not None
        assert (closed.value.reason.code, closed.value.reason.reason) == CLOSED


async def test_react_auth_that_resumed_stays_and_has_its_time_again_once_the_session_is_over(tmp_path: Path) -> None:
    async with inside(tmp_path) as (found, edge), client(edge, "/react-auth") as talk:
        first, second = await logged_in(found), await logged_in(found)
        assert await talk.resume(first)
        await stays(edge, talk.socket)
        await found.writer.submit(RevokeSession(session_of(first)), actor="operator", door="test")
        assert await talk.hear() == {"type": CLOSE}
        assert await talk.resume(second)
        await stays(edge, talk.socket)
        assert await talk.close(second)
        started = trio.current_time()
        assert await talk.closing() == CLOSED
        assert trio.current_time() - started > SHORT - 2 * LOOK


async def test_the_route_protocol_closes_who_is_silent_and_logged_out(tmp_path: Path) -> None:
    async with inside(tmp_path) as (found, edge), client(edge, "/auth/v2") as talk:
        for _ in range(4):
            # Whoever goes on asking is not idle.
            with trio.move_on_after(SHORT / 2):
                await edge.until_open(0)
            assert (await call(talk, "nothing"))["data"]["error_code"] == 404
        key = (await call(talk, "login", username="alice", password=PASSWORD))["data"]["session_key"]
        await stays(edge, talk.socket)
        # The session ends elsewhere, of which this connection hears nothing; from then on it is idle.
        await found.writer.submit(RevokeSession(session_of(key)), actor="operator", door="test")
        assert await talk.closing() == CLOSED


async def test_the_route_protocol_counts_from_a_logout(tmp_path: Path) -> None:
    async with inside(tmp_path) as (_, edge), client(edge, "/auth/v2") as talk:
        await call(talk, "login", username="alice", password=PASSWORD)
        await stays(edge, talk.socket)
        await talk.say(json.dumps({"route": "auth.logout"}))
        assert (await talk.hear())["data"] == {"loggedout": True}
        assert await talk.closing() == CLOSED
