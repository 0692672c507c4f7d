"""Introspection (RFC 7662): what a token is worth at this moment, for services that are known to us.

A service shows its name and secret by HTTP Basic (RFC 7617, RFC 6749 section 2.3.1); without a client in the settings,
nobody is told anything. Errors are those of RFC 6749, section 5.2.
"""

from __future__ import annotations

import base64
from typing import Annotated, Final, Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType
from quart import Request, Response

from events.catalogue import Level
from service.credentials.clients import Clients
from service.doors.forms import FORM_TYPE, fields_of, is_media
from service.errors import (
    HTTP_STATUS,
    Malformed,
    Overloaded,
    Refused,
    TooLarge,
    Unauthenticated,
    Unavailable,
    UnsupportedMedia,
)
from service.fields import NOT_EMPTY, AnyToken
from service.gate.access_tokens import AccessTokens
from service.gate.lookups import Lookups, Principal
from service.guards.http1 import Refusal
from service.web.answers import answer
from service.web.operations import Operation
from service.web.principals import Asked, Needs, Route

DOOR: Final = "access-tokens"
CHALLENGE: Final = 'Basic realm="gatebook", charset="UTF-8"'
SCHEME: Final = "basic"


class IntrospectionRequest(Struct, frozen=True):
    """`POST /api/introspect`: a session token or an access token. Hints of its type are not needed."""

    token: Annotated[AnyToken, NOT_EMPTY]
    token_type_hint: str | UnsetType = UNSET

    def __repr__(self) -> str:
        return "IntrospectionRequest(…)"


class Introspected(Struct, frozen=True, omit_defaults=True):
    """What the token is worth. One that is not `active` is told no more of, whatever is the matter with it.

    Times are in whole seconds since 1970. `aud`, `client_id`, `jti` and `nbf` are those of an access token.
    """

    active: bool
    token_type: Literal["Bearer"] | UnsetType = UNSET
    iss: str | UnsetType = UNSET
    aud: str | UnsetType = UNSET
    sub: str | UnsetType = UNSET
    client_id: str | UnsetType = UNSET
    sid: str | UnsetType = UNSET
    jti: str | UnsetType = UNSET
    iat: int | UnsetType = UNSET
    nbf: int | UnsetType = UNSET
    exp: int | UnsetType = UNSET
    username: str | UnsetType = UNSET
    level: Level | UnsetType = UNSET


class IntrospectionProblem(Struct, frozen=True):
    """Every refusal's body, as RFC 6749 has it."""

    error: Literal["invalid_request", "invalid_client", "server_error", "temporarily_unavailable"]
    error_description: str


INTROSPECT: Final = Operation(
    body=IntrospectionRequest,
    bodies=(FORM_TYPE,),
    answers={200: Introspected},
    refuses=(Unauthenticated,),
    problem=IntrospectionProblem,
    security=({SCHEME: ()},),
)


def introspection_route(tokens: AccessTokens, lookups: Lookups, clients: Clients, body_bytes: int) -> Route:
    """The address, which needs a client and no principal."""
    door = _Introspection(tokens, lookups, clients, body_bytes)
    return Route(
        "POST", "/api/introspect", door.introspect, DOOR, Needs.NOBODY,
        refused=refused, unheard=unheard, operation=INTROSPECT,
    )  # fmt: skip


class _Introspection:
    """The view."""

    def __init__(self, tokens: AccessTokens, lookups: Lookups, clients: Clients, body_bytes: int) -> None:
        self._tokens = tokens
        self._lookups = lookups
        self._clients = clients
        self._body_bytes = body_bytes

    async def introspect(self, asked: Asked) -> Response:
        """Tell what a token is worth.

        Of a session token, and of an access token whose session is still open: who it is, and until when. An access
        token of a session that has ended is not active, though it has not run out. A guest's is not either.
        """
        request = asked.request
        if not self._is_known(request):
            raise Unauthenticated("A client that may introspect is needed.")
        token = await self._token(request)
        try:
            found = self._of_access_token(token) if "." in token else self._of_session(token)
        except Unauthenticated:
            found = Introspected(active=False)
        return answer(found)

    def _is_known(self, request: Request) -> bool:
        given = request.headers.getlist("Authorization")
        scheme, _, written = given[0].partition(" ") if len(given) == 1 else ("", "", "")
        if scheme.lower() != SCHEME:
            return False
        try:
            name, colon, secret = base64.b64decode(written.strip(" "), validate=True).decode().partition(":")
        except ValueError:
            return False
        return colon == ":" and self._clients.know(name, secret)

    async def _token(self, request: Request) -> str:
        types = request.headers.getlist("Content-Type")
        if not is_media(types, FORM_TYPE):
            raise UnsupportedMedia(f"The body must be a form, with the header Content-Type: {FORM_TYPE}.")
        data: bytes = await request.body
        if len(data) > self._body_bytes:
            raise TooLarge
        token = fields_of(types, data).get("token", "")
        if not token:
            raise Malformed("The form has no token.")
        return str(token)

    def _of_access_token(self, token: str) -> Introspected:
        shown = self._tokens.shown(token)
        claims = shown.claims
        return self._active(
            shown.principal, claims.iat, claims.exp,
            aud=claims.aud, client_id=claims.client_id, jti=claims.jti, nbf=claims.nbf,
        )  # fmt: skip

    def _of_session(self, token: str) -> Introspected:
        principal = self._lookups.principal(token)
        session = principal.session
        over_at = self._lookups.over_at(session)
        return self._active(principal, int(session.opened_at.timestamp()), int(over_at.timestamp()))

    def _active(self, principal: Principal, iat: int, exp: int, **more: str | int) -> Introspected:
        said = {
            "active": True,
            "token_type": "Bearer",
            "iss": self._tokens.named.issuer,
            "sub": str(principal.user.id),
            "sid": str(principal.session.id),
            "iat": iat,
            "exp": exp,
            "username": self._lookups.view(principal.user).username,
            "level": principal.user.level,
        }
        return msgspec.convert(said | more, Introspected)


def unheard(refusal: Refusal) -> bytes:
    """What the listener says to a request that never gets here, in the contract's shape."""
    return msgspec.json.encode(IntrospectionProblem("invalid_request", refusal.message))


def refused(refusal: Refused, *, token_given: bool = False) -> Response:  # noqa: ARG001 - every contract is told
    """The answer to a request that is not carried out, in the contract's shape."""
    status = HTTP_STATUS[type(refusal)]
    response = answer(IntrospectionProblem(_word(refusal), refusal.message), status)
    if isinstance(refusal, Overloaded | Unavailable):
        response.headers["Retry-After"] = str(refusal.retry_after)
    if isinstance(refusal, Unauthenticated):
        response.headers["WWW-Authenticate"] = CHALLENGE
    return response


def _word(
    refusal: Refused,
) -> Literal["invalid_request", "invalid_client", "server_error", "temporarily_unavailable"]:
    if isinstance(refusal, Unauthenticated):
        return "invalid_client"
    if isinstance(refusal, Overloaded | Unavailable):
        return "temporarily_unavailable"
    return "invalid_request" if isinstance(refusal, Malformed | TooLarge | UnsupportedMedia) else "server_error"
