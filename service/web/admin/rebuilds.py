"""Rebuilds over the admin endpoint: asked for, and looked at while they go."""

from __future__ import annotations

from typing import Final

from quart import Response

from projections.projection import AnyProjection
from service.audit import Audit
from service.errors import NotFound
from service.rebuilds import Rebuilds
from service.web.admin.messages import Nothing
from service.web.answers import answer
from service.web.bodies import optional_body_of
from service.web.principals import Asked
from service.web.queries import Parameters

ACCEPTED: Final = 202


class RebuildViews:
    """The views. Both answer with how the rebuild goes."""

    def __init__(
        self, rebuilds: Rebuilds, audit: Audit, projections: tuple[AnyProjection, ...], body_bytes: int
    ) -> None:
        self._rebuilds = rebuilds
        self._audit = audit
        self._names = frozenset(projection.name for projection in projections)
        self._body_bytes = body_bytes

    async def ask(self, asked: Asked) -> Response:
        """Rebuild a read model from the book.

        It is built beside the live one, in a process of its own, and put in its place when it is done. 409 while a
        rebuild is under way.
        """
        name = self._name(asked)
        await optional_body_of(asked.request, Nothing, self._body_bytes)
        return answer(await self._rebuilds.ask(name, asked.principal.actor), ACCEPTED)

    async def look(self, asked: Asked) -> Response:
        """Look how the last rebuild of a read model goes, or went.

        404 where none was asked for since the service was started.
        """
        name = self._name(asked)
        await self._audit.looked(asked.principal, f"projections/{name}/rebuild")
        state = self._rebuilds.state(name)
        if state is None:
            raise NotFound("No rebuild of that projection was asked for since the service was started.")
        return answer(state)

    def _name(self, asked: Asked) -> str:
        Parameters(asked.request.args, ())
        name = asked.part("name")
        if name not in self._names:
            raise NotFound("There is no projection of that name.")
        return name
