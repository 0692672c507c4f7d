"""Who asks: every route needs a principal unless it says by name that it needs nobody.

A request says so with a bearer token, else with the cookie. A browser sends the cookie whoever made the page, so what
it asks to be changed is checked for where it comes from.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from enum import IntEnum
from typing import Any, Final, Protocol

from msgspec import Struct
from quart import Request, Response

from events.catalogue import ADMIN, GUEST, USER
from service.credentials.cookies import CookieClaims
from service.errors import Forbidden, Refused, Unauthenticated
from service.gate.attempts import Client, client_of
from service.gate.gate import Gate
from service.gate.lookups import Holder, Lookups, Principal
from service.guards.http1 import Refusal
from service.guards.hypercorn import render_refusal
from service.web import answers
from service.web.cookies import SessionCookies
from service.web.operations import Operation
from service.web.origins import Origins

SCHEME: Final = "bearer"
SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that ask for nothing to be changed (RFC 9110, 9.2.1)."""


class Needs(IntEnum):
    """The level that a route asks of its principal; NOBODY opens it to everybody."""

    NOBODY = -1
    GUEST = GUEST
    USER = USER
    ADMIN = ADMIN


class Known(Struct, frozen=True):
    """Who shows a live session, and the token that shows it."""

    token: str
    holder: Holder
    by_cookie: bool = False

    def __repr__(self) -> str:
        return f"Known({self.holder.actor})"


class Asked(Struct, frozen=True):
    """A request with who asks it."""

    request: Request
    client: Client
    known: Known | None = None

    @property
    def shown(self) -> Known:
        """Who asks, a guest perhaps, and by which token: every route has it that does not need nobody."""
        if self.known is None:
            raise RuntimeError("a route that needs nobody asked who it is")
        return self.known

    @property
    def principal(self) -> Principal:
        """The principal, which every route has that needs an account."""
        holder = self.shown.holder
        if not isinstance(holder, Principal):
            raise RuntimeError("a route that needs no account asked for its principal")  # noqa: TRY004 - a fault of ours
        return holder

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
    every refusal of the route, whoever found it, the shape that its contract knows; `unheard` gives it to what the
    listener refuses before the application hears of it. `operation` tells what it takes and answers.
    """

    method: str
    path: str
    view: View
    door: str
    needs: Needs = Needs.USER
    sets_cookie: bool = False
    refused: Refusing = answers.refused
    unheard: Callable[[Refusal], bytes] = render_refusal
    operation: Operation = Operation()

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


def by_bearer(request: Request, lookups: Lookups) -> Known:
    """Who shows a bearer token; Unauthenticated where no live session has it, a guest's neither."""
    token = bearer_token(request)
    return Known(token, lookups.holder(token))


def by_cookie(request: Request, lookups: Lookups, cookies: SessionCookies) -> Known:
    """Who shows the cookie; Unauthenticated where it is none of ours, or no live session is the one that it names.

    Whether the request may change anything is not asked here: only a route that `sets_cookie`, or that asks that by
    itself, may call this.
    """
    return _held(_claimed(request, cookies), lookups)


async def asked(request: Request, route: Route, gate: Gate, cookies: SessionCookies, origins: Origins) -> Asked:
    """The request with its client and, where the route needs somebody, who that is.

    Raises CrossSite where another site's page asks what only ours may, Unauthenticated, Forbidden where the principal's
    level does not reach, Unavailable where nobody can say.
    """
    if route.sets_cookie:
        origins.check(request.headers, secure=request.scheme == "https")
    device = cookies.device(request) if route.sets_cookie else None
    client = client_of(route.door, _address(request), request.headers.get("User-Agent"), device)
    if route.needs is Needs.NOBODY:
        return Asked(request, client)
    known = _known(request, gate.lookups, cookies, origins)
    holder = known.holder
    if isinstance(holder, Principal):
        if holder.user.level < route.needs:
            raise Forbidden
    elif route.needs > Needs.GUEST:
        raise Unauthenticated
    await gate.seen(client, holder)
    return Asked(request, client, known)


def _known(request: Request, lookups: Lookups, cookies: SessionCookies, origins: Origins) -> Known:
    # Whoever sends a token means it: one that is no good is not passed over for a cookie of somebody else, perhaps.
    if "Authorization" in request.headers:
        return by_bearer(request, lookups)
    claims = _claimed(request, cookies)
    if request.method not in SAFE:
        origins.check(request.headers, secure=request.scheme == "https")
    return _held(claims, lookups)


def _claimed(request: Request, cookies: SessionCookies) -> CookieClaims:
    claims = cookies.claims(request)
    if claims is None:
        raise Unauthenticated
    return claims


def _held(claims: CookieClaims, lookups: Lookups) -> Known:
    holder = lookups.holder(claims.at)
    session = holder.session
    if (session.user_id, session.guest) != (claims.user_id, claims.guest == 1):
        raise Unauthenticated
    return Known(claims.at, holder, by_cookie=True)


def _address(request: Request) -> str | None:
    peer = request.scope.get("client")
    return None if peer is None else str(peer[0])
