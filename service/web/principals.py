"""Who asks: every route needs a principal unless it says by name that it needs nobody."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from enum import IntEnum
from typing import Any, Final, Protocol

from msgspec import Struct
from quart import Request, Response

from events.catalogue import ADMIN, USER
from service.errors import Forbidden, Refused, Unauthenticated
from service.gate.attempts import Client, client_of
from service.gate.gate import Gate
from service.gate.lookups import Principal
from service.web import answers
from service.web.origins import Origins

SCHEME: Final = "bearer"


class Needs(IntEnum):
    """The level that a route asks of its principal; NOBODY opens it to everybody."""

    NOBODY = -1
    USER = USER
    ADMIN = ADMIN


class Asked(Struct, frozen=True):
    """A request with who asks it."""

    request: Request
    client: Client
    known: Principal | None = None

    @property
    def principal(self) -> Principal:
        """The principal, which every route has that does not say otherwise."""
        if self.known is None:
            raise RuntimeError("a route that needs nobody asked for its principal")
        return self.known

    def part(self, name: str) -> str:
        """A named part of the path."""
        parts: dict[str, Any] = self.request.view_args or {}
        return str(parts[name])


View = Callable[[Asked], Awaitable[Response]]


class Refusing(Protocol):
    """How a contract says no."""

    def __call__(self, refusal: Refused, *, token_given: bool = False) -> Response:
        """The answer to a request that is not carried out; `token_given` says that it had an Authorization header."""


class Route(Struct, frozen=True):
    """An address with the method that it takes, what answers it, and whom it needs.

    What a route that `sets_cookie` is asked by another site's page is refused before anything else. `refused` gives
    every refusal of the route, whoever found it, the shape that its contract knows.
    """

    method: str
    path: str
    view: View
    door: str
    needs: Needs = Needs.USER
    sets_cookie: bool = False
    refused: Refusing = answers.refused

    @property
    def endpoint(self) -> str:
        """The route's name inside the application."""
        return f"{self.method} {self.path}"


def bearer_token(request: Request) -> str:
    """The token of the request's Authorization header (RFC 6750, 2.1); Unauthenticated where there is not just one."""
    given = request.headers.getlist("Authorization")
    scheme, _, token = given[0].partition(" ") if len(given) == 1 else ("", "", "")
    if scheme.lower() != SCHEME:
        raise Unauthenticated
    return token.strip(" ")


async def asked(request: Request, route: Route, gate: Gate, origins: Origins) -> Asked:
    """The request with its client and, where the route needs one, its principal.

    Raises CrossSite where another site's page asks what only ours may, Unauthenticated, Forbidden where the principal's
    level does not reach, Unavailable where nobody can say.
    """
    if route.sets_cookie:
        origins.check(request.headers)
    client = client_of(route.door, _address(request), request.headers.get("User-Agent"))
    if route.needs is Needs.NOBODY:
        return Asked(request, client)
    principal = gate.lookups.principal(bearer_token(request))
    if principal.user.level < route.needs:
        raise Forbidden
    await gate.seen(client, principal)
    return Asked(request, client, principal)


def _address(request: Request) -> str | None:
    peer = request.scope.get("client")
    return None if peer is None else str(peer[0])
