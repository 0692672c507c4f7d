"""Responses: what a route answers by status, its refusals asked of the contract's own way to refuse."""

from __future__ import annotations

from collections.abc import Iterator
from http import HTTPStatus
from inspect import cleandoc
from typing import Any, Final

import msgspec
from msgspec import Struct
from quart import Response
from quart.wrappers.response import DataBody

from service.errors import (
    CrossSite,
    FieldError,
    Forbidden,
    InternalError,
    InvalidFields,
    Malformed,
    NotFound,
    Overloaded,
    Refused,
    Throttled,
    TooLarge,
    Unauthenticated,
    Unavailable,
    UnsupportedMedia,
)
from service.guards.http1 import BEFORE_ANY_ROUTE, BEFORE_ANY_TARGET
from service.web.messages import ProblemAnswer
from service.web.openapi.schemas import Schemas, either, messages_of
from service.web.operations import JSON_TYPE
from service.web.principals import SAFE, Needs, Route

HEADERS: Final[dict[str, dict[str, Any]]] = {
    "Allow": {"description": "The methods that the address takes.", "schema": {"type": "string"}},
    "ETag": {"description": "Stands for the bytes of the answer.", "schema": {"type": "string"}},
    "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}},
    "Set-Cookie": {
        "description": "The session's cookie, set or removed; a second one that a login sets is the device's.",
        "schema": {"type": "string"},
    },
    "WWW-Authenticate": {"description": "What to show: RFC 6750, section 3.", "schema": {"type": "string"}},
    "X-Session-Id": {"description": "The session's id.", "schema": {"type": "string", "pattern": "^[0-9]+$"}},
    "X-User-Id": {"description": "The account's id.", "schema": {"type": "string", "pattern": "^[0-9]+$"}},
    "X-User-Level": {"description": "1 for a user, 2 for an admin.", "schema": {"type": "string", "enum": ["1", "2"]}},
    "X-User-Name": {
        "description": "The username in UTF-8, percent-encoded (RFC 3986, section 2).",
        "schema": {"type": "string", "pattern": "^(?:[A-Za-z0-9_.~-]|%[0-9A-F]{2})+$"},
    },
}
"""The headers that say more than every answer's do."""

LISTENER: Final = "listener"
"""Who refuses what the application never hears of."""

ALWAYS: Final = (InternalError, Overloaded, Unavailable)
WITH_A_BODY: Final = (Malformed, TooLarge, UnsupportedMedia)


class Said(Struct):
    """What is said under one status: lines, messages by media type, headers, and examples of refusals by their code.

    `refusals` names what is refused under it, so that equal ones can be told once.
    """

    lines: list[str] = []
    bodies: dict[str, list[dict[str, Any]]] = {}
    headers: dict[str, None] = {}
    examples: dict[str, Any] = {}
    refusals: dict[str, None] = {}

    def body(self, media: str, schemas: list[dict[str, Any]]) -> None:
        """Adds messages of a media type, each once."""
        there = self.bodies.setdefault(media, [])
        there += [schema for schema in schemas if schema not in there]

    def refusal(self, name: str, code: str, sentence: str, example: object) -> None:
        """Adds a refusal; the first of its code is the example."""
        self.refusals[name] = None
        self.lines.append(f"- `{code}`: {sentence}")
        self.examples.setdefault(code, {"value": example})

    def told(self) -> dict[str, Any]:
        """The response object."""
        response: dict[str, Any] = {"description": "\n".join(self.lines)}
        if self.headers:
            response["headers"] = {name: {"$ref": f"#/components/headers/{name}"} for name in self.headers}
        if self.bodies:
            response["content"] = {media: {"schema": either(schemas)} for media, schemas in self.bodies.items()}
        if self.examples:
            response["content"][JSON_TYPE]["examples"] = self.examples
        return response


def refusals_of(route: Route) -> Iterator[Refused]:
    """One of each refusal that the route gives: its own, and what every route of its kind gives."""
    operation = route.operation
    kinds = [*operation.refuses]
    if route.needs is not Needs.NOBODY:
        kinds += [Unauthenticated, *((Forbidden,) if route.needs > Needs.USER else ())]
    if route.sets_cookie or (route.needs is not Needs.NOBODY and route.method not in SAFE):
        kinds.append(CrossSite)
    if operation.body is not None:
        kinds += WITH_A_BODY
    if operation.query or operation.no_query:
        kinds.append(Malformed)
    if operation.parts:
        kinds.append(NotFound)
    return map(_one, dict.fromkeys([*kinds, *ALWAYS]))


def responses(route: Route, schemas: Schemas) -> dict[int, Said]:
    """What the route answers, by status."""
    operation = route.operation
    found: dict[int, Said] = {}
    for status, shape in operation.answers.items():
        said = found[status] = Said([_about(status, shape)], headers=dict.fromkeys(operation.answer_headers))
        if shape is not None:
            said.body(operation.media, schemas.of(shape))
        if route.sets_cookie:
            said.headers["Set-Cookie"] = None
    problem = schemas.of(operation.problem)
    for refusal in refusals_of(route):
        response = route.refused(refusal)
        said = found.setdefault(response.status_code, Said())
        said.refusal(type(refusal).__name__, refusal.code, first_sentence(type(refusal).__doc__), _body(response))
        said.body(JSON_TYPE, problem)
        said.headers |= {name: None for name in HEADERS if name in response.headers}
    for early in BEFORE_ANY_ROUTE:
        said = found.setdefault(early.status, Said())
        said.refusal(LISTENER, early.word, early.message, msgspec.json.decode(route.unheard(early)))
        said.body(JSON_TYPE, problem)
        if early in BEFORE_ANY_TARGET:
            said.body(JSON_TYPE, schemas.of(ProblemAnswer))
    return dict(sorted(found.items()))


def first_sentence(text: str | None) -> str:
    """The first sentence of a docstring, in one line."""
    line = " ".join(cleandoc(text or "").partition("\n\n")[0].split())
    return line.partition(". ")[0].rstrip(".") + "."


def _about(status: int, shape: Any) -> str:  # noqa: ANN401 - of any shape
    told = {first_sentence(message.__doc__): None for message in messages_of(shape) if issubclass(message, Struct)}
    return " Or: ".join(told) or f"{HTTPStatus(status).phrase}."


def _one(kind: type[Refused]) -> Refused:
    """A refusal of that kind, as an example."""
    if issubclass(kind, Throttled):
        return kind(60)
    if issubclass(kind, InvalidFields):
        return kind(FieldError("password", "A password has at least 8 characters."))
    if issubclass(kind, Overloaded | Unavailable):
        return kind("")
    return kind()


def _body(response: Response) -> object:
    made = response.response
    assert isinstance(made, DataBody)  # noqa: S101 - a refusal is made of bytes that are at hand
    return msgspec.json.decode(made.data)
