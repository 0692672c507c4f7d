"""Access tokens: what is made is taken, by other implementations too, and nothing else ever is."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import msgspec
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import given
from hypothesis import strategies as st

from service.credentials.access_tokens import (
    CLIENT_ID,
    LONGEST,
    P256_ORDER,
    AccessClaims,
    NamedIn,
    _is_canonical,
    header_of,
    make,
    new_token_id,
    verify,
)
from service.credentials.signing_keys import signing_key
from tests.credentials.forging import Forger, b64, unb64

NOW = datetime(2026, 11, 21, 12, 0, 0, 250_000, tzinfo=UTC)
SECONDS = int(NOW.timestamp())
NAMED = NamedIn("https://auth.example.org", "https://api.example.org")
KEY, OTHER = signing_key(0, b"k" * 32), signing_key(7, b"o" * 32)
KEYS = {KEY.header: KEY.verifier}
CLAIMS: dict[str, Any] = {
    "iss": NAMED.issuer,
    "aud": NAMED.audience,
    "sub": "17",
    "client_id": CLIENT_ID,
    "sid": "42",
    "jti": "k2d1oJZyQm2v3rC0s5tB8w",
    "iat": SECONDS,
    "nbf": SECONDS,
    "exp": SECONDS + 300,
}
TOKEN = make(AccessClaims(**CLAIMS), KEY.kid, KEY.private)
FORGER = Forger(KEY, OTHER, CLAIMS, TOKEN)


def taken(token: str, now: datetime = NOW) -> AccessClaims | None:
    return verify(token, KEYS, NAMED, now)


def test_what_is_made_is_taken() -> None:
    assert taken(TOKEN) == AccessClaims(**CLAIMS)
    assert taken(FORGER.signed(FORGER.header, FORGER.payload)) == AccessClaims(**CLAIMS), (
        "the tests' own hand signs well"
    )


def test_a_token_is_one_of_rfc_9068() -> None:
    header, payload, _ = TOKEN.split(".")
    assert json.loads(unb64(header)) == {"alg": "ES256", "kid": KEY.kid, "typ": "at+jwt"}
    assert json.loads(unb64(payload)) == CLAIMS
    # Section 2.2: these are required; sid is that of OpenID Connect, nbf that of RFC 7519.
    assert {"iss", "exp", "aud", "sub", "client_id", "iat", "jti"} <= set(json.loads(unb64(payload)))


def test_a_token_is_verified_without_any_of_our_code_or_pyjwt() -> None:
    parts, _, signature = TOKEN.rpartition(".")
    x, y = (int.from_bytes(unb64(part)) for part in (KEY.public.x, KEY.public.y))
    public = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
    r, s = int.from_bytes(unb64(signature)[:32]), int.from_bytes(unb64(signature)[32:])
    public.verify(encode_dss_signature(r, s), parts.encode(), ec.ECDSA(SHA256()))
    with pytest.raises(InvalidSignature):
        public.verify(encode_dss_signature(r, s), parts.encode() + b"A", ec.ECDSA(SHA256()))


def test_a_service_verifies_a_token_with_pyjwt_and_the_public_key_as_it_is_told() -> None:
    key = jwt.PyJWK(msgspec.to_builtins(KEY.public))
    claims = jwt.decode(
        TOKEN, key, algorithms=["ES256"], issuer=NAMED.issuer, audience=NAMED.audience,
        options={"verify_exp": False, "verify_nbf": False, "verify_iat": False},
    )  # fmt: skip
    assert claims == CLAIMS


def test_the_longest_token_fits() -> None:
    wide = NamedIn("https://" + "i" * 247, "a" * 255)
    most = 10**18 - 1
    claims = CLAIMS | {"iss": wide.issuer, "aud": wide.audience, "sub": str(most), "sid": str(most)}
    token = make(AccessClaims(**claims | {"jti": new_token_id()}), KEY.kid, KEY.private)
    assert len(token) <= LONGEST
    assert verify(token, KEYS, wide, NOW) is not None


def test_every_signature_is_the_smaller_of_its_two() -> None:
    for number in range(50):
        token = make(AccessClaims(**CLAIMS | {"jti": f"{number}"}), KEY.kid, KEY.private)
        assert int.from_bytes(unb64(token.rpartition(".")[2])[32:]) <= P256_ORDER // 2
        assert taken(token) is not None


HEADERS = FORGER.headers()


@pytest.mark.parametrize("token", HEADERS.values(), ids=HEADERS)
def test_a_header_that_is_not_ours_is_refused(token: str) -> None:
    assert taken(token) is None


PAYLOADS = FORGER.payloads()


@pytest.mark.parametrize("token", PAYLOADS.values(), ids=PAYLOADS)
def test_a_claim_that_is_not_ours_is_refused_though_we_signed_it(token: str) -> None:
    assert len(token) <= LONGEST, "it would be refused for that"
    assert taken(token) is None


OTHERS = FORGER.others()


@pytest.mark.parametrize("token", OTHERS.values(), ids=OTHERS)
def test_what_is_no_token_of_ours_is_refused(token: str) -> None:
    assert taken(token) is None


def test_stray_bits_behind_the_last_byte_are_refused() -> None:
    """The same bytes, written otherwise. The library refuses them in its newer versions; this does not rely on it."""
    signature = TOKEN.rpartition(".")[2]
    assert _is_canonical("QQ", signature)
    assert not _is_canonical("QR", signature)
    assert not _is_canonical("A", signature)
    assert not _is_canonical("QQ", signature[:-1] + chr(ord(signature[-1]) + 1))
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    for last in alphabet:
        token = TOKEN[:-1] + last
        assert (taken(token) is not None) == (token == TOKEN)
    payload = FORGER.payload + " " * (-len(FORGER.payload) % 3 + 1)
    assert len(payload) % 3 == 1
    for last in "AQgw":
        text = b64(payload.encode())
        assert (taken(FORGER.sealed(f"{KEY.header}.{text[:-1]}{last}")) is not None) == (last == text[-1])
    for stray in "BRhx":
        assert taken(FORGER.sealed(f"{KEY.header}.{b64(payload.encode())[:-1]}{stray}")) is None


def test_a_token_holds_from_its_first_second_to_its_last() -> None:
    def at(seconds: float) -> bool:
        return taken(TOKEN, datetime.fromtimestamp(SECONDS, UTC) + timedelta(seconds=seconds)) is not None

    assert [at(moment) for moment in (-5.1, -5, 0, 299.9, 300)] == [False, True, True, True, False]


def test_no_key_at_all_is_no_token_at_all() -> None:
    assert verify(TOKEN, {}, NAMED, NOW) is None
    assert verify(TOKEN, {OTHER.header: OTHER.verifier}, NAMED, NOW) is None
    assert verify(TOKEN, {KEY.header: OTHER.verifier}, NAMED, NOW) is None
    both = KEYS | {OTHER.header: OTHER.verifier}
    assert verify(OTHERS["another key's token"], both, NAMED, NOW) is not None
    assert verify(OTHERS["another key's signature"], both, NAMED, NOW) is None


@given(st.integers(0, len(TOKEN) - 1), st.characters(codec="utf-8"))
def test_a_token_with_any_other_character_anywhere_is_refused(where: int, character: str) -> None:
    token = f"{TOKEN[:where]}{character}{TOKEN[where + 1 :]}"
    assert (taken(token) is not None) == (token == TOKEN)


@given(st.integers(0, len(TOKEN)), st.integers(0, len(TOKEN)), st.text(max_size=8))
def test_a_token_with_anything_taken_out_or_put_in_is_refused(start: int, end: int, put: str) -> None:
    token = f"{TOKEN[: min(start, end)]}{put}{TOKEN[max(start, end) :]}"
    assert (taken(token) is not None) == (token == TOKEN)


@given(st.integers(0, 2), st.data())
def test_a_token_with_any_bit_of_what_it_holds_flipped_is_refused(part: int, data: st.DataObject) -> None:
    parts = TOKEN.split(".")
    held = bytearray(unb64(parts[part]))
    bit = data.draw(st.integers(0, len(held) * 8 - 1))
    held[bit // 8] ^= 1 << bit % 8
    parts[part] = b64(bytes(held))
    assert taken(".".join(parts)) is None


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=4))
def test_any_claims_that_are_not_ours_are_refused_though_we_signed_them(value: Any) -> None:
    for name, ours in CLAIMS.items():
        if ours != value or type(ours) is not type(value):
            token = FORGER.signed(FORGER.header, json.dumps(CLAIMS | {name: value}))
            claims = taken(token)
            # Another name of the token, or of who holds it, is a claim like ours.
            assert claims is None or getattr(claims, name) == value
            assert claims is None or name in {"sub", "sid", "jti", "iat", "nbf", "exp"}


def test_names_of_tokens_do_not_repeat() -> None:
    assert len({new_token_id() for _ in range(1000)}) == 1000


def test_the_header_is_the_one_that_the_library_writes() -> None:
    assert TOKEN.split(".")[0] == header_of(KEY.kid) == KEY.header
