"""The service as visitors meet it over real sockets, and all that they hear of it."""

from __future__ import annotations

import json
import socket
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Final, NamedTuple

import httpx
from trio_websocket import ConnectionClosed, ConnectionRejected

from tests.attacks.canaries import Canaries
from tests.conformance.running import PATIENCE, Running
from tests.conformance.talk import Talk

COOKIE: Final = "__Host-gatebook"


class Said(NamedTuple):
    """An answer: to what, its bytes, and the names of the canaries that may stand in it."""

    to: str
    data: bytes
    may: frozenset[str]


class Front:
    """Doors and addresses. What is said there is heard; what is handed out becomes a canary."""

    def __init__(self, service: Running, metrics: str, canaries: Canaries) -> None:
        self.service = service
        self.metrics = metrics
        self.canaries = canaries
        self.heard: list[Said] = []
        # By another name than `running` listens to: what is asked here is not all in the document.
        address = service.http.replace("127.0.0.1", "localhost")
        transport = httpx.HTTPTransport(local_address="127.0.0.1")
        self._client = httpx.Client(base_url=address, transport=transport, timeout=PATIENCE)

    def hear(self, to: str, data: bytes, may: Collection[str] = ()) -> None:
        """One more answer."""
        self.heard.append(Said(to, data, frozenset(may)))

    def ask(
        self,
        method: str,
        path: str,
        *,
        status: int | None = None,
        may: Collection[str] = (),
        token: str | None = None,
        cookie: str | None = None,
        headers: Mapping[str, str] | None = None,
        **body: Any,
    ) -> httpx.Response:
        """One request, and its answer; fails where that has another status."""
        sent = dict(headers or {})
        sent |= {} if token is None else {"Authorization": f"Bearer {token}"}
        sent |= {} if cookie is None else {"Cookie": f"{COOKIE}={cookie}"}
        # Some of them are no ASCII: as bytes they go out all the same.
        raw = [(name.encode(), value.encode()) for name, value in sent.items()]
        answer = self._client.request(method, path, headers=raw, **body)
        self._hear(f"{method} {path}", answer, answer.content, may)
        assert status in {None, answer.status_code}, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer

    def follow(self, path: str, token: str, may: Collection[str]) -> None:
        """The beginning of an answer that never ends."""
        with self._client.stream("GET", path, headers={"Authorization": f"Bearer {token}"}) as answer:
            said = b""
            for chunk in answer.iter_raw():
                said += chunk
                if said.count(b"data:") > 3:
                    break
            self._hear(path, answer, said, may)

    def send(self, what: str, data: bytes, address: str) -> bytes:
        """Bytes to a listener, and all that it says until it closes."""
        host, _, port = address.rpartition("/")[2].rpartition(":")
        said = b""
        # It may close with something unread: what it said before counts.
        with socket.create_connection((host, int(port)), timeout=PATIENCE) as connection, suppress(ConnectionError):
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            while part := connection.recv(65_536):
                said += part
        self.hear(f"{what} to {address}", said)
        return said

    async def say(self, found: Talk, message: str | dict[str, Any], may: Collection[str] = ()) -> Any:
        """One message over a socket, and its answer."""
        await found.tell(message)
        said = await found.hear()
        self.hear(f"{message!r:.80}", said.encode(), may)
        return json.loads(said)

    @contextmanager
    def closing(self, what: str, code: int) -> Iterator[None]:
        """Hears with which words a connection is closed, or not opened; fails where that has another code."""
        try:
            yield
        except ConnectionClosed as closed:
            found, said = closed.reason and int(closed.reason.code), repr(closed.reason).encode()
        except ConnectionRejected as refused:
            found, said = refused.status_code, repr((refused.headers, refused.body)).encode()
        else:
            found, said = None, b""
        assert found == code, what
        self.hear(what, said)

    def close(self) -> None:
        """Ends its connections."""
        self._client.close()

    def token(self, name: str, token: str) -> str:
        """A session's token becomes a canary."""
        self.canaries.add(name, token.partition("|")[2])
        return token

    def cookie(self, name: str, answer: httpx.Response) -> str:
        """The session's cookie in an answer becomes a canary."""
        return self.sealed(name, answer.headers.get_list("Set-Cookie")[0].partition(";")[0].partition("=")[2])

    def device(self, name: str, answer: httpx.Response) -> str:
        """The device's cookie, which stands behind it, becomes one too."""
        return self.sealed(name, answer.headers.get_list("Set-Cookie")[1].partition(";")[0].partition("=")[2])

    def sealed(self, name: str, value: str) -> str:
        """Something sealed becomes a canary: its end is enough to find it."""
        self.canaries.add(name, value.rstrip("=")[-32:])
        return value

    def _hear(self, to: str, answer: httpx.Response, content: bytes, may: Collection[str]) -> None:
        head = b"".join(b"%s: %s\n" % pair for pair in answer.headers.raw)
        self.hear(to, f"{answer.status_code} {answer.reason_phrase}\n".encode() + head + content, may)
