"""Health: whether the process lives, and whether it can do its work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from quart import Response

from service.web.answers import answer
from service.web.messages import Health
from service.web.operations import Operation
from service.web.principals import Asked, Needs, Route

DOOR: Final = "health"
UNREADY: Final = 503

LIVE: Final = Operation(answers={200: Health})
READY: Final = Operation(answers={200: Health, UNREADY: Health})


def health_routes(readiness: Callable[[], list[str]]) -> list[Route]:
    """The addresses that a supervisor asks; they need nobody."""

    async def live(_: Asked) -> Response:
        """Tell whether the process answers at all."""
        return answer(Health("live"))

    async def ready(_: Asked) -> Response:
        """Tell whether the service can do its work, and if not, why."""
        reasons = tuple(readiness())
        return answer(Health("unready", reasons), UNREADY) if reasons else answer(Health("ready"))

    return [
        Route("GET", "/health/live", live, DOOR, Needs.NOBODY, operation=LIVE),
        Route("GET", "/health/ready", ready, DOOR, Needs.NOBODY, operation=READY),
    ]
