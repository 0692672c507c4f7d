"""Access tokens: JWTs of a few minutes that services verify by themselves (RFC 9068), made and verified.

Ours are verified more strictly than PyJWT does it. Of a token's header nothing is read: it is one of those that we
write, byte for byte, or the token is none of ours. So there is no other algorithm or type to be talked into, no key to
be named by an address, no path to be walked and nothing said twice. What it claims is read behind the signature alone.
"""

from __future__ import annotations

import base64
import json
import re
import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Annotated, Any, Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey
from jwt import PyJWS
from jwt.exceptions import InvalidTokenError
from msgspec import Meta, Struct

__all__ = [
    "ALGORITHM",
    "CLIENT_ID",
    "LONGEST",
    "LONGEST_LIFETIME",
    "P256_ORDER",
    "TYPE",
    "AccessClaims",
    "NamedIn",
    "base64url",
    "header_of",
    "make",
    "new_token_id",
    "verify",
]

ALGORITHM: Final = "ES256"
"""ECDSA over P-256 with SHA-256 (RFC 7518, 3.4); docs/decisions says why this one."""
TYPE: Final = "at+jwt"
CLIENT_ID: Final = "gatebook"
"""RFC 9068 asks for a client; there are no others here than whoever holds a session."""
LONGEST: Final = 2_048
"""Characters of a token; the longest of ours, with settings as long as they may be, has fewer."""
LONGEST_LIFETIME: Final = timedelta(minutes=5)
CLOCKS_DIFFER: Final = timedelta(seconds=5)
"""How far the clock of another process may be ahead that made a token; no token is good for longer by it."""

_PARTS: Final = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]{86})", re.ASCII)
_HALF_OF_BYTES: Final = 32
P256_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""Of the group of P-256 (FIPS 186-5, SP 800-186)."""
_jws: Final = PyJWS(algorithms=[ALGORITHM])

_Number = Annotated[str, Meta(pattern=r"\A[1-9][0-9]{0,17}\Z")]


class AccessClaims(Struct, frozen=True, forbid_unknown_fields=True):
    """What an access token says, names as in RFC 7519 and RFC 9068; times in whole seconds since 1970.

    `sub` is the account's id, `sid` the session's, both in digits; `jti` names this one token.
    """

    iss: str
    aud: str
    sub: _Number
    client_id: str
    sid: _Number
    jti: str
    iat: int
    nbf: int
    exp: int


class NamedIn(Struct, frozen=True):
    """Whom a token has to name: who made it, and whom it is for."""

    issuer: str
    audience: str


_decoder: Final = msgspec.json.Decoder(AccessClaims)


def new_token_id() -> str:
    """A name for one token: 128 bits of chance in base64url."""
    return secrets.token_urlsafe(16)


def header_of(kid: str) -> str:
    """The first part of every token that the key of that name signs."""
    return base64url(json.dumps(_header(kid), separators=(",", ":"), sort_keys=True).encode())


def make(claims: AccessClaims, kid: str, key: EllipticCurvePrivateKey) -> str:
    """The token that says so, signed."""
    token = _jws.encode(msgspec.json.encode(claims), key, algorithm=ALGORITHM, headers=_header(kid))
    signed, _, signature = token.rpartition(".")
    # With each signature (r, s) another one verifies, (r, -s). We write, and take, the one with the smaller s.
    return f"{signed}.{base64url(_smaller(_read(signature)))}"


def verify(
    token: str, keys: Mapping[str, EllipticCurvePublicKey], named: NamedIn, now: datetime
) -> AccessClaims | None:
    """What the token says, None where it is not one that we made and that holds at that moment.

    `keys` are the public keys, each under the header of its tokens (`header_of`). Whether the session behind it still
    is open is not known here.
    """
    if len(token) > LONGEST:
        return None
    parts = _PARTS.fullmatch(token)
    key = None if parts is None else keys.get(parts[1])
    if parts is None or key is None or not _is_canonical(parts[2], parts[3]):
        return None
    try:
        return _holding(_decoded(_jws.decode(token, key, algorithms=[ALGORITHM])), named, now)
    except (InvalidTokenError, msgspec.MsgspecError, ValueError, RecursionError):
        return None


def _header(kid: str) -> dict[str, Any]:
    return {"alg": ALGORITHM, "kid": kid, "typ": TYPE}


def _is_canonical(payload: str, signature: str) -> bool:
    """Whether both are written as we write them: no stray bits, and of two signatures the one that we make."""
    signed = _read(signature)
    return base64url(_read(payload)) == payload and base64url(signed) == signature and _smaller(signed) == signed


def _smaller(signature: bytes) -> bytes:
    s = int.from_bytes(signature[_HALF_OF_BYTES:])
    return signature[:_HALF_OF_BYTES] + min(s, (P256_ORDER - s) % P256_ORDER).to_bytes(_HALF_OF_BYTES)


def _decoded(payload: bytes) -> AccessClaims:
    json.loads(payload, object_pairs_hook=_each_once)
    return _decoder.decode(payload)


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({name for name, _ in pairs}) != len(pairs):
        raise ValueError("a claim is made twice")
    return dict(pairs)


def _holding(claims: AccessClaims, named: NamedIn, now: datetime) -> AccessClaims | None:
    seconds = now.timestamp()
    holds = (
        (claims.iss, claims.aud, claims.client_id) == (named.issuer, named.audience, CLIENT_ID)
        and claims.jti != ""
        and claims.iat <= claims.nbf < claims.exp <= claims.iat + LONGEST_LIFETIME.total_seconds()
        and claims.nbf <= seconds + CLOCKS_DIFFER.total_seconds()
        and seconds < claims.exp
    )
    return claims if holds else None


def base64url(data: bytes) -> str:
    """The bytes as JOSE writes them (RFC 7515, section 2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _read(text: str) -> bytes:
    """The bytes of base64url; those of a text that no bytes are written as are none at all."""
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        return b""
