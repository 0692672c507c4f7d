"""The account API: register, log in, who am I, log out, change the profile."""

from __future__ import annotations

from typing import Final

from msgspec import UNSET
from msgspec.structs import replace
from quart import Response

from events.catalogue import GUEST
from service.errors import BadCredentials, InvalidFields, RegistrationClosed, Throttled
from service.gate.gate import Gate
from service.gate.lookups import Guest, Holder
from service.readers import Readers
from service.web.answers import answer, nothing
from service.web.bodies import body_of
from service.web.cookies import SessionCookies
from service.web.messages import (
    HolderView,
    Login,
    Opened,
    ProfileChange,
    ProfileChanged,
    Registered,
    Registration,
    SessionView,
    WhoAmI,
)
from service.web.operations import Operation
from service.web.principals import Asked, Needs, Route
from service.web.sessions import session_routes

DOOR: Final = "account-api"
CREATED: Final = 201

REGISTER: Final = Operation(
    body=Registration, answers={CREATED: Registered}, refuses=(RegistrationClosed, InvalidFields, Throttled)
)
LOG_IN: Final = Operation(body=Login, answers={CREATED: Opened}, refuses=(BadCredentials, Throttled))
WHO_AM_I: Final = Operation(answers={200: WhoAmI})
LOG_OUT: Final = Operation(answers={204: None}, answer_headers=("Set-Cookie",))
CHANGE_PROFILE: Final = Operation(body=ProfileChange, answers={200: ProfileChanged}, refuses=(InvalidFields, Throttled))


def account_routes(gate: Gate, readers: Readers, cookies: SessionCookies, body_bytes: int) -> list[Route]:
    """The addresses of the account API; two of them need nobody."""
    account = Account(gate, cookies, body_bytes)
    return [
        Route("POST", "/api/register", account.register, DOOR, Needs.NOBODY, operation=REGISTER),
        Route("POST", "/api/session", account.log_in, DOOR, Needs.NOBODY, operation=LOG_IN),
        Route("GET", "/api/session", account.who_am_i, DOOR, Needs.GUEST, operation=WHO_AM_I),
        Route("DELETE", "/api/session", account.log_out, DOOR, operation=LOG_OUT),
        Route("POST", "/api/logout", account.log_out, DOOR, operation=LOG_OUT),
        Route("PATCH", "/api/profile", account.change_profile, DOOR, operation=CHANGE_PROFILE),
        *session_routes(gate, readers, account.log_out, DOOR),
    ]


class Account:
    """See the module."""

    def __init__(self, gate: Gate, cookies: SessionCookies, body_bytes: int) -> None:
        self._gate = gate
        self._cookies = cookies
        self._body_bytes = body_bytes

    async def register(self, asked: Asked) -> Response:
        """Register an account.

        Its level is 1. Nobody is logged in by it.
        """
        form = await body_of(asked.request, Registration, self._body_bytes)
        user_id = await self._gate.register(
            asked.client, username=form.username, nickname=form.nickname, password=form.password, email=form.email
        )
        return answer(Registered(user_id), CREATED)

    async def log_in(self, asked: Asked) -> Response:
        """Log in.

        The token is shown this once. What was wrong with a login that is refused is never told.
        """
        form = await body_of(asked.request, Login, self._body_bytes)
        client = replace(asked.client, device=None if form.device_key is UNSET else form.device_key)
        opened = await self._gate.log_in(client, form.identifier, form.password)
        view = self._gate.lookups.view(opened.principal.user)
        return answer(Opened(opened.token, view, opened.device), CREATED)

    async def who_am_i(self, asked: Asked) -> Response:
        """Tell who I am, and by which session."""
        holder = asked.shown.holder
        session = holder.session
        shown = SessionView(session.id, session.opened_at, session.expires_at, session.seen_at, session.door)
        return answer(WhoAmI(self._view(holder), shown))

    async def log_out(self, asked: Asked) -> Response:
        """Log out.

        The token is worth nothing any more. The cookie is taken back where it said who asks.
        """
        await self._gate.log_out(asked.client, asked.principal)
        response = nothing()
        # Where a token said so, nobody has looked at where the request comes from, and no cookie is touched.
        if asked.shown.by_cookie:
            self._cookies.clear(response)
        return response

    async def change_profile(self, asked: Asked) -> Response:
        """Change my names, address or password.

        What is absent stays as it is, and everything changes or nothing does. A new password takes the old one, and
        ends every other session of the account.
        """
        form = await body_of(asked.request, ProfileChange, self._body_bytes)
        view = await self._gate.change_profile(
            asked.client,
            asked.principal,
            nickname=form.nickname,
            email=form.email,
            old_password=None if form.old_password is UNSET else form.old_password,
            new_password=None if form.new_password is UNSET else form.new_password,
        )
        return answer(ProfileChanged(view))

    def _view(self, holder: Holder) -> HolderView:
        if isinstance(holder, Guest):
            session = holder.session
            return HolderView(session.id, None, None, None, GUEST, True, session.opened_at, session.seen_at)
        view = self._gate.lookups.view(holder.user)
        return HolderView(
            view.id, view.username, view.nickname, view.email, view.level, view.active, view.created_at,
            view.last_contact,
        )  # fmt: skip
