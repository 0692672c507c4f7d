"""The auth-server door over HTTP: everybody has a token, guests too; a login trades the guest's for an account's."""

from __future__ import annotations

from functools import partial
from typing import Final

import msgspec
from quart import Response

from service.doors import auth_server
from service.doors.auth_server import DOOR, AuthServerProblem, Credentials, TokenIssued, read_login
from service.errors import (
    AlreadyLoggedIn,
    BadCredentials,
    InvalidFields,
    Overloaded,
    Refused,
    Throttled,
    TooLarge,
    TooManyGuests,
    Unauthenticated,
    Unavailable,
)
from service.gate.gate import Gate
from service.gate.guests import Guests
from service.gate.lookups import Guest, Holder
from service.guards.http1 import Refusal
from service.web.answers import answer, challenge
from service.web.cookies import SessionCookies
from service.web.operations import FORM_TYPE, JSON_TYPE, Operation
from service.web.principals import Asked, Needs, Route, by_bearer, by_cookie

AUTHENTICATE: Final = Operation(
    answers={200: TokenIssued},
    refuses=(TooManyGuests,),
    problem=AuthServerProblem,
    security=({}, {"bearer": ()}, {"cookie": ()}),
)
LOG_IN: Final = Operation(
    body=Credentials,
    bodies=(FORM_TYPE, JSON_TYPE),
    answers={200: TokenIssued},
    refuses=(Unauthenticated, AlreadyLoggedIn, BadCredentials, InvalidFields, Throttled),
    problem=AuthServerProblem,
    security=({"bearer": ("guest",)},),
)


def auth_server_routes(gate: Gate, guests: Guests, cookies: SessionCookies, body_bytes: int) -> list[Route]:
    """The two addresses of the contract; both set the cookie."""
    door = AuthServer(gate, guests, cookies, body_bytes)
    route = partial(
        Route, "POST", door=DOOR, needs=Needs.NOBODY, sets_cookie=True, refused=refused, unheard=unheard
    )  # fmt: skip
    return [
        route("/api/authenticate", door.authenticate, operation=AUTHENTICATE),
        route("/api/login", door.log_in, operation=LOG_IN),
    ]


class AuthServer:
    """See the module."""

    def __init__(self, gate: Gate, guests: Guests, cookies: SessionCookies, body_bytes: int) -> None:
        self._gate = gate
        self._guests = guests
        self._cookies = cookies
        self._body_bytes = body_bytes

    async def authenticate(self, asked: Asked) -> Response:
        """Get a token: the live one that came along, else that of a new guest.

        A token in the header counts before one in the cookie. The cookie is set, again where it is there already.
        """
        lookups = self._gate.lookups
        # A client whose own token has run out is still whoever its cookie says: no guest takes that cookie's place.
        for look in (
            partial(by_bearer, asked.request, lookups),
            partial(by_cookie, asked.request, lookups, self._cookies),
        ):
            try:
                known = look()
            except Unauthenticated:
                continue
            await self._gate.seen(asked.client, known.holder)
            return self._issued(known.token, known.holder)
        self._cookies.check()
        admitted = await self._guests.admit(asked.client)
        return self._issued(admitted.token, admitted.guest)

    async def log_in(self, asked: Asked) -> Response:
        """Log in: trade a guest's token for one of the account's.

        The guest's is worth nothing any more. The guest is looked at before the credentials are: without one, those are
        nobody's business.
        """
        guest = by_bearer(asked.request, self._gate.lookups).holder
        if not isinstance(guest, Guest):
            raise AlreadyLoggedIn
        data: bytes = await asked.request.body
        if len(data) > self._body_bytes:
            raise TooLarge
        given = read_login(asked.request.headers.getlist("Content-Type"), data)
        self._cookies.check()
        opened = await self._gate.log_in(asked.client, given.email, given.password, guest=guest)
        response = self._issued(opened.token, opened.principal)
        self._cookies.put_device(response, opened.device)
        return response

    def _issued(self, token: str, holder: Holder) -> Response:
        response = answer(TokenIssued(token))
        self._cookies.put(response, token, holder)
        return response


def unheard(refusal: Refusal) -> bytes:
    """What the listener says to a request that never gets here, in the contract's shape."""
    return msgspec.json.encode(AuthServerProblem(refusal.message))


def refused(refusal: Refused, *, token_given: bool = False) -> Response:
    """The answer to a request that is not carried out, in the contract's shape."""
    status, problem = auth_server.refused(refusal)
    response = answer(problem, status)
    if isinstance(refusal, Throttled | Overloaded | Unavailable):
        response.headers["Retry-After"] = str(refusal.retry_after)
    if isinstance(refusal, Unauthenticated):
        response.headers["WWW-Authenticate"] = challenge(token_given=token_given)
    return response
