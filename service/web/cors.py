"""CORS (WHATWG Fetch, 3.3): pages of the origins that are trusted may read what we answer, and nobody else's may.

Without the setting no answer says anything of it, and browsers keep all of them from other origins' scripts. Origins
are compared as they stand, letter by letter; there is no wildcard, and `null` is nobody's (ASVS 5.0: 3.4.2; CWE-942).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from quart import Request, Response

TAKEN: Final = "Authorization, Content-Type, If-None-Match, Last-Event-ID"
"""Request headers that some address looks at and that need leave."""
SHOWN: Final = "ETag, Retry-After, WWW-Authenticate"
"""Headers of answers that scripts may need and would not see."""
SECONDS: Final = 600
"""How long a browser may remember the leave that it was given."""


class CORS:
    """What answers say to pages of other origins. `trusted` are origins, exactly as browsers write them."""

    def __init__(self, trusted: Collection[str] = ()) -> None:
        self._trusted = frozenset(trusted)

    def opened(self, request: Request, response: Response) -> Response:
        """The answer, which a trusted origin's page may read."""
        if not self._trusted:
            return response
        # Also where nothing is allowed: a cache must not hand the one answer to the other origin.
        response.vary.add("Origin")
        origins = request.headers.getlist("Origin")
        if len(origins) == 1 and origins[0] in self._trusted:
            response.headers["Access-Control-Allow-Origin"] = origins[0]
            response.headers["Access-Control-Allow-Credentials"] = "true"
            if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
                self._give_leave(response)
            else:
                response.headers["Access-Control-Expose-Headers"] = SHOWN
        return response

    def _give_leave(self, response: Response) -> None:
        """Answers a preflight, which asks whether a request may be made: what the address takes, it may be asked."""
        methods: Sequence[str] = sorted(response.allow)
        if methods:
            response.headers["Access-Control-Allow-Methods"] = ", ".join(methods)
            response.headers["Access-Control-Allow-Headers"] = TAKEN
            response.headers["Access-Control-Max-Age"] = str(SECONDS)
