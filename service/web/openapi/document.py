"""The document: addresses, operations, and the components that they share.

It is the same for every installation of a version: no setting shows in it, and no name of a machine.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.metadata import version
from inspect import getdoc
from typing import Any, Final

from msgspec import Struct

from service.web.cookies import NAME
from service.web.messages import ProblemAnswer
from service.web.openapi.responses import HEADERS, Said, responses
from service.web.openapi.schemas import Schemas, either, parameter
from service.web.operations import Shapes
from service.web.principals import Needs, Route

OPENAPI: Final = "3.1.1"
ABOUT: Final = """\
An authentication service that writes everything down.

`HEAD` is taken wherever `GET` is, and `OPTIONS` everywhere. An address that is not here answers 404 `no_such_route`, \
a method that is not here 405 `method_not_allowed` with `Allow`. Where there are too many connections, the answer is \
503 without a body. Times are ISO 8601 in UTC. Messages may gain fields: \
pass over those that you do not know."""
SCHEMES: Final = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "A session's token, `<session id>|<40 letters and digits>` (RFC 6750). `GET /verify` takes an"
        " access token as well.",
    },
    "cookie": {
        "type": "apiKey",
        "in": "cookie",
        "name": NAME,
        "description": "The session's cookie, encrypted, as a login set it; it counts where no `Authorization` is."
        " What is asked by a cookie and changes something must come from a page of the service itself. (In development"
        " the cookie has another name.)",
    },
    "basic": {
        "type": "http",
        "scheme": "basic",
        "description": "The name and secret of a client that may introspect tokens (RFC 7617); never a person's.",
    },
}
OF_SESSIONS: Final = ("bearer", "cookie")
"""The schemes by which a session is shown."""


class Document(Struct):
    """An OpenAPI document, version 3.1."""

    openapi: str
    info: dict[str, Any]
    servers: list[dict[str, Any]]
    tags: list[dict[str, Any]]
    paths: dict[str, dict[str, Any]]
    components: dict[str, Any]


def document(routes: Sequence[Route]) -> Document:
    """What the routes take and answer."""
    schemas = Schemas(shape for route in routes for shape in _shapes(route))
    refusals: dict[str, Any] = {}
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(template(route.path), {})[route.method.lower()] = _operation(route, schemas, refusals)
    return Document(
        openapi=OPENAPI,
        info={"title": "gatebook", "version": version("gatebook"), "description": ABOUT},
        servers=[{"url": "/"}],
        tags=[{"name": door} for door in dict.fromkeys(route.door for route in routes)],
        paths=paths,
        components={
            "schemas": schemas.components,
            "responses": refusals,
            "headers": HEADERS,
            "securitySchemes": SCHEMES,
        },
    )


def template(path: str) -> str:
    """The path as OpenAPI writes it: `/users/{id}`."""
    return re.sub(r"<(\w+)>", r"{\1}", path)


def operation_id(route: Route) -> str:
    """The operation's name in clients that are made of the document; it lasts as long as the address does."""
    return route.method.lower() + re.sub(r"[^a-z0-9]+", "_", template(route.path)).rstrip("_")


def summary_of(route: Route) -> tuple[str, str]:
    """The first line of the view's docstring, and the rest of it."""
    line, _, rest = (getdoc(route.view) or "").partition("\n")
    return line.rstrip("."), rest.strip()


def _operation(route: Route, schemas: Schemas, refusals: dict[str, Any]) -> dict[str, Any]:
    operation = route.operation
    summary, about = summary_of(route)
    told: dict[str, Any] = {"operationId": operation_id(route), "tags": [route.door], "summary": summary}
    if about:
        told["description"] = about
    told["security"] = _security(route)
    places = (("path", operation.parts), ("query", operation.query), ("header", operation.headers))
    parameters = [parameter(place, one) for place, known in places for one in known]
    if parameters:
        told["parameters"] = parameters
    if operation.body is not None:
        content = {media: {"schema": either(schemas.of(operation.body))} for media in operation.bodies}
        told["requestBody"] = {"required": not operation.optional, "content": content}
    told["responses"] = {
        str(status): _shared(route, status, said, refusals) if status not in operation.answers else said.told()
        for status, said in responses(route, schemas).items()
    }
    return told


def _security(route: Route) -> list[dict[str, list[str]]]:
    # RFC 6750 and the cookie alike say who somebody is; which level that must be stands where roles do.
    if route.operation.security is not None:
        return [{scheme: [*levels] for scheme, levels in one.items()} for one in route.operation.security]
    if route.needs is Needs.NOBODY:
        return []
    return [{scheme: [route.needs.name.lower()]} for scheme in OF_SESSIONS]


def _shared(route: Route, status: int, said: Said, refusals: dict[str, Any]) -> dict[str, Any]:
    """A reference to the refusals among the components, where equal ones of a contract stand once."""
    name = ".".join([route.operation.problem.__name__, str(status), *said.refusals])
    refusals.setdefault(name, said.told())
    return {"$ref": f"#/components/responses/{name}"}


def _shapes(route: Route) -> list[Shapes]:
    operation = route.operation
    return [operation.body, *operation.answers.values(), operation.problem, ProblemAnswer]
