"""Access tokens: what is made is taken, by other implementations too, and nothing else ever is."""

from __future__ import annotations

import base64
import hmac
import json
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import jwt
import msgspec
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
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
from service.credentials.signing_keys import SigningKey, signing_key

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


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def signed(header: str | bytes, payload: str | bytes, key: SigningKey = KEY) -> str:
    """A token of ours but for what it says, signed by an independent hand, with the signature that we would take."""
    parts = f"{b64(header if isinstance(header, bytes) else header.encode())}."
    return sealed(parts + b64(payload if isinstance(payload, bytes) else payload.encode()), key)


def sealed(parts: str, key: SigningKey = KEY) -> str:
    made = jwt.algorithms.ECAlgorithm(jwt.algorithms.ECAlgorithm.SHA256).sign(parts.encode(), key.private)
    r, s = int.from_bytes(made[:32]), int.from_bytes(made[32:])
    return f"{parts}.{b64(r.to_bytes(32) + min(s, P256_ORDER - s).to_bytes(32))}"


HEADER = unb64(KEY.header).decode()


def claiming(**changes: Any) -> str:
    """A token signed by our key that claims something else; None takes a claim away."""
    return signed(HEADER, json.dumps({name: value for name, value in (CLAIMS | changes).items() if value is not None}))


def headed(**changes: Any) -> str:
    """A token signed by our key under another header."""
    header = json.loads(HEADER) | changes
    return signed(json.dumps({name: value for name, value in header.items() if value is not None}), json.dumps(CLAIMS))


def taken(token: str, now: datetime = NOW) -> AccessClaims | None:
    return verify(token, KEYS, NAMED, now)


def test_what_is_made_is_taken() -> None:
    assert taken(TOKEN) == AccessClaims(**CLAIMS)
    assert taken(signed(HEADER, json.dumps(CLAIMS))) == AccessClaims(**CLAIMS), "the tests' own hand signs well"


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


def twin() -> str:
    """The token with the other signature that verifies; nobody but us refuses it."""
    parts, _, signature = TOKEN.rpartition(".")
    r, s = unb64(signature)[:32], int.from_bytes(unb64(signature)[32:])
    return f"{parts}.{b64(r + (P256_ORDER - s).to_bytes(32))}"


def hs256() -> str:
    """The public key taken for a secret: the confusion of RFC 8725, 3.1."""
    pem = KEY.verifier.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    parts = f"{b64(json.dumps(json.loads(HEADER) | {'alg': 'HS256'}).encode())}.{b64(json.dumps(CLAIMS).encode())}"
    return f"{parts}.{b64(hmac.digest(pem, parts.encode(), sha256))}"


def twice(text: str, name: str, value: object) -> str:
    """The JSON object with one more member."""
    return f"{text[:-1]},{json.dumps(name)}:{json.dumps(value)}}}"


JSON = json.dumps(CLAIMS)
JWK = msgspec.to_builtins(OTHER.public)

