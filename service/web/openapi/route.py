"""The address of the document, which is made and encoded once."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Final

import msgspec
from quart import Response

from service.web.answers import answer_encoded, nothing
from service.web.openapi.document import Document, document
from service.web.operations import Operation
from service.web.principals import Asked, Needs, Route
from service.web.queries import Text

DOOR: Final = "openapi"
REVALIDATED: Final = "no-cache"
"""Kept by whoever likes, asked about before each use (RFC 9111, 5.2.2.4): what is there is that of this version."""
_TAG: Final = '(?:W/)?"[^"]*"'
IF_NONE_MATCH: Final = Text(
    "If-None-Match",
    "The `ETag` of what is at hand already; one that is none is passed over.",
    rf"\*|{_TAG}(?: *, *{_TAG})*",
    "a list of tags (RFC 9110, 13.1.2)",
)
NOT_MODIFIED: Final = 304


def openapi_route(routes: Sequence[Route]) -> Route:
    """The address that tells of the routes, and of itself.

    Its answer is the same for everybody and holds nothing of anybody's, so that it may be kept, unlike all others; a
    tag of its bytes saves sending it again.
    """

    async def show(asked: Asked) -> Response:
        """Tell what there is here.

        This document: every address, what it takes and what it answers, in OpenAPI 3.1. It changes with the version of
        the service alone; with the `ETag` of an earlier answer in `If-None-Match` it is not sent again.
        """
        known = asked.request.if_none_match.contains_weak(tag)
        response = nothing() if known else answer_encoded(body)
        if known:
            response.status_code = NOT_MODIFIED
        response.headers["Cache-Control"] = REVALIDATED
        response.set_etag(tag)
        return response

    route = Route(
        "GET", "/openapi.json", show, DOOR, Needs.NOBODY,
        operation=Operation(
            answers={200: Document, NOT_MODIFIED: None}, headers=(IF_NONE_MATCH,), answer_headers=("ETag",)
        ),
    )  # fmt: skip
    body = msgspec.json.encode(document([*routes, route]))
    tag = sha256(body).hexdigest()
    return route
