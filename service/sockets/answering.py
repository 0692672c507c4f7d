"""Answering on one connection: one message after the other, in their order, for doors that speak in text."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Final, Protocol

from wsproto.frame_protocol import CloseReason as Code

from service.errors import Overloaded, Unavailable
from service.guards.trio_websocket import SocketConnection, SocketRequest
from service.metrics import Metrics

TRY_AGAIN_LATER: Final = Code.TRY_AGAIN_LATER
"""1013 (IANA's registry of close codes): the service cannot decide, and says nothing that it does not know."""


class Answering(Protocol):
    """One side of a conversation: ours."""

    async def answer(self, message: str) -> str:
        """The reply to a message. Raises Overloaded and Unavailable alone."""

    async def note_seen(self) -> None:
        """Notes that the session is in use, where the last message showed that. No reply waits for it."""

    def leave(self) -> None:
        """The connection is over: holds nothing any more."""


async def answer_all(conversation: Answering, connection: SocketConnection, metrics: Metrics, door: str) -> None:
    """Answers until the connection is over. While a message is answered, the guard holds one more, and reads no third.

    Between what `answer` saw last and the sending of its reply nothing waits: what others send, comes after it.
    """
    seconds = metrics.request_seconds.labels(door)
    try:
        while True:
            message = await connection.receive_text()
            started = perf_counter()
            try:
                reply = await conversation.answer(message)
            except (Overloaded, Unavailable) as refusal:
                # Every earlier message has had its reply: they are taken one by one.
                metrics.refusals.labels(refusal.code, door).inc()
                await connection.close(TRY_AGAIN_LATER, refusal.message)
                return
            await connection.send(reply)
            seconds.observe(perf_counter() - started)
            await conversation.note_seen()
    finally:
        conversation.leave()


def patience(connection: SocketConnection, seconds: float) -> Callable[[bool], None]:
    """What is to be told, each time anew, whether the connection holds a session: it is closed so long after a no."""

    def held(holds: bool) -> None:
        connection.expect(None if holds else seconds)

    held(False)
    return held


def user_agent(asked: SocketRequest) -> str | None:
    """What the client says that it is."""
    for name, value in asked.headers:
        if name == b"user-agent":
            return value.decode("utf-8", "replace")
    return None
