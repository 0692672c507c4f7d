"""The address of the document, which is made and encoded once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
from quart import Response

from service.web.caching import IF_NONE_MATCH, NOT_MODIFIED, Kept
from service.web.openapi.document import Document, document
from service.web.operations import Operation
from service.web.principals import Asked, Needs, Route

DOOR: Final = "openapi"
REVALIDATED: Final = "no-cache"
"""Kept by whoever likes, asked about before each use (RFC 9111, 5.2.2.4): what is there is that of this version."""


def openapi_route(routes: Sequence[Route]) -> Route:
    """The address that tells of the routes, and of itself."""

    async def show(asked: Asked) -> Response:
        """Tell what there is here.

        This document: every address, what it takes and what it answers, in OpenAPI 3.1. It changes with the version of
        the service alone; with the `ETag` of an earlier answer in `If-None-Match` it is not sent again.
        """
        return kept.answer(asked.request)

    route = Route(
        "GET", "/openapi.json", show, DOOR, Needs.NOBODY,
        operation=Operation(
            answers={200: Document, NOT_MODIFIED: None}, headers=(IF_NONE_MATCH,), answer_headers=("ETag",)
        ),
    )  # fmt: skip
    kept = Kept(msgspec.json.encode(document([*routes, route])), REVALIDATED)
    return route