HEADERS = {
    "alg none": headed(alg="none"),
    "alg none, unsigned": f"{b64(json.dumps(json.loads(HEADER) | {'alg': 'none'}).encode())}.{b64(JSON.encode())}.",
    "alg None": headed(alg="None"),
    "alg null": signed(json.dumps(json.loads(HEADER) | {"alg": None}), JSON),
    "no alg": headed(alg=None),
    "HS256 with the public key": hs256(),
    "alg ES384": headed(alg="ES384"),
    "alg es256": headed(alg="es256"),
    "alg a list": headed(alg=["ES256"]),
    "typ JWT": headed(typ="JWT"),
    "typ application/at+jwt": headed(typ="application/at+jwt"),
    "typ in capitals": headed(typ="AT+JWT"),
    "typ a number": headed(typ=1),
    "no typ": headed(typ=None),
    "no kid": headed(kid=None),
    "kid of nobody": headed(kid="A" * 43),
    "kid a path": headed(kid="../../../../dev/null"),
    "kid a file": headed(kid="file:///etc/passwd"),
    "kid an address": headed(kid="https://evil.example/jwks.json"),
    "kid SQL": headed(kid="' OR 1=1 --"),
    "kid SQL, a union": headed(kid="x' UNION SELECT 'key'; --"),
    "kid with NUL": headed(kid=f"{KEY.kid}\0"),
    "kid with spaces": headed(kid=f" {KEY.kid}"),
    "kid a number": headed(kid=0),
    "kid a list": headed(kid=[KEY.kid]),
    "kid an object": headed(kid={"kid": KEY.kid}),
    "jku": headed(jku="https://evil.example/jwks.json"),
    "jwk": headed(jwk=JWK),
    "jwk, signed with it": signed(json.dumps(json.loads(HEADER) | {"jwk": JWK}), JSON, OTHER),
    "x5u": headed(x5u="https://evil.example/cert.pem"),
    "x5c": headed(x5c=["MIIB"]),
    "crit": headed(crit=["exp"]),
    "crit of b64": headed(crit=["b64"], b64=False),
    "cty": headed(cty="JWT"),
    "zip": headed(zip="DEF"),
    "something of its own": headed(hello="world"),
    "alg twice": signed(twice(HEADER, "alg", "ES256"), JSON),
    "kid twice": signed(twice(HEADER, "kid", KEY.kid), JSON),
    "typ twice": signed(twice(HEADER, "typ", "at+jwt"), JSON),
    "in another order": signed(json.dumps(dict(reversed(json.loads(HEADER).items())), separators=(",", ":")), JSON),
    "with spaces": signed(json.dumps(json.loads(HEADER)), JSON),
    "with a mark before it": signed(f"\ufeff{HEADER}", JSON),
    "with trailing data": signed(f"{HEADER} ", JSON),
    "no object": signed("[]", JSON),
    "no JSON": signed("header", JSON),
    "nothing": signed("", JSON),
    "deep": signed("[" * 1000, JSON),
}


@pytest.mark.parametrize("token", HEADERS.values(), ids=HEADERS)
def test_a_header_that_is_not_ours_is_refused(token: str) -> None:
    assert taken(token) is None


PAYLOADS = {
    **{f"no {name}": claiming(**{name: None}) for name in CLAIMS},
    **{
        f"{name} {word}": signed(HEADER, JSON.replace(f'"{name}": {CLAIMS[name]}', f'"{name}": {written}'))
        for name in ("iat", "nbf", "exp")
        for word, written in {
            "a string": f'"{CLAIMS[name]}"',
            "a float": f"{CLAIMS[name]}.0",
            "a fraction": f"{CLAIMS[name]}.5",
            "an exponent": f"{CLAIMS[name]}e0",
            "NaN": "NaN",
            "Infinity": "Infinity",
            "-Infinity": "-Infinity",
            "beyond floats": "1e400",
            "true": "true",
            "null": "null",
            "a list": f"[{CLAIMS[name]}]",
            "an object": "{}",
            "negative": "-1",
            "beyond numbers": "9" * 400,
            "beyond 2**53": str(2**53),
            "with a leading zero": f"0{CLAIMS[name]}",
        }.items()
    },
    **{f"{name} twice": signed(HEADER, twice(JSON, name, value)) for name, value in CLAIMS.items()},
    "exp twice, later": signed(HEADER, twice(JSON, "exp", SECONDS + 10**6)),
    "exp twice, escaped": signed(HEADER, f'{JSON[:-1]},"\\u0065xp":{SECONDS + 10**6}}}'),
    "another issuer": claiming(iss="https://evil.example"),
    "issuer with a slash": claiming(iss=f"{NAMED.issuer}/"),
    "issuer a list": claiming(iss=[NAMED.issuer]),
    "another audience": claiming(aud="https://other.example.org"),
    "audience a list": claiming(aud=[NAMED.audience]),
    "audience empty": claiming(aud=""),
    "audience a prefix": claiming(aud=NAMED.audience[:-1]),
    "another client": claiming(client_id="evil"),
    "sub a number": claiming(sub=17),
    "sub empty": claiming(sub=""),
    "sub with a zero": claiming(sub="017"),
    "sub with a sign": claiming(sub="+17"),
    "sub with a line end": claiming(sub="17\n"),
    "sub of other digits": claiming(sub="\uff11\uff17"),
    "sub SQL": claiming(sub="17 OR 1=1"),
    "sub too long": claiming(sub="1" * 19),
    "sid a number": claiming(sid=42),
    "sid zero": claiming(sid="0"),
    "sid a path": claiming(sid="../42"),
    "sid a token": claiming(sid="42|" + "A" * 40),
    "jti empty": claiming(jti=""),
    "jti a number": claiming(jti=1),
    "something of its own": claiming(level=2),
    "expired": claiming(exp=SECONDS),
    "expired long ago": claiming(iat=0, nbf=0, exp=300),
    "not yet valid": claiming(iat=SECONDS + 6, nbf=SECONDS + 6, exp=SECONDS + 300),
    "valid before it was made": claiming(nbf=SECONDS - 1),
    "good for nothing": claiming(iat=SECONDS + 1, nbf=SECONDS + 1, exp=SECONDS + 1),
    "good for too long": claiming(exp=SECONDS + 301),
    "trailing data": signed(HEADER, f"{JSON}{{}}"),
    "a second object": signed(HEADER, f"{JSON}\n{JSON}"),
    "a mark before it": signed(HEADER, f"\ufeff{JSON}"),
    "UTF-16": signed(HEADER, JSON.encode("utf-16")),
    "no UTF-8": signed(HEADER, JSON.replace("17", "1\x80").encode("latin-1")),
    "a list": signed(HEADER, f"[{JSON}]"),
    "no JSON": signed(HEADER, "claims"),
    "deep": signed(HEADER, "[" * 1300),
    "nothing": signed(HEADER, ""),
    "another token": signed(HEADER, TOKEN),
}


