"""Access tokens of sessions: issued to whoever holds one, and good only as long as it is open.

Issuing one is no event. All that it says follows from the session, nothing comes of it here, and whoever holds the
session may ask again each minute: the book says what happened, and would be flooded with what did not.
"""

from __future__ import annotations

from datetime import timedelta

from msgspec import Struct

from service.batch import Clock, utc_now
from service.credentials.access_tokens import (
    CLIENT_ID,
    LONGEST_LIFETIME,
    AccessClaims,
    NamedIn,
    make,
    new_token_id,
    verify,
)
from service.credentials.signing_keys import PublicJWK, SigningKeys
from service.errors import Unauthenticated
from service.gate.lookups import Lookups, Principal


class Issued(Struct, frozen=True):
    """A new access token, and for how many seconds it is good."""

    token: str
    expires_in: int

    def __repr__(self) -> str:
        return f"Issued(expires_in={self.expires_in})"


class Shown(Struct, frozen=True):
    """Who shows an access token, and what it says."""

    principal: Principal
    claims: AccessClaims


class AccessTokens:
    """See the module. Every method may raise Unavailable (the store cannot say) and InternalError (a broken key)."""

    def __init__(
        self,
        keys: SigningKeys,
        lookups: Lookups,
        named: NamedIn,
        *,
        lifetime: timedelta = LONGEST_LIFETIME,
        clock: Clock = utc_now,
    ) -> None:
        self._keys = keys
        self._lookups = lookups
        self._lifetime = min(lifetime, LONGEST_LIFETIME)
        self._clock = clock
        self.named = named

    def issue(self, principal: Principal) -> Issued:
        """A token for the session, which it does not outlive.

        Unauthenticated where the session is over, or is within the second.
        """
        # As it is now: it may have been seen, and thereby go on for longer, since the request was taken in.
        session = self._lookups.renewed(principal).session
        now = self._clock()
        begins, ends = int(now.timestamp()), int(min(now + self._lifetime, self._lookups.over_at(session)).timestamp())
        if ends <= begins:
            raise Unauthenticated
        claims = AccessClaims(
            iss=self.named.issuer,
            aud=self.named.audience,
            sub=str(session.user_id),
            client_id=CLIENT_ID,
            sid=str(session.id),
            jti=new_token_id(),
            iat=begins,
            nbf=begins,
            exp=ends,
        )
        key = self._keys.signing()
        return Issued(make(claims, key.kid, key.private), ends - begins)

    def shown(self, token: str) -> Shown:
        """Who shows the token. Unauthenticated when it is none of ours or over, or its session is."""
        claims = verify(token, self._keys.verifying(), self.named, self._clock())
        if claims is None:
            raise Unauthenticated
        principal = self._lookups.principal_of(int(claims.sid))
        if principal.user.id != int(claims.sub):
            raise Unauthenticated
        return Shown(principal, claims)

    def public_keys(self) -> tuple[PublicJWK, ...]:
        """The keys that services verify with, the oldest first."""
        return tuple(key.public for key in self._keys.published())
