"""Forward authentication: a proxy asks with each request of its own who makes it, before it passes the request on.

Its answer is what the proxy goes by. A cookie goes along with whatever a browser was made to send, so that such a
request counts only when it can change nothing, or comes from a page of ours; docs/access-tokens.md says what a proxy
has to tell for that.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

from quart import Request, Response

from service.errors import CrossSite, Unauthenticated
from service.gate.access_tokens import AccessTokens
from service.gate.gate import Gate
from service.gate.lookups import Principal
from service.web.answers import nothing
from service.web.cookies import SessionCookies
from service.web.operations import Operation
from service.web.origins import Origins
from service.web.principals import SAFE, Asked, Needs, Route, bearer_token, by_cookie
from service.web.queries import AnyText

DOOR: Final = "forward-auth"
METHOD: Final = AnyText(
    "X-Forwarded-Method",
    "The method, in capitals, of the request that the proxy asks about; without it, that may be any.",
)
ANSWERED: Final = ("X-User-Id", "X-User-Name", "X-User-Level", "X-Session-Id")
VERIFY: Final = Operation(
    answers={204: None},
    headers=(METHOD,),
    answer_headers=ANSWERED,
    refuses=(Unauthenticated, CrossSite),
    security=({"bearer": ()}, {"cookie": ()}),
)


def forward_auth_route(gate: Gate, tokens: AccessTokens, cookies: SessionCookies, origins: Origins) -> Route:
    """The address that a proxy asks; it looks for itself who is there."""
    door = _ForwardAuth(gate, tokens, cookies, origins)
    return Route("GET", "/verify", door.verify, DOOR, Needs.NOBODY, operation=VERIFY)


class _ForwardAuth:
    """The view."""

    def __init__(self, gate: Gate, tokens: AccessTokens, cookies: SessionCookies, origins: Origins) -> None:
        self._gate = gate
        self._tokens = tokens
        self._cookies = cookies
        self._origins = origins

    async def verify(self, asked: Asked) -> Response:
        """Tell a proxy who makes a request.

        By a session token or an access token in the `Authorization` header, else by the cookie: the id, username
        (percent-encoded), level and session of an account, in headers. A cookie does for what cannot change anything,
        and for pages of this origin.
        """
        principal = self._shown(asked.request)
        await self._gate.seen(asked.client, principal)
        name = self._gate.lookups.view(principal.user).username
        response = nothing()
        # Letters, digits and `_.-~` stay as they are (RFC 3986, 2.3); whatever else is in a name, no header ends by it.
        told = (str(principal.user.id), quote(name, safe=""), str(principal.user.level), str(principal.session.id))
        response.headers.extend(zip(ANSWERED, told, strict=True))
        return response

    def _shown(self, request: Request) -> Principal:
        lookups = self._gate.lookups
        if "Authorization" in request.headers:
            token = bearer_token(request)
            return self._tokens.shown(token).principal if "." in token else lookups.principal(token)
        holder = by_cookie(request, lookups, self._cookies).holder
        if not isinstance(holder, Principal):
            raise Unauthenticated
        if not _changes_nothing(request):
            self._origins.check(request.headers, secure=request.scheme == "https")
        return holder


def _changes_nothing(request: Request) -> bool:
    """Whether the request that the proxy asks about is known to ask for nothing to be changed.

    Opening a socket is a GET, and what goes over it afterwards may be anything.
    """
    methods = request.headers.getlist("X-Forwarded-Method")
    return len(methods) == 1 and methods[0] in SAFE and "Sec-WebSocket-Key" not in request.headers
