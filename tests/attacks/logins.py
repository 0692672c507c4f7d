"""Logins at every door where a password is typed: over one connection each, to the last byte of the answer."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, Literal, NamedTuple, Self
from urllib.parse import urlencode

from tests.conformance.running import PATIENCE
from tests.guards.edge import frame, upgrade

AGENT: Final = "enumeration/1.0"
JSON: Final = "application/json"
FORM: Final = "application/x-www-form-urlencoded"
DEVICE_COOKIE: Final = "__Host-gatebook-device"
TEXT: Final = 1
PASSED_OVER: Final = re.compile(rb"(?<=\r\ndate: )[^\r]*")
"""The one thing in an answer that is not compared: the date. No answer to a login that fails holds an id."""


class Login(NamedTuple):
    """What is typed, and what the client kept of an earlier login, if anything."""

    identifier: str
    password: str
    device: str | None = None


class Answer(NamedTuple):
    """All that came back, but for the date, and the seconds from the first byte sent to the last one received."""

    said: bytes
    seconds: float


class Door(NamedTuple):
    """A door where a password is typed: its address, and what is sent there."""

    name: str
    listener: Literal["http", "ws"]
    path: str
    body: Callable[[Login], str]
    kind: str = JSON
    needs_guest: bool = False

    def message(self, login: Login, guest: str | None) -> bytes:
        """The bytes of a login."""
        body = self.body(login).encode()
        if self.listener == "ws":
            return frame(TEXT, body)
        lines = [
            f"POST {self.path} HTTP/1.1", "Host: 127.0.0.1", f"User-Agent: {AGENT}", f"Content-Type: {self.kind}",
            f"Content-Length: {len(body)}",
            *([] if guest is None else [f"Authorization: Bearer {guest}"]),
            # The others take it in the body.
            *([f"Cookie: {DEVICE_COOKIE}={login.device}"] if login.device is not None and self.kind == FORM else []),
        ]  # fmt: skip
        return "\r\n".join([*lines, "", ""]).encode() + body


def _account(login: Login) -> str:
    return json.dumps({"identifier": login.identifier, "password": login.password} | _device_key(login))


def _react_auth(login: Login) -> str:
    what = "fantaptik/react-auth/authenticate"
    return urlencode({"type": what, "username": login.identifier, "password": login.password})


def _auth_server(login: Login) -> str:
    return urlencode({"email": login.identifier, "password": login.password})


def _route(login: Login) -> str:
    data = {"username": login.identifier, "password": login.password} | _device_key(login)
    return json.dumps({"route": "auth.login", "receipt": 1, "data": data})


def _device_key(login: Login) -> dict[str, str]:
    return {} if login.device is None else {"device_key": login.device}


DOORS: Final = {
    door.name: door
    for door in (
        Door("account", "http", "/api/session", _account),
        Door("react-auth", "http", "/react-auth", _react_auth, FORM),
        Door("auth-server", "http", "/api/login", _auth_server, FORM, needs_guest=True),
        Door("route-v1", "ws", "/auth/v1", _route),
        Door("route-v2", "ws", "/auth/v2", _route),
    )
}


class Line:
    """A connection to a door that is kept open; blocking, so that nothing stands between the answer and the clock."""

    def __init__(self, door: Door, connection: socket.socket) -> None:
        self._door = door
        self._connection = connection
        self._guest: str | None = None

    @classmethod
    @contextmanager
    def open(cls, door: Door, http: str, ws: str) -> Iterator[Self]:
        """A connection to a service whose listeners are there, as `host:port`; a guest's where the door wants one."""
        host, _, port = (http if door.listener == "http" else ws).rpartition(":")
        with socket.create_connection((host, int(port)), timeout=PATIENCE) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            line = cls(door, connection)
            line._come_in()
            yield line

    def log_in(self, login: Login) -> Answer:
        """One login, and what comes of it."""
        message = self._door.message(login, self._guest)
        started = time.perf_counter()
        self._connection.sendall(message)
        said = self._frame() if self._door.listener == "ws" else self._http()
        seconds = time.perf_counter() - started
        return Answer(PASSED_OVER.sub(b"*", said), seconds)

    def _come_in(self) -> None:
        if self._door.listener == "ws":
            self._connection.sendall(upgrade(self._door.path, User_Agent=AGENT.encode()))
            assert self._until(lambda said: said.endswith(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
        if self._door.needs_guest:
            self._connection.sendall(b"POST /api/authenticate HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n\r\n")
            self._guest = json.loads(self._http().partition(b"\r\n\r\n")[2])["at"]

    def _http(self) -> bytes:
        return self._until(_is_whole_answer)

    def _frame(self) -> bytes:
        return self._until(_is_whole_frame)

    def _until(self, whole: Callable[[bytes], bool]) -> bytes:
        said = b""
        while not whole(said):
            more = self._connection.recv(65_536)
            assert more, f"closed after {said!r}"
            said += more
        return said


def _is_whole_answer(said: bytes) -> bool:
    head, end, body = said.partition(b"\r\n\r\n")
    length = re.search(rb"\r\ncontent-length: (\d+)", head, re.IGNORECASE)
    return bool(end) and length is not None and len(body) == int(length[1])


def _is_whole_frame(said: bytes) -> bool:
    """Whether it is a text frame as a server sends it, without a mask, and all of it."""
    if len(said) < 2:
        return False
    assert said[0] == 0x80 | TEXT, said
    short = said[1]
    assert short < 127, "longer than any answer to a login that failed"
    if short < 126:
        return len(said) == 2 + short
    return len(said) >= 4 and len(said) == 4 + int.from_bytes(said[2:4])
