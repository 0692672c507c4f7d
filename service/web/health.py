"""Health: whether the process lives, and whether it can do its work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from quart import Response

from service.web.answers import answer
from service.web.messages import Health
from service.web.principals import Asked, Needs, Route

DOOR: Final = "health"
UNREADY: Final = 503


def health_routes(readiness: Callable[[], list[str]]) -> list[Route]:
    """The addresses that a supervisor asks; they need nobody."""

    async def live(_: Asked) -> Response:
        """200 as long as requests are answered at all."""
        return answer(Health("live"))

    async def ready(_: Asked) -> Response:
        """200, or 503 with the reasons why requests had better go elsewhere."""
        reasons = tuple(readiness())
        return answer(Health("unready", reasons), UNREADY) if reasons else answer(Health("ready"))

    return [
        Route("GET", "/health/live", live, DOOR, Needs.NOBODY),
        Route("GET", "/health/ready", ready, DOOR, Needs.NOBODY),
    ]
