"""Signing keys: which one signs access tokens, which are told to the public, and which are over.

The book says when keys follow one another, the key store holds them. A key has a number: the position of the
`key.rotated` that asked for it, 0 for the first of all. Only the newest is ever made, by whoever needs it first; so a
rotation that a crash cut short after its event is finished by the next look, and all processes on a store agree.

A key is told to the public for a while before it signs, so that whoever remembers our keys has it by then, and until
the last token is over that the key before it signed, by anybody's clock. Then it is destroyed.
"""

from __future__ import annotations

import json
from collections.abc import Hashable
from datetime import datetime
from hashlib import sha256
from typing import Final, Literal

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from msgspec import Struct

from events.catalogue import KeyPurpose, KeyRotated, wire_name
from events.errors import BookError, SealError, StoreError
from events.keys import Keyring
from events.log import EventLog, Query, pages
from service.batch import FATAL, Clock, utc_now
from service.credentials.access_tokens import ALGORITHM, P256_ORDER, base64url, header_of
from service.credentials.key_terms import Rotation, Term, terms_of
from service.errors import InternalError, Unavailable

PURPOSE: Final[KeyPurpose] = "access_tokens"
_PREFIX: Final = "access-tokens-"
_BYTES: Final = 32


class PublicJWK(Struct, frozen=True, kw_only=True):
    """A public key (RFC 7517), on the curve P-256 (RFC 7518, 6.2); `kid` is its thumbprint (RFC 7638)."""

    kty: Literal["EC"] = "EC"
    use: Literal["sig"] = "sig"
    alg: Literal["ES256"] = ALGORITHM
    kid: str
    crv: Literal["P-256"] = "P-256"
    x: str
    y: str


class SigningKey(Struct, frozen=True):
    """A key pair. Its repr shows no more than what everybody may know."""

    number: int
    private: ec.EllipticCurvePrivateKey
    verifier: ec.EllipticCurvePublicKey
    public: PublicJWK
    header: str

    @property
    def kid(self) -> str:
        """The key's name."""
        return self.public.kid

    def __repr__(self) -> str:
        return f"SigningKey(number={self.number}, kid={self.kid!r})"

    def __rich_repr__(self) -> list[tuple[str, object]]:
        return [("number", self.number), ("kid", self.kid)]


def signing_key(number: int, secret: bytes) -> SigningKey:
    """The key pair that comes of the 32 random bytes which the key store holds, always the same.

    48 bytes are drawn from them before they are reduced, so that no key is likelier than another (FIPS 186-5, A.2.1).
    """
    drawn = HKDF(SHA256(), 48, None, b"gatebook access tokens ES256").derive(secret)
    private = ec.derive_private_key(int.from_bytes(drawn) % (P256_ORDER - 1) + 1, ec.SECP256R1())
    verifier = private.public_key()
    point = verifier.public_numbers()
    x, y = _coordinate(point.x), _coordinate(point.y)
    members = json.dumps({"crv": "P-256", "kty": "EC", "x": x, "y": y}, separators=(",", ":"))
    kid = base64url(sha256(members.encode()).digest())
    return SigningKey(number, private, verifier, PublicJWK(kid=kid, x=x, y=y), header_of(kid))


