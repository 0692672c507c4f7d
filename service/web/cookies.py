"""The cookies over HTTP, the session's and the device's: read from a request, set on a response, taken back.

Each goes to this host alone, over TLS alone, to no script (ASVS 5.0: 3.3.1 to 3.3.4), and from another site's page only
when somebody follows a link.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from quart import Request, Response
from werkzeug.http import dump_cookie

from service.batch import Clock, utc_now
from service.credentials.cookies import CookieClaims, Cookies
from service.gate.lookups import Holder

NAME: Final = "__Host-gatebook"
"""Browsers take a cookie of this prefix (RFC 6265bis, 4.1.3.2) from this host over TLS only, for no other domain."""
DEVELOPMENT_NAME: Final = "gatebook"
DEVICE: Final = "-device"
"""What the name of the device's cookie has after that of the session's."""
IN_DEVELOPMENT: Final = (
    "DEVELOPMENT: session cookies go over plain HTTP."
    " This is for trying things out on this machine, and for nothing else."
)


class SessionCookies:
    """The cookies of one service. In development they go over plain HTTP, and have other names therefore.

    A browser keeps that of the device for `device_days`, and beyond its sessions.
    """

    def __init__(
        self, cookies: Cookies, clock: Clock = utc_now, *, development: bool = False, device_days: int = 180
    ) -> None:
        self._cookies = cookies
        self._clock = clock
        self._device_seconds = int(timedelta(days=device_days).total_seconds())
        self._secure = not development
        self.name = DEVELOPMENT_NAME if development else NAME

    def claims(self, request: Request) -> CookieClaims | None:
        """What the request's cookie says; None where there is none, none of ours, or more than one.

        Raises Unavailable or InternalError as `Cookies.open`.
        """
        value = self._value(request, self.name)
        return None if value is None else self._cookies.open(value)

    def device(self, request: Request) -> str | None:
        """What the request shows of an earlier login from its device, whatever it is; None where there is nothing."""
        return self._value(request, self.name + DEVICE)

    def _value(self, request: Request, wanted: str) -> str | None:
        # Split as browsers join them. A parser that knows quotes would let one cookie swallow those behind it; and of
        # two with our name somebody else has set one, to be taken for ours.
        given = [
            value
            for header in request.headers.getlist("Cookie")
            for name, _, value in (pair.strip(" \t").partition("=") for pair in header.split(";"))
            if name == wanted
        ]
        return given[0] if len(given) == 1 else None

    def check(self) -> None:
        """Raises what `put` would, before a session is opened that nobody would hear of then."""
        self._cookies.check()

    def put(self, response: Response, token: str, holder: Holder) -> None:
        """Has the client keep the token until its session ends, sealed under the newest key; Unavailable without one.

        Only on routes that say that they set a cookie.
        """
        session = holder.session
        sealed = self._cookies.seal(CookieClaims(token, session.user_id, 1 if session.guest else 0))
        self._set(response, self.name, sealed, int((session.expires_at - self._clock()).total_seconds()))

    def put_device(self, response: Response, device: str) -> None:
        """Has the client keep what a login gave it for the next one."""
        self._set(response, self.name + DEVICE, device, self._device_seconds)

    def clear(self, response: Response) -> None:
        """Has the client forget the session; its device stays known."""
        self._set(response, self.name, "", 0)

    def _set(self, response: Response, name: str, value: str, seconds: int) -> None:
        cookie = dump_cookie(
            name, value, max(0, seconds), path="/", secure=self._secure, httponly=True, samesite="Lax",
            sync_expires=False,
        )  # fmt: skip
        response.headers.add("Set-Cookie", cookie)
