"""Access tokens over HTTP: a session's holder gets them, services get the keys that they are verified with."""

from __future__ import annotations

from typing import Final, Literal

import msgspec
from msgspec import Struct
from quart import Response

from service.credentials.signing_keys import PublicJWK
from service.fields import AccessToken
from service.gate.access_tokens import AccessTokens
from service.web.answers import answer
from service.web.caching import IF_NONE_MATCH, NOT_MODIFIED, Kept
from service.web.operations import Operation
from service.web.principals import Asked, Needs, Route
from service.web.queries import Parameters

DOOR: Final = "access-tokens"
JWK_SET: Final = "application/jwk-set+json"
"""RFC 7517, 8.5.2."""
KEPT: Final = "public, max-age=60"
"""Less than the time that a key is told before it signs, and soon over where a key is replaced at once."""


class TokenAnswer(Struct, frozen=True):
    """The answer to `POST /api/token`, in the form of RFC 6749, section 5.1."""

    access_token: AccessToken
    token_type: Literal["Bearer"]
    expires_in: int

    def __repr__(self) -> str:
        return f"TokenAnswer(expires_in={self.expires_in})"


class JWKSet(Struct, frozen=True):
    """The public keys that access tokens are verified with (RFC 7517, section 5)."""

    keys: tuple[PublicJWK, ...]


TOKEN: Final = Operation(answers={200: TokenAnswer}, no_query=True)
KEYS: Final = Operation(
    answers={200: JWKSet, NOT_MODIFIED: None}, media=JWK_SET, headers=(IF_NONE_MATCH,), answer_headers=("ETag",)
)


def access_token_routes(tokens: AccessTokens) -> list[Route]:
    """The two addresses; the keys need nobody."""
    door = _Tokens(tokens)
    return [
        Route("POST", "/api/token", door.issue, DOOR, operation=TOKEN),
        Route("GET", "/.well-known/jwks.json", door.keys, DOOR, Needs.NOBODY, operation=KEYS),
    ]


class _Tokens:
    """The views."""

    def __init__(self, tokens: AccessTokens) -> None:
        self._tokens = tokens
        self._told: tuple[PublicJWK, ...] = ()
        self._kept = Kept(b"", KEPT, JWK_SET)

    async def issue(self, asked: Asked) -> Response:
        """Get an access token for my session.

        A JWT (RFC 9068) that services verify by themselves, good for a few minutes and no longer than the session. Here
        it is no session: it asks for nothing of this service but `/verify`.
        """
        Parameters(asked.request.args, ())
        issued = self._tokens.issue(asked.principal)
        return answer(TokenAnswer(issued.token, "Bearer", issued.expires_in))

    async def keys(self, asked: Asked) -> Response:
        """Tell the public keys of access tokens.

        The next key stands here before it signs, the last one until its tokens are over. Whoever meets a `kid` that is
        not here yet, asks again.
        """
        told = self._tokens.public_keys()
        if told != self._told:
            self._told, self._kept = told, Kept(msgspec.json.encode(JWKSet(told)), KEPT, JWK_SET)
        return self._kept.answer(asked.request)
