"""The two doors as a client sees them: a call is done, refused, or it is never known what became of it."""

from __future__ import annotations

import json
from typing import Any, Protocol

import httpx
import trio
from trio_websocket import ConnectionClosed, HandshakeError, WebSocketConnection, connect_websocket_url

from tests.durability.process import Service

PATIENCE = 15.0
TRY_AGAIN_LATER = 1013


class GoneError(Exception):
    """The connection broke before an answer came."""


class BusyError(Exception):
    """The service said that it could not do it now: it was not done."""


class RefusedError(Exception):
    """The service refused, with that code."""

    def __init__(self, code: int) -> None:
        self.code = code
        super().__init__(code)


class Door(Protocol):
    """What a person can do at either door. Each method raises the errors above."""

    ended_by_login: str | None
    """The token that the next login here ends."""

    async def register(self, username: str, nickname: str, password: str) -> None: ...
    async def log_in(self, username: str, password: str) -> str: ...
    async def log_out(self, token: str) -> None: ...
    async def rename(self, token: str, nickname: str) -> None: ...
    async def change_password(self, token: str, old: str, new: str) -> None: ...
    async def username(self, token: str) -> str: ...
    async def close(self) -> None: ...


class HTTPDoor:
    """The account API."""

    ended_by_login: str | None = None

    def __init__(self, service: Service) -> None:
        self._client = httpx.AsyncClient(base_url=service.http, timeout=PATIENCE, trust_env=False)

    async def register(self, username: str, nickname: str, password: str) -> None:
        await self._ask(
            "POST", "/api/register", body={"username": username, "nickname": nickname, "password": password}
        )

    async def log_in(self, username: str, password: str) -> str:
        answer = await self._ask("POST", "/api/session", body={"identifier": username, "password": password})
        return str(answer["token"])

    async def log_out(self, token: str) -> None:
        await self._ask("DELETE", "/api/session", token)

    async def rename(self, token: str, nickname: str) -> None:
        answer = await self._ask("PATCH", "/api/profile", token, {"nickname": nickname})
        assert answer["user"]["nickname"] == nickname

    async def change_password(self, token: str, old: str, new: str) -> None:
        await self._ask("PATCH", "/api/profile", token, {"old_password": old, "new_password": new})

    async def username(self, token: str) -> str:
        return str((await self._ask("GET", "/api/session", token))["user"]["username"])

    async def close(self) -> None:
        await self._client.aclose()

    async def _ask(self, method: str, path: str, token: str | None = None, body: object = None) -> Any:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        try:
            answer = await self._client.request(method, path, json=body, headers=headers)
        except httpx.TransportError as error:
            raise GoneError from error
        if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE:
            raise BusyError
        if not answer.is_success:
            raise RefusedError(answer.status_code)
        return answer.json() if answer.content else None


class RouteDoor:
    """The route protocol, version 2, on one connection that holds at most one session."""

    def __init__(self, service: Service, nursery: trio.Nursery) -> None:
        self.ended_by_login: str | None = None
        self._url = f"{service.ws}/auth/v2"
        self._nursery = nursery
        self._socket: WebSocketConnection | None = None

    async def register(self, username: str, nickname: str, password: str) -> None:
        await self._call("register", username=username, nickname=nickname, password=password)

    async def log_in(self, username: str, password: str) -> str:
        answer = await self._call("login", username=username, password=password)
        self.ended_by_login = str(answer["session_key"])
        return self.ended_by_login

    async def log_out(self, token: str) -> None:
        await self.username(token)
        await self._call("logout")
        self.ended_by_login = None

    async def rename(self, token: str, nickname: str) -> None:
        await self.username(token)
        await self._call("update_profile", nickname=nickname)

    async def change_password(self, token: str, old: str, new: str) -> None:
        await self.username(token)
        await self._call("update_profile", old_password=old, new_password=new)

    async def username(self, token: str) -> str:
        answer = await self._call("authenticate", session_key=token)
        self.ended_by_login = token
        return str(answer["user"]["username"])

    async def close(self) -> None:
        if self._socket is not None:
            # Its own farewell waits for an answer, and a dead service gives none.
            await trio.aclose_forcefully(self._socket._stream)
            self._socket = None

    async def _call(self, route: str, **data: str) -> Any:
        try:
            with trio.fail_after(PATIENCE):
                if self._socket is None:
                    self.ended_by_login = None
                    self._socket = await connect_websocket_url(self._nursery, self._url)
                await self._socket.send_message(json.dumps({"route": f"auth.{route}", "receipt": 1, "data": data}))
                answer = json.loads(await self._socket.get_message())
        except ConnectionClosed as closed:
            self._socket = None
            if closed.reason is not None and closed.reason.code == TRY_AGAIN_LATER:
                raise BusyError from closed
            raise GoneError from closed
        except (OSError, HandshakeError, trio.TooSlowError) as error:
            self._socket = None
            raise GoneError from error
        if answer.get("error", False):
            raise RefusedError(answer["data"]["error_code"])
        return answer.get("data")
