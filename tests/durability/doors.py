"""The doors as a client sees them: a call is done, refused, or it is never known what became of it."""

from __future__ import annotations

import json
from typing import Any, Protocol

import h11
import trio
from trio_websocket import ConnectionClosed, HandshakeError, WebSocketConnection, wrap_client_stream

from tests.durability.process import Service

PATIENCE = 15.0
TRY_AGAIN_LATER = 1013
UNAVAILABLE = 503
FIRST_REFUSAL = 400
NOT_LET_IN = 401


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
    """What a person can do at a door. Each method raises the errors above."""

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
        self._address = service.http.removeprefix("http://")
        self._stream: trio.SocketStream | None = None
        self._http = h11.Connection(h11.CLIENT)

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
        stream, self._stream = self._stream, None
        if stream is not None:
            await trio.aclose_forcefully(stream)

    async def _ask(self, method: str, path: str, token: str | None = None, body: object = None) -> Any:
        try:
            with trio.fail_after(PATIENCE):
                status, content = await self._exchange(
                    method, path, token, b"" if body is None else json.dumps(body).encode()
                )
        except (OSError, trio.BrokenResourceError, h11.RemoteProtocolError, trio.TooSlowError) as error:
            await self.close()
            raise GoneError from error
        if status == UNAVAILABLE:
            raise BusyError
        if status >= FIRST_REFUSAL:
            raise RefusedError(status)
        return json.loads(content) if content else None

    async def _exchange(self, method: str, path: str, token: str | None, body: bytes) -> tuple[int, bytes]:
        if self._stream is None:
            host, _, port = self._address.rpartition(":")
            self._stream = await trio.open_tcp_stream(host, int(port))
            self._http = h11.Connection(h11.CLIENT)
        headers = [("Host", self._address), ("Content-Length", str(len(body))), ("Content-Type", "application/json")]
        if token is not None:
            headers.append(("Authorization", f"Bearer {token}"))
        said = (h11.Request(method=method, target=path, headers=headers), h11.Data(data=body), h11.EndOfMessage())
        await self._stream.send_all(b"".join(self._http.send(event) or b"" for event in said))
        status, content = 0, b""
        while True:
            event = self._http.next_event()
            match event:
                case h11.NEED_DATA:
                    self._http.receive_data(await self._stream.receive_some())
                case h11.Response():
                    status = event.status_code
                case h11.Data():
                    content += event.data
                case h11.EndOfMessage():
                    break
                case _:
                    raise trio.BrokenResourceError("it was closed before an answer came")
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
        else:
            await self.close()
        return status, content


class AuthServerDoor(HTTPDoor):
    """The auth-server contract, where who logs in was a guest before; for the rest, the account API."""

    async def log_in(self, username: str, password: str) -> str:
        guest = str((await self._ask("POST", "/api/authenticate"))["at"])
        answer = await self._ask("POST", "/api/login", guest, {"email": username, "password": password})
        return str(answer["at"])


class ReactAuthDoor(HTTPDoor):
    """The react-auth contract: logs in over HTTP, resumes and logs out over a socket; for the rest, the account API."""

    def __init__(self, service: Service, nursery: trio.Nursery) -> None:
        super().__init__(service)
        self._socket = _Socket(service, nursery, "/react-auth")

    async def log_in(self, username: str, password: str) -> str:
        form = {"type": "fantaptik/react-auth/authenticate", "username": username, "password": password}
        answer = await self._ask("POST", "/react-auth", body=form)
        if not answer["success"]:
            raise RefusedError(NOT_LET_IN)
        return str(answer["session"])

    async def log_out(self, token: str) -> None:
        if not await self._say("close", token):
            raise RefusedError(NOT_LET_IN)

    async def username(self, token: str) -> str:
        if not await self._say("socket/resume", token):
            raise RefusedError(NOT_LET_IN)
        return await super().username(token)

    async def close(self) -> None:
        await super().close()
        await self._socket.close()

    async def _say(self, what: str, token: str) -> bool:
        said = {"id": what, "data": {"type": f"fantaptik/react-auth/{what}", "session": token}}
        answer = await self._socket.ask(said)
        while "id" not in answer:
            # That a session of theirs is over, which this connection held.
            assert answer == {"data": {"type": "fantaptik/react-auth/close"}}, answer
            answer = await self._socket.hear()
        return bool(answer["data"]["success"])


class RouteDoor:
    """The route protocol, version 2, on one connection that holds at most one session."""

    def __init__(self, service: Service, nursery: trio.Nursery) -> None:
        self.ended_by_login: str | None = None
        self._socket = _Socket(service, nursery, "/auth/v2")

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
        await self._socket.close()

    async def _call(self, route: str, **data: str) -> Any:
        if not self._socket.is_open:
            self.ended_by_login = None
        answer = await self._socket.ask({"route": f"auth.{route}", "receipt": 1, "data": data})
        if answer.get("error", False):
            raise RefusedError(answer["data"]["error_code"])
        return answer.get("data")


class _Socket:
    """A WebSocket connection that opens itself when something is asked, and is closed by whatever goes wrong."""

    def __init__(self, service: Service, nursery: trio.Nursery, path: str) -> None:
        self._address = service.ws.removeprefix("ws://")
        self._nursery = nursery
        self._path = path
        self._socket: WebSocketConnection | None = None
        self._stream: trio.SocketStream | None = None

    @property
    def is_open(self) -> bool:
        return self._socket is not None

    async def ask(self, message: object) -> Any:
        """Says it, and hears what comes next. Raises GoneError and BusyError."""
        return await self._exchange(json.dumps(message))

    async def hear(self) -> Any:
        """What comes next, unasked. Raises the same."""
        return await self._exchange(None)

    async def close(self) -> None:
        stream, self._stream, self._socket = self._stream, None, None
        if stream is not None:
            # A farewell would wait for an answer, and a dead service gives none.
            await trio.aclose_forcefully(stream)

    async def _exchange(self, message: str | None) -> Any:
        try:
            with trio.fail_after(PATIENCE):
                socket = self._socket or await self._connect()
                if message is not None:
                    await socket.send_message(message)
                return json.loads(await socket.get_message())
        except ConnectionClosed as closed:
            await self.close()
            if closed.reason is not None and closed.reason.code == TRY_AGAIN_LATER:
                raise BusyError from closed
            raise GoneError from closed
        except (OSError, HandshakeError, trio.TooSlowError) as error:
            await self.close()
            raise GoneError from error

    async def _connect(self) -> WebSocketConnection:
        host, _, port = self._address.rpartition(":")
        self._stream = await trio.open_tcp_stream(host, int(port))
        self._socket = await wrap_client_stream(self._nursery, self._stream, self._address, self._path)
        return self._socket
