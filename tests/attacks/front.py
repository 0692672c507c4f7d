"""The service as visitors meet it over real sockets, and all that they hear of it."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import httpx
from trio_websocket import ConnectionClosed, ConnectionRejected

from tests.attacks.asking import Asking
from tests.attacks.canaries import Canaries
from tests.conformance.running import Running
from tests.conformance.talk import Talk


class Said(NamedTuple):
    """An answer: to what, its bytes, and the names of the canaries that may stand in it."""

    to: str
    data: bytes
    may: frozenset[str]


class Front(Asking):
    """Doors and addresses. What is said there is heard; what is handed out becomes a canary."""

    def __init__(self, service: Running, metrics: str, canaries: Canaries) -> None:
        self.service = service
        self.metrics = metrics
        self.canaries = canaries
        self.heard: list[Said] = []
        # By another name than `running` listens to: what is asked here is not all in the document.
        super().__init__(service.http.replace("127.0.0.1", "localhost"))

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
        **what: Any,
    ) -> httpx.Response:
        """One request, and its answer; fails where that has another status."""
        answer = super().ask(method, path, **what)
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
        said = self.tell(data, address)
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
