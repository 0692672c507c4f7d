"""A client of the route protocol, that knows nothing of the service but its address."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, open_websocket_url

from tests.conformance.running import PATIENCE, Running, fresh

PASSWORD = "correct horse"
AGENT = "conformance/1.0"


class Talk:
    """One connection."""

    def __init__(self, socket: WebSocketConnection) -> None:
        self.socket = socket

    async def tell(self, packet: str | bytes | dict[str, Any]) -> None:
        await self.socket.send_message(json.dumps(packet) if isinstance(packet, dict) else packet)

    async def hear(self) -> str:
        with trio.fail_after(PATIENCE):
            heard = await self.socket.get_message()
        assert isinstance(heard, str)
        return heard

    async def ask(self, packet: str | dict[str, Any]) -> dict[str, Any]:
        await self.tell(packet)
        answer: dict[str, Any] = json.loads(await self.hear())
        return answer

    async def closing_code(self) -> int:
        """The code with which the service closes; fails when it says anything before."""
        with trio.fail_after(PATIENCE), pytest.raises(ConnectionClosed) as closed:
            await self.socket.get_message()
        assert closed.value.reason is not None
        return int(closed.value.reason.code)

    async def call(self, route: str, **data: Any) -> dict[str, Any]:
        return await self.ask({"route": f"auth.{route}", "receipt": 1, "data": data})

    async def refusal(self, route: str, **data: Any) -> tuple[int, list[str]]:
        """The error's code and the fields at fault; checks that the packet is a standard error packet."""
        answer = await self.call(route, **data)
        assert_error(answer, route=f"auth.{route}", receipt=1)
        return answer["data"]["error_code"], [fault["field"] for fault in answer["data"].get("error_messages", ())]

    async def log_in(self, username: str, password: str = PASSWORD) -> str:
        answer = await self.call("login", username=username, password=password)
        assert answer.get("error", False) is False, answer
        return str(answer["data"]["session_key"])

    async def register(self, username: str | None = None, password: str = PASSWORD, nickname: str | None = None) -> str:
        name = username or fresh()
        answer = await self.call("register", username=name, password=password, nickname=nickname or fresh("nick"))
        assert answer == {"route": "auth.register", "receipt": 1, "error": False}
        return name


@asynccontextmanager
async def talk(
    service: Running, path: str = "/auth/v2", headers: Mapping[str, str] | None = None
) -> AsyncIterator[Talk]:
    sent = {"User-Agent": AGENT, **(headers or {})}
    extra = [(name.encode(), value.encode()) for name, value in sent.items()]
    async with open_websocket_url(f"{service.ws}{path}", extra_headers=extra) as socket:
        yield Talk(socket)
        # When the service closes first, trio-websocket's client leaves its TCP connection open.
        await trio.aclose_forcefully(socket._stream)


def assert_error(answer: dict[str, Any], *, route: str | None, receipt: Any = None) -> None:
    """The standard error packet, no key more or less."""
    assert list(answer) == ["route", *(["receipt"] if "receipt" in answer else []), "error", "data"]
    assert answer["route"] == route
    assert answer.get("receipt") == receipt
    assert answer["error"] is True
    data = answer["data"]
    assert type(data["error_code"]) is int
    assert type(data["error_message"]) is str
    assert data["error_message"]
    assert set(data) <= {"error_code", "error_message", "error_messages", "retry_after"}
    for fault in data.get("error_messages", ()):
        assert list(fault) == ["field", "message"]
