"""The route protocol's conversations: one request after the other on each connection, answered in their order.

A connection whose session ends elsewhere is unauthenticated from then on, without a message: the contract has none.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Final

import structlog
from msgspec import UNSET
from msgspec.structs import replace

from service.doors.route_calls import V1, V2, Authenticate, Edition, Login, Logout, ProfileUpdate, Registration
from service.doors.route_protocol import Account, NotARequest, Request, read
from service.errors import Forbidden, InternalError, Overloaded, Refused, Unauthenticated, Unavailable
from service.gate.attempts import Client, client_of
from service.gate.gate import Gate
from service.gate.lookups import Principal
from service.guards.reporting import describe
from service.guards.trio_websocket import Handler, SocketRequest
from service.metrics import Metrics
from service.sockets.answering import answer_all, patience, user_agent
from service.sockets.registry import Registry

__all__ = ["Conversation", "route_handlers"]

log = structlog.get_logger("gatebook.route")

NOT_LOGGED_IN: Final = "To do this, you must be logged in."


def route_handlers(
    gate: Gate, registry: Registry, metrics: Metrics, idle_seconds: float = math.inf
) -> dict[str, Handler]:
    """The handlers of both versions by their paths, for `service.guards.trio_websocket.by_path`.

    A connection that holds no session and has said nothing for `idle_seconds` is closed.
    """
    return {
        "/auth/v1": partial(converse, gate, registry, metrics, V1, idle_seconds),
        "/auth/v2": partial(converse, gate, registry, metrics, V2, idle_seconds),
    }


async def converse(
    gate: Gate, registry: Registry, metrics: Metrics, edition: Edition, idle_seconds: float, asked: SocketRequest
) -> None:
    """One connection."""
    connection = await asked.accept()
    client = client_of(edition.door, connection.client, user_agent(asked))
    held = patience(connection, idle_seconds)
    await answer_all(Conversation(gate, registry, edition, client, metrics, held), connection, metrics, edition.door)


class Conversation:
    """What one connection remembers: whose session it holds.

    A request that is answered with an error changes nothing about that, unless the error is that the session is over.
    As a holder in the registry it forgets a session that is over; every request that needs one looks it up all the
    same.
    """

    def __init__(
        self,
        gate: Gate,
        registry: Registry,
        edition: Edition,
        client: Client,
        metrics: Metrics,
        held: Callable[[bool], None] = lambda _: None,
    ) -> None:
        self._gate = gate
        self._registry = registry
        self._edition = edition
        self._client = client
        self._metrics = metrics
        self._tell_held = held
        self._held: Principal | None = None
        self._in_use = False

    async def answer(self, message: str) -> str:
        """The packet that answers a message. Raises Overloaded and Unavailable alone."""
        self._in_use = False
        self._tell_held(self._held is not None)
        request = read(message, self._edition)
        if isinstance(request, NotARequest):
            self._count(request.code)
            return request.packet
        try:
            return await self._carry_out(request)
        except (Overloaded, Unavailable):
            raise
        except Refused as refusal:
            self._count(refusal.code)
            return request.refused(refusal)
        except Exception as error:  # noqa: BLE001 - a fault of ours is one request's, and ends no connection
            what = describe(error)
            log.error("request_failed", door=self._edition.door, route=request.route, error=what)  # noqa: TRY400 - a traceback may quote what was typed
            self._count(InternalError.code)
            return request.refused(InternalError())

    @property
    def door(self) -> str:
        """The door's name."""
        return self._edition.door

    def drop(self, session_id: int) -> bool:
        """Forgets the session, if it is the one that the connection holds; the client is not told."""
        if self._held is not None and self._held.session.id == session_id:
            self._holds(None)
        return False

    async def tell(self) -> None:
        """Nothing: `drop` never asks for it."""

    def cut(self) -> None:
        """Nothing: a connection that could not be told is one to be told."""

    def leave(self) -> None:
        """Holds no session any more."""
        if self._held is not None:
            self._registry.release(self._held.session.id, self)
            self._holds(None)

    async def note_seen(self) -> None:
        """Notes that the session is in use, where the last request needed one. No reply waits for that."""
        if self._in_use and self._held is not None:
            await self._gate.seen(self._client, self._held)

    async def _carry_out(self, request: Request) -> str:
        call = request.call
        match call:
            case Authenticate():
                held = self._gate.lookups.principal(call.session_key)
                reply = request.logged_in(call.session_key, self._account(held))
                # A session that the connection held before lives on: only a login replaces it.
                self._hold(held)
                self._in_use = True
                return reply
            case Login():
                client = replace(self._client, device=None if call.device_key is UNSET else call.device_key)
                opened = await self._gate.log_in(client, call.username, call.password, replaces=self._held)
                try:
                    self._hold(opened.principal)
                except Unauthenticated:
                    # It was opened, and is over again; the connection holds none then.
                    self.leave()
                # Who does not know of devices is told what the contract says, and no more.
                device_key = UNSET if call.device_key is UNSET else opened.device
                return request.logged_in(opened.token, self._account(opened.principal), device_key)
            case Registration():
                await self._gate.register(
                    self._client, username=call.username, nickname=call.nickname, password=call.password
                )
                return request.done()
            case Logout():
                await self._log_out()
                return request.logged_out()
            case ProfileUpdate():
                await self._update_profile(call)
                return request.done()
        raise TypeError(f"no route of ours asks for a {type(call).__name__}")

    async def _log_out(self) -> None:
        try:
            await self._gate.log_out(self._client, self._principal())
        except Unauthenticated:
            raise self._dropped() from None
        self.leave()

    async def _update_profile(self, call: ProfileUpdate) -> None:
        try:
            self._held, self._in_use = self._principal(), True
            await self._gate.change_profile(
                self._client,
                self._held,
                nickname=call.nickname,
                old_password=None if call.old_password is UNSET else call.old_password,
                new_password=None if call.new_password is UNSET else call.new_password,
            )
        except Unauthenticated:
            raise self._dropped() from None

    def _hold(self, principal: Principal) -> None:
        """Holds the principal's session instead of another. Unauthenticated, and nothing changed, when it is over."""
        before = self._held
        if before is None or before.session.id != principal.session.id:
            # Registered first and looked up then: either this look sees that it has ended, or `drop` will be called.
            self._registry.hold(principal.session.id, self)
            try:
                principal = self._gate.lookups.renewed(principal)
            except Exception:
                self._registry.release(principal.session.id, self)
                raise
            if before is not None:
                self._registry.release(before.session.id, self)
        self._holds(principal)

    def _holds(self, principal: Principal | None) -> None:
        self._held = principal
        self._tell_held(principal is not None)

    def _principal(self) -> Principal:
        """Whose session the connection holds, as it is at this moment; Unauthenticated when it holds none any more."""
        if self._held is None:
            raise Unauthenticated
        return self._gate.lookups.renewed(self._held)

    def _dropped(self) -> Forbidden:
        """The connection is unauthenticated from now on; the contract's word for that is 403."""
        self.leave()
        return Forbidden(NOT_LOGGED_IN)

    def _count(self, code: str) -> None:
        self._metrics.refusals.labels(code, self._edition.door).inc()

    def _account(self, principal: Principal) -> Account:
        view = self._gate.lookups.view(principal.user)
        return Account(
            id=view.id,
            username=view.username,
            nickname=view.nickname,
            level=view.level,
            active=view.active,
            created_at=view.created_at,
            last_contact=view.last_contact,
        )
