"""Answers: JSON, never kept by a cache, and refusals in their one shape."""

from __future__ import annotations

from typing import Final

import msgspec
from quart import Response
from werkzeug.datastructures import Headers

from service.errors import (
    HTTP_STATUS,
    InvalidFields,
    MethodNotAllowed,
    Overloaded,
    Refused,
    Throttled,
    Unauthenticated,
    Unavailable,
)
from service.guards.headers import NOT_KEPT
from service.web.messages import Problem, ProblemAnswer

CHALLENGE: Final = 'Bearer realm="gatebook"'
"""RFC 6750, section 3: an auth-param must follow the scheme."""
TOKEN_REFUSED: Final = f'{CHALLENGE}, error="invalid_token"'

HEADERS: Final = (("Content-Type", "application/json"), *NOT_KEPT)
_encoder: Final = msgspec.json.Encoder()


def answer(body: object, status: int = 200) -> Response:
    """The body as JSON; times in ISO 8601, UTC."""
    return answer_encoded(_encoder.encode(body), status)


def answer_encoded(body: bytes, status: int = 200) -> Response:
    """The same for a body that is JSON already."""
    return Response(body, status, Headers(HEADERS))


def nothing() -> Response:
    """204: it is done, and there is nothing to say."""
    return Response(b"", 204, Headers(HEADERS[1:]))


def refused(refusal: Refused, *, token_given: bool = False) -> Response:
    """The answer to a request that is not carried out; see HTTP_STATUS for the status of each refusal.

    `token_given` says that the request carried a token, which RFC 6750 wants told apart from one without.
    """
    status = HTTP_STATUS[type(refusal)]
    fields = refusal.errors if isinstance(refusal, InvalidFields) else ()
    wait = refusal.retry_after if isinstance(refusal, Throttled | Overloaded | Unavailable) else None
    response = answer(ProblemAnswer(Problem(refusal.code, refusal.message, fields, wait)), status)
    if wait is not None:
        response.headers["Retry-After"] = str(wait)
    if status == HTTP_STATUS[Unauthenticated]:
        refused_token = token_given and isinstance(refusal, Unauthenticated)
        response.headers["WWW-Authenticate"] = challenge(token_given=refused_token)
    return response


def challenge(*, token_given: bool) -> str:
    """What a 401 says it wants; RFC 6750 has a token that is no good told apart from none."""
    return TOKEN_REFUSED if token_given else CHALLENGE


def not_allowed(methods: list[str]) -> Response:
    """405 with the methods that the address takes (RFC 9110, 15.5.6)."""
    response = refused(MethodNotAllowed())
    response.headers["Allow"] = ", ".join(methods)
    return response


def options(methods: list[str]) -> Response:
    """The answer to OPTIONS: the methods."""
    response = nothing()
    response.headers["Allow"] = ", ".join(methods)
    return response