@pytest.mark.parametrize("token", PAYLOADS.values(), ids=PAYLOADS)
def test_a_claim_that_is_not_ours_is_refused_though_we_signed_it(token: str) -> None:
    assert len(token) <= LONGEST, "it would be refused for that"
    assert taken(token) is None


OTHERS = {
    "another key's signature": signed(HEADER, JSON, OTHER),
    "another key's token": make(AccessClaims(**CLAIMS), OTHER.kid, OTHER.private),
    "the other signature": twin(),
    "no signature": TOKEN.rpartition(".")[0] + ".",
    "two parts": TOKEN.rpartition(".")[0],
    "four parts": f"{TOKEN}.",
    "five parts": f"{TOKEN}.A.A",
    "padded": f"{TOKEN}==",
    "padded payload": TOKEN.replace(f"{TOKEN.split('.')[1]}", f"{TOKEN.split('.')[1]}=="),
    "a line end": f"{TOKEN}\n",
    "a space before": f" {TOKEN}",
    "a NUL": f"{TOKEN}\0",
    "a signature of zeros": f"{TOKEN.rpartition('.')[0]}.{'A' * 86}",
    "r and s of the order": f"{TOKEN.rpartition('.')[0]}.{b64(P256_ORDER.to_bytes(32) * 2)}",
    "a signature in DER": f"{TOKEN.rpartition('.')[0]}.{b64(KEY.private.sign(b'', ec.ECDSA(SHA256())))}",
    "a long signature": f"{TOKEN}A",
    "standard base64": TOKEN.replace("-", "+").replace("_", "/") if set("-_") & set(TOKEN) else "+",
    "nothing": "",
    "dots": "..",
    "a session token": f"42|{'A' * 40}",
    "not ASCII": "é.é.é",
    "other digits": TOKEN.replace("1", "\uff11"),
    "surrogates": "\ud800.\ud800.\ud800",
    "too long": signed(HEADER, JSON + " " * LONGEST),
    "JSON serialisation": json.dumps(dict(zip(("protected", "payload", "signature"), TOKEN.split("."), strict=True))),
}  # fmt: skip


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
    payload = JSON + " " * (-len(JSON) % 3 + 1)
    assert len(payload) % 3 == 1
    for last in "AQgw":
        text = b64(payload.encode())
        assert (taken(sealed(f"{KEY.header}.{text[:-1]}{last}")) is not None) == (last == text[-1])
    for stray in "BRhx":
        assert taken(sealed(f"{KEY.header}.{b64(payload.encode())[:-1]}{stray}")) is None


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
            token = signed(HEADER, json.dumps(CLAIMS | {name: value}))
            claims = taken(token)
            # Another name of the token, or of who holds it, is a claim like ours.
            assert claims is None or getattr(claims, name) == value
            assert claims is None or name in {"sub", "sid", "jti", "iat", "nbf", "exp"}


def test_names_of_tokens_do_not_repeat() -> None:
    assert len({new_token_id() for _ in range(1000)}) == 1000


def test_the_header_is_the_one_that_the_library_writes() -> None:
    assert TOKEN.split(".")[0] == header_of(KEY.kid) == KEY.header
