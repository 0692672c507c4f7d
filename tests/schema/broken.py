"""`gatebook`, but for a service that breaks its word: run as a script, in its place."""

import json
from typing import Any, Final

from quart import Request, Response

from service.cli import main
from service.web.app import Doors

OTHER_ANSWERS: Final[dict[str, tuple[int, Any]]] = {
    "GET /health/live 200": (500, {"error": {"code": "internal_error", "message": "It is broken."}}),
    "GET /health/ready 200": (200, {"status": "ready", "surprise": 1}),
    "PATCH /health/ready 405": (200, {}),
    "POST /api/register 400": (201, {"id": 1}),
    "POST /api/logout 204": (400, {"error": {"code": "malformed", "message": "It is broken."}}),
    "GET /admin/api/projections 403": (200, {"projections": []}),
}
OTHER_HEADERS: Final = {
    "OPTIONS /health/ready 204": {"Allow": "GET, PUT"},
    "GET /.well-known/jwks.json 200": {"Content-Type": "text/plain"},
    "GET /verify 204": {"X-User-Level": "7"},
}
OTHER_STATUS: Final = {"POST /api/token 200": 202, "GET /verify 401": 204}

_dispatched = Doors._dispatched


async def _broken(self: Doors, request: Request) -> Response:
    response = await _dispatched(self, request)
    asked = f"{request.method} {request.path} {response.status_code}"
    if asked == "GET /api/sessions 200":
        # Each of them loses all its fields but one.
        told = json.loads(await response.get_data(as_text=False))
        return _answer(200, {"sessions": [{"id": one["id"]} for one in told["sessions"]]})
    if asked in OTHER_ANSWERS:
        return _answer(*OTHER_ANSWERS[asked])
    response.headers.update(OTHER_HEADERS.get(asked, {}))
    response.status_code = OTHER_STATUS.get(asked, response.status_code)
    return response


def _answer(status: int, body: Any) -> Response:
    return Response(json.dumps(body), status, content_type="application/json")


if __name__ == "__main__":
    Doors._dispatched = _broken  # type: ignore[method-assign]  # this is what it is for
    main()
