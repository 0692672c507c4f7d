"""The writes of the admin endpoint: accounts deactivated, reactivated, given another level, and sessions ended.

Each is a command like any other, with the admin as its actor: what was done stands in the book as itself.
"""

from __future__ import annotations

from typing import Final

from quart import Response

from projections.catalogue import USERS
from service import inspection
from service.audit import DOOR, Audit
from service.decisions.administration import Deactivate, Reactivate, RevokeSession, SetLevel
from service.decisions.command import Command
from service.errors import NotFound
from service.gate.lookups import Lookups
from service.web.admin.messages import Deactivation, LevelChange, Nothing, UserDocument
from service.web.answers import answer, nothing
from service.web.bodies import body_of, optional_body_of
from service.web.principals import Asked
from service.web.queries import Parameters, Whole
from service.writer import Writer

USER: Final = Whole("id", "The user's id.", least=1)
SESSION: Final = Whole("id", "The session's id, which is the number in its token.", least=1)


class Writes:
    """The views. Those about a user answer with the user as the looks show them."""

    def __init__(self, writer: Writer, lookups: Lookups, audit: Audit, body_bytes: int) -> None:
        self._writer = writer
        self._lookups = lookups
        self._audit = audit
        self._body_bytes = body_bytes

    async def deactivate(self, asked: Asked) -> Response:
        """Keep a user from logging in, and end all their sessions.

        409 where they are deactivated already, or are the last active admin.
        """
        user_id = _number(asked, USER)
        body = await optional_body_of(asked.request, Deactivation, self._body_bytes)
        return await self._changed(asked, user_id, Deactivate(user_id, body.reason))

    async def reactivate(self, asked: Asked) -> Response:
        """Let a user log in again.

        409 where they are active.
        """
        user_id = _number(asked, USER)
        await optional_body_of(asked.request, Nothing, self._body_bytes)
        return await self._changed(asked, user_id, Reactivate(user_id))

    async def set_level(self, asked: Asked) -> Response:
        """Make a user a plain user or an admin.

        The level that they have already changes nothing. 409 where no active admin would be left.
        """
        user_id = _number(asked, USER)
        body = await body_of(asked.request, LevelChange, self._body_bytes)
        return await self._changed(asked, user_id, SetLevel(user_id, body.level))

    async def end_session(self, asked: Asked) -> Response:
        """End a session, a user's or a guest's."""
        command = RevokeSession(_number(asked, SESSION))
        await optional_body_of(asked.request, Nothing, self._body_bytes)
        await self._writer.submit(command, actor=asked.principal.actor, door=DOOR)
        return nothing()

    async def _changed(self, asked: Asked, user_id: int, command: Command) -> Response:
        recorded = await self._writer.submit(command, actor=asked.principal.actor, door=DOOR)
        if not recorded:
            # Nothing was changed, so all that happens is that the account is shown: a look like any other.
            await self._audit.looked(asked.principal, f"projections/{USERS.name}/{user_id}")
        user = self._lookups.user(user_id)
        if user is None:
            raise NotFound
        shown = inspection.shown(user, self._lookups.keyring)
        return answer(UserDocument(USERS.name, str(user_id), shown))


def _number(asked: Asked, whose: Whole) -> int:
    """The id that the address names; the writes take no parameters."""
    Parameters(asked.request.args, ())
    number = whose.read(asked.part(whose.name))
    if number is None:
        raise NotFound
    return number
