"""Answers that caches may keep: the same for everybody, and not sent again to whoever has them already."""

from __future__ import annotations

from hashlib import sha256
from typing import Final

from quart import Request, Response

from service.web.answers import answer_encoded, nothing
from service.web.queries import AnyText

__all__ = ["IF_NONE_MATCH", "NOT_MODIFIED", "Kept"]

NOT_MODIFIED: Final = 304
IF_NONE_MATCH: Final = AnyText(
    "If-None-Match",
    "The `ETag` of what is at hand already, or several (RFC 9110, 13.1.2); what is none is passed over.",
)


class Kept:
    """A body that may be kept as `cache_control` says, under a tag of its bytes."""

    def __init__(self, body: bytes, cache_control: str, media: str = "application/json") -> None:
        self._body = body
        self._cache_control = cache_control
        self._media = media
        self._tag = sha256(body).hexdigest()

    def answer(self, request: Request) -> Response:
        """The body, or 304 where the request says that it is known."""
        if request.if_none_match.contains_weak(self._tag):
            response = nothing()
            response.status_code = NOT_MODIFIED
        else:
            response = answer_encoded(self._body)
            response.headers["Content-Type"] = self._media
        response.headers["Cache-Control"] = self._cache_control
        response.set_etag(self._tag)
        return response
