"""The session cookie over HTTP: read from a request, set on a response, taken back.

It goes to this host alone, over TLS alone, to no script (ASVS 5.0: 3.3.1 to 3.3.4), and from another site's page only
when somebody follows a link.
"""

from __future__ import annotations

from typing import Final

from quart import Request, Response
from werkzeug.http import dump_cookie

from service.batch import Clock, utc_now
from service.credentials.cookies import CookieClaims, Cookies
from service.gate.lookups import Holder

NAME: Final = "__Host-gatebook"
"""Browsers take a cookie of this prefix (RFC 6265bis, 4.1.3.2) from this host over TLS only, for no other domain."""
DEVELOPMENT_NAME: Final = "gatebook"
IN_DEVELOPMENT: Final = (
    "DEVELOPMENT: session cookies go over plain HTTP."
    " This is for trying things out on this machine, and for nothing else."
)


class SessionCookies:
    """The cookie of one service. In development it goes over plain HTTP, and has another name therefore."""

    def __init__(self, cookies: Cookies, clock: Clock = utc_now, *, development: bool = False) -> None:
        self._cookies = cookies
        self._clock = clock
        self._secure = not development
        self.name = DEVELOPMENT_NAME if development else NAME

    def claims(self, request: Request) -> CookieClaims | None:
        """What the request's cookie says; None where there is none, none of ours, or more than one.

        Raises Unavailable or InternalError as `Cookies.open`.
        """
        # Split as browsers join them. A parser that knows quotes would let one cookie swallow those behind it; and of
        # two with our name somebody else has set one, to be taken for ours.
        given = [
            value
            for header in request.headers.getlist("Cookie")
            for name, _, value in (pair.strip(" \t").partition("=") for pair in header.split(";"))
            if name == self.name
        ]
        return self._cookies.open(given[0]) if len(given) == 1 else None

    def check(self) -> None:
        """Raises what `put` would, before a session is opened that nobody would hear of then."""
        self._cookies.check()

    def put(self, response: Response, token: str, holder: Holder) -> None:
        """Has the client keep the token until its session ends, sealed under the newest key; Unavailable without one.

        Only on routes that say that they set a cookie.
        """
        session = holder.session
        sealed = self._cookies.seal(CookieClaims(token, session.user_id, 1 if session.guest else 0))
        self._set(response, sealed, int((session.expires_at - self._clock()).total_seconds()))

    def clear(self, response: Response) -> None:
        """Has the client forget the cookie."""
        self._set(response, "", 0)

    def _set(self, response: Response, value: str, seconds: int) -> None:
        cookie = dump_cookie(
            self.name, value, max(0, seconds), path="/", secure=self._secure, httponly=True, samesite="Lax",
            sync_expires=False,
        )  # fmt: skip
        response.headers.add("Set-Cookie", cookie)
