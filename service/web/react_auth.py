"""react-auth over HTTP: one address, to log in and to go on with the session that the cookie names."""

from __future__ import annotations

from typing import Final

import msgspec
from quart import Response

from service.doors import react_auth
from service.doors.react_auth import (
    DOOR,
    Account,
    Authenticate,
    Authenticated,
    NotAuthenticated,
    Resume,
    fault,
    opened,
    read,
)
from service.errors import BadCredentials, Overloaded, Refused, Throttled, TooLarge, Unauthenticated, Unavailable
from service.gate.gate import Gate
from service.gate.lookups import Principal
from service.guards.http1 import Refusal
from service.web.answers import answer_encoded
from service.web.cookies import SessionCookies
from service.web.operations import FORM_TYPE, JSON_TYPE, Operation
from service.web.principals import Asked, Needs, Route, by_cookie

PATH: Final = "/react-auth"
AUTHENTICATE: Final = Operation(
    body=(Authenticate, Resume),
    bodies=(FORM_TYPE, JSON_TYPE),
    answers={200: Authenticated},
    refuses=(BadCredentials, Unauthenticated, Throttled),
    problem=NotAuthenticated,
    security=({}, {"cookie": ("user",)}),
)


def react_auth_routes(gate: Gate, cookies: SessionCookies, body_bytes: int) -> list[Route]:
    """The contract's one address; what it is asked stands in the body."""
    door = ReactAuth(gate, cookies, body_bytes)
    return [
        Route(
            "POST", PATH, door.authenticate, DOOR, Needs.NOBODY, sets_cookie=True, refused=refused,
            unheard=unheard,
            operation=AUTHENTICATE,
        )
    ]  # fmt: skip


class ReactAuth:
    """See the module."""

    def __init__(self, gate: Gate, cookies: SessionCookies, body_bytes: int) -> None:
        self._gate = gate
        self._cookies = cookies
        self._body_bytes = body_bytes

    async def authenticate(self, asked: Asked) -> Response:
        """Log in, or resume the session of the cookie.

        Either answers with the session and whose it is, and sets the cookie; a session that is resumed keeps its token.
        """
        data: bytes = await asked.request.body
        # The listener bounds bodies too, and earlier; this holds under any other server.
        if len(data) > self._body_bytes:
            raise TooLarge
        call = read(asked.request.headers.getlist("Content-Type"), data)
        return await (self._log_in(asked, call) if isinstance(call, Authenticate) else self._resume(asked))

    async def _log_in(self, asked: Asked, call: Authenticate) -> Response:
        self._cookies.check()
        logged_in = await self._gate.log_in(asked.client, call.username, call.password)
        response = self._opened(logged_in.token, logged_in.principal)
        self._cookies.put_device(response, logged_in.device)
        return response

    async def _resume(self, asked: Asked) -> Response:
        known = by_cookie(asked.request, self._gate.lookups, self._cookies)
        # A guest's cookie is the auth-server door's; here it is no session, and stays what it is.
        if not isinstance(known.holder, Principal):
            raise Unauthenticated
        await self._gate.seen(asked.client, known.holder)
        return self._opened(known.token, known.holder)

    def _opened(self, token: str, principal: Principal) -> Response:
        user = msgspec.convert(self._gate.lookups.view(principal.user), Account, from_attributes=True)
        response = answer_encoded(opened(token, user))
        self._cookies.put(response, token, principal)
        return response


def unheard(refusal: Refusal) -> bytes:
    """What the listener says to a request that never gets here, in the contract's shape."""
    return fault(refusal.message)


def refused(refusal: Refused, *, token_given: bool = False) -> Response:  # noqa: ARG001 - no answer here is about the header
    """The answer to a request that is not carried out, in the contract's shape. It leaves the cookie as it is."""
    status, body = react_auth.refused(refusal)
    response = answer_encoded(body, status)
    if isinstance(refusal, Throttled | Overloaded | Unavailable):
        response.headers["Retry-After"] = str(refusal.retry_after)
    return response
