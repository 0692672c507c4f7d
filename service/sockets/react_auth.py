"""react-auth's conversations: each connection is held to one session at most, and hears when that is over."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final

import structlog

from service.credentials.tokens import matches, parse_token
from service.doors.react_auth import DOOR
from service.doors.react_auth_socket import Close, NotARequest, Request, Resume, notification, read
from service.errors import InternalError, Overloaded, Refused, Unauthenticated, Unavailable
from service.gate.attempts import Client, client_of
from service.gate.gate import Gate
from service.gate.lookups import Principal
from service.guards.reporting import describe
from service.guards.trio_websocket import Handler, SocketConnection, SocketRequest
from service.metrics import Metrics
from service.sockets.answering import answer_all, patience, user_agent
from service.sockets.registry import Registry

__all__ = ["Conversation", "react_auth_handlers"]

log = structlog.get_logger("gatebook.react_auth")

PATH: Final = "/react-auth"


def react_auth_handlers(
    gate: Gate, registry: Registry, metrics: Metrics, resume_seconds: float = math.inf
) -> dict[str, Handler]:
    """The handler by its path, for `service.guards.trio_websocket.by_path`.

    A connection that has held no session for `resume_seconds`, whatever it sends meanwhile, is closed.
    """
    return {PATH: partial(converse, gate, registry, metrics, resume_seconds)}


async def converse(
    gate: Gate, registry: Registry, metrics: Metrics, resume_seconds: float, asked: SocketRequest
) -> None:
    """One connection."""
    connection = await asked.accept()
    client = client_of(DOOR, connection.client, user_agent(asked))
    held = patience(connection, resume_seconds)
    await answer_all(Conversation(gate, registry, client, metrics, connection, held), connection, metrics, DOOR)


class Conversation:
    """What one connection remembers: whose session it holds, and whether it speaks in envelopes.

    It is a holder of that session in the registry. A message that fails changes nothing about what is held.
    """

    __slots__ = (
        "_client", "_connection", "_enveloped", "_gate", "_held", "_in_use", "_metrics", "_registry", "_tell_held",
    )  # fmt: skip

    def __init__(
        self,
        gate: Gate,
        registry: Registry,
        client: Client,
        metrics: Metrics,
        connection: SocketConnection,
        held: Callable[[bool], None],
    ) -> None:
        self._gate = gate
        self._registry = registry
        self._client = client
        self._metrics = metrics
        self._connection = connection
        self._tell_held = held
        self._held: Principal | None = None
        self._enveloped = False
        self._in_use = False

    @property
    def door(self) -> str:
        """The door's name."""
        return DOOR

    def drop(self, session_id: int) -> bool:
        """The session is over: forgets it, and says whether the client is to be told."""
        if self._held is None or self._held.session.id != session_id:
            return False
        self._holds(None)
        return True

    async def tell(self) -> None:
        """Tells the client that its session is over, unless it has gone on to another one meanwhile."""
        if self._held is None:
            await self._connection.send(notification(enveloped=self._enveloped))

    def cut(self) -> None:
        """Ends the connection at once."""
        self._connection.cut()

    async def answer(self, message: str) -> str:
        """The reply to a message. Raises Overloaded and Unavailable alone."""
        self._in_use = False
        asked = read(message, enveloped=self._enveloped)
        self._enveloped = self._enveloped or asked.envelope.enveloped
        return asked.envelope.reply(success=await self._succeeds(asked))

    async def note_seen(self) -> None:
        """Notes that the session is in use, where the last message showed that it is. No reply waits for that."""
        if self._in_use and self._held is not None:
            await self._gate.seen(self._client, self._held)

    def leave(self) -> None:
        """The connection is over: holds nothing any more."""
        if self._held is not None:
            self._registry.release(self._held.session.id, self)
            self._holds(None)

    async def _succeeds(self, asked: Request | NotARequest) -> bool:
        try:
            if isinstance(asked, NotARequest):
                raise asked.refusal
            await self._carry_out(asked.call)
        except (Overloaded, Unavailable):
            raise
        except Refused as refusal:
            self._count(refusal.code)
            return False
        except Exception as error:  # noqa: BLE001 - a fault of ours is one message's, and ends no connection
            log.error("request_failed", door=DOOR, error=describe(error))  # noqa: TRY400 - a traceback may quote what was sent
            self._count(InternalError.code)
            return False
        return True

    async def _carry_out(self, call: Resume | Close) -> None:
        if isinstance(call, Resume):
            self._resume(call)
        else:
            await self._close(call)

    def _resume(self, call: Resume) -> None:
        """Holds the session whose token that is; Unauthenticated where there is none, or it is not that user's.

        A session that the connection held before lives on, but is no longer this connection's.
        """
        presented = parse_token(call.session)
        if presented is None:
            raise Unauthenticated
        before = None if self._held is None else self._held.session.id
        # Registered first, checked after: whenever the session ends from here on, either the lookup sees it or the
        # registry drops this holder.
        self._registry.hold(presented.session_id, self)
        try:
            held = self._gate.lookups.principal(call.session)
            if not call.believes(held.user.id):
                raise Unauthenticated
        except Exception:
            if before != presented.session_id:
                self._registry.release(presented.session_id, self)
            raise
        if before is not None and before != presented.session_id:
            self._registry.release(before, self)
        self._holds(held)
        self._in_use = True

    async def _close(self, call: Close) -> None:
        """Ends the session whose token that is; where there is none, or not any more, there is nothing to end.

        The connection that asks gets a reply and no notification. So it lets go of the session first, and holds it
        again where it could not be ended.
        """
        held = self._let_go(call.session)
        try:
            with suppress(Unauthenticated):
                await self._gate.log_out(self._client, self._gate.lookups.principal(call.session))
        except Exception:
            if held is None or self._holds_again(held):
                raise

    def _let_go(self, token: str) -> Principal | None:
        """Stops holding the session if that is its token; gives what was held.

        It need not be looked up for that: it may be over by the clock, and its end not written down yet.
        """
        held, presented = self._held, parse_token(token)
        if held is None or presented is None or presented.session_id != held.session.id:
            return None
        if not matches(presented, held.session.token_digest):
            return None
        self.leave()
        return held

    def _holds_again(self, held: Principal) -> bool:
        """Holds what was let go; False where it has ended meanwhile, when nobody could tell this connection."""
        self._registry.hold(held.session.id, self)
        self._holds(held)
        try:
            self._gate.lookups.renewed(held)
        except Unauthenticated:
            self.leave()
            return False
        return True

    def _holds(self, held: Principal | None) -> None:
        self._held = held
        self._tell_held(held is not None)

    def _count(self, code: str) -> None:
        self._metrics.refusals.labels(code, DOOR).inc()