class SigningKeys:
    """The keys at hand. Used by one thread, as its book is.

    The book is asked each time whether anybody has written, which costs microseconds; so a rotation by any process is
    known to all at their next look. Methods raise Unavailable when the store cannot say, InternalError for a key that
    does not open.
    """

    def __init__(self, log: EventLog, keyring: Keyring, clock: Clock = utc_now) -> None:
        self._log = log
        self._keyring = keyring
        self._clock = clock
        self._state: Hashable = None
        self._rotations: list[Rotation] = []
        self._terms = terms_of(())
        self._keys: dict[int, SigningKey] = {}
        self._trouble: BookError | None = None

    def signing(self) -> SigningKey:
        """The key that signs now, made where there is none: of those whose time has come the newest.

        One that was never made before yet another was asked for is passed over: nobody has been told of it.
        """
        now = self._clock()
        due = [term for term in self.terms(now) if term.signs_from <= now]
        found = self._keys.get(due[-1].number) if due else None
        return found or self._newest()

    def published(self) -> tuple[SigningKey, ...]:
        """The keys that the public is told, the oldest first: that which signs, those before it, and the next."""
        terms = self.terms(self._clock())
        try:
            self._newest()
        except Unavailable:
            # No room for the next key is no reason to hide those that sign.
            if not any(term.number in self._keys for term in terms):
                raise
        return tuple(self._keys[term.number] for term in terms if term.number in self._keys)

    def verifying(self) -> dict[str, ec.EllipticCurvePublicKey]:
        """The public keys of tokens that may hold, each under the header of its tokens; none is made for this."""
        known = [self._keys.get(term.number) for term in self.terms(self._clock())]
        return {key.header: key.verifier for key in known if key is not None}

    def terms(self, now: datetime) -> list[Term]:
        """The terms that are not over, the newest last, with their keys brought to hand where there are any."""
        try:
            self._look(now)
        except StoreError as error:
            raise Unavailable(str(error)) from error
        except BookError as error:
            raise InternalError from error
        return [term for term in self._terms if not term.is_over(now)]

    def key(self, number: int) -> SigningKey | None:
        """The key of that number, None where nobody has made it yet, or it is over."""
        return self._keys.get(number)

    def tend(self, now: datetime) -> int:
        """Destroys the keys that are over; says how many.

        Raises BookError; DurabilityError or CorruptStoreError also when it was a request that met it.
        """
        if self._trouble is not None:
            raise self._trouble
        self._look(now)
        newest, kept = self._terms[-1].number, {term.number for term in self._terms if not term.is_over(now)}
        numbers = {int(name.removeprefix(_PREFIX)) for name in self._keyring.service_key_names(_PREFIX)}
        # What is newer than the newest that is known here, another process has made just now.
        spent = {number for number in numbers if number < newest} - kept
        for number in self._keys.keys() - kept:
            del self._keys[number]
        for number in sorted(spent):
            self._keyring.destroy_service_key(f"{_PREFIX}{number}")
        return len(spent)

    def _look(self, now: datetime) -> None:
        state = self._log.state()
        if state != self._state:
            after = self._rotations[-1].position if self._rotations else 0
            fresh = [
                Rotation(one.position, one.at, one.event.at_once)
                for page in pages(self._log, Query(after=after, type=wire_name(KeyRotated)))
                for one in page
                if isinstance(one.event, KeyRotated) and one.event.purpose == PURPOSE
            ]
            if fresh:
                self._rotations += fresh
                # What is over stays over; whoever looks does not walk through all that there ever were.
                self._terms = [term for term in terms_of(self._rotations) if not term.is_over(now)]
            self._state = state
        if self._terms[-1].number not in self._keys:
            self._load()

    def _load(self) -> None:
        numbers = {term.number for term in self._terms}
        for name, secret in self._keyring.service_keys(_PREFIX).items():
            number = int(name.removeprefix(_PREFIX))
            if number in numbers and number not in self._keys:
                self._keys[number] = signing_key(number, secret)

    def _newest(self) -> SigningKey:
        number = self._terms[-1].number
        found = self._keys.get(number)
        if found is None:
            found = self._keys[number] = signing_key(number, self._made(number))
        return found

    def _made(self, number: int) -> bytes:
        if self._trouble is not None:
            raise Unavailable(str(self._trouble))
        try:
            return self._keyring.service_key(f"{_PREFIX}{number}", self._clock())
        except StoreError as error:
            self._trouble = error if isinstance(error, FATAL) else None
            raise Unavailable(str(error)) from error
        except SealError as error:
            raise InternalError from error


def _coordinate(number: int) -> str:
    # RFC 7518, 6.2.1.2: as many bytes as the field has, leading zeros included.
    return base64url(number.to_bytes(_BYTES))
