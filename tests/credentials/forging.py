"""Access tokens that are none of ours, each in one thing alone; most are signed by the very key that signs ours."""

from __future__ import annotations

import base64
import hmac
import json
from hashlib import sha256, sha512
from typing import Any, Final

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from service.credentials.access_tokens import LONGEST, P256_ORDER
from service.credentials.signing_keys import SigningKey


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def twice(text: str, name: str, value: object) -> str:
    """The JSON object with one more member."""
    return f"{text[:-1]},{json.dumps(name)}:{json.dumps(value)}}}"


NUMBERS: Final = ("iat", "nbf", "exp")


class Forger:
    """Has a key that is ours and one that is not, the claims of a token that is good, and that token."""

    def __init__(self, key: SigningKey, other: SigningKey, claims: dict[str, Any], token: str) -> None:
        self.key = key
        self.other = other
        self.claims = claims
        self.token = token
        self.header = unb64(key.header).decode()
        self.payload = json.dumps(claims)

    def signed(self, header: str | bytes, payload: str | bytes, key: SigningKey | None = None) -> str:
        """A token of ours but for what it says, signed by another hand, with the signature that we would take."""
        parts = f"{b64(header if isinstance(header, bytes) else header.encode())}."
        return self.sealed(parts + b64(payload if isinstance(payload, bytes) else payload.encode()), key)

    def sealed(self, parts: str, key: SigningKey | None = None) -> str:
        """The two parts with their signature."""
        private = (key or self.key).private
        made = jwt.algorithms.ECAlgorithm(jwt.algorithms.ECAlgorithm.SHA256).sign(parts.encode(), private)
        r, s = int.from_bytes(made[:32]), int.from_bytes(made[32:])
        return f"{parts}.{b64(r.to_bytes(32) + min(s, P256_ORDER - s).to_bytes(32))}"

    def claiming(self, **changes: Any) -> str:
        """A token signed by our key that claims something else; None takes a claim away."""
        said = {name: value for name, value in (self.claims | changes).items() if value is not None}
        return self.signed(self.header, json.dumps(said))

    def headed(self, **changes: Any) -> str:
        """A token signed by our key under another header."""
        header = {name: value for name, value in (json.loads(self.header) | changes).items() if value is not None}
        return self.signed(json.dumps(header), self.payload)

    def _parts(self, alg: str) -> str:
        header = json.dumps(json.loads(self.header) | {"alg": alg}, separators=(",", ":"))
        return f"{b64(header.encode())}.{b64(self.payload.encode())}"

    def unsigned(self, algorithm: str) -> str:
        """A token that says that it needs no signature, and has none."""
        return f"{self._parts(alg=algorithm)}."

    def twin(self) -> str:
        """The token with the other signature that verifies; nobody but us refuses it."""
        parts, _, signature = self.token.rpartition(".")
        r, s = unb64(signature)[:32], int.from_bytes(unb64(signature)[32:])
        return f"{parts}.{b64(r + (P256_ORDER - s).to_bytes(32))}"

    def confused(self) -> dict[str, str]:
        """The public key taken for a secret, in every form in which somebody may hold it (RFC 8725, 3.1)."""
        public = self.key.verifier
        info = PublicFormat.SubjectPublicKeyInfo
        jwk = msgspec.to_builtins(self.key.public)
        forms = {
            "PEM": public.public_bytes(Encoding.PEM, info),
            "PEM without its last line end": public.public_bytes(Encoding.PEM, info).strip(),
            "DER": public.public_bytes(Encoding.DER, info),
            "a point": public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint),
            "JWK": json.dumps(jwk).encode(),
            "JWK, as it is told": json.dumps(jwk, separators=(",", ":")).encode(),
            "JWK set": json.dumps({"keys": [jwk]}, separators=(",", ":")).encode(),
            "x": unb64(self.key.public.x),
            "the kid": self.key.kid.encode(),
            "nothing": b"",
        }
        parts = {"HS256": (self._parts(alg="HS256"), sha256), "HS512": (self._parts(alg="HS512"), sha512)}
        return {
            f"{algorithm} with {form}": f"{said}.{b64(hmac.digest(secret, said.encode(), by))}"
            for form, secret in forms.items()
            for algorithm, (said, by) in parts.items()
        }

    def by_others(self) -> dict[str, str]:
        """Tokens by keys that the forger made, of other kinds, and tokens that are encrypted, not signed."""
        keys: dict[str, Any] = {
            "RS256": rsa.generate_private_key(65_537, 2_048),
            "ES256": ec.generate_private_key(ec.SECP256R1()),
            "ES256K": ec.generate_private_key(ec.SECP256K1()),
            "ES384": ec.generate_private_key(ec.SECP384R1()),
            "ES512": ec.generate_private_key(ec.SECP521R1()),
            "EdDSA": ed25519.Ed25519PrivateKey.generate(),
        }
        keys["PS256"] = keys["RS256"]
        header = json.loads(self.header)
        made = {
            f"{name} by a key of one's own": jwt.encode(
                self.claims, key, algorithm=name, headers=header | {"alg": name}
            )
            for name, key in keys.items()
        }
        encrypted = b64(json.dumps(header | {"alg": "dir", "enc": "A256GCM"}).encode())
        iv, text, tag = b64(bytes(12)), b64(self.payload.encode()), b64(bytes(16))
        return made | {
            "JWE": f"{encrypted}..{iv}.{text}.{tag}",
            "JWE with a key": f"{encrypted}.{b64(bytes(32))}.{iv}.{text}.{tag}",
            "JWE of a token": f"{encrypted}..{iv}.{b64(self.token.encode())}.{tag}",
        }

    def headers(self) -> dict[str, str]:
        """Tokens with headers that are not ours."""
        header, headed, jwk, kid = self.header, self.headed, msgspec.to_builtins(self.other.public), self.key.kid
        as_object = json.loads(header)
        return {
            **{
                f"alg {name}": headed(alg=name)
                for name in ("none", "None", "ES384", "es256", "RS256", "HS256", " ES256")
            },
            **{f"alg {name}, unsigned": self.unsigned(name) for name in ("none", "None", "NONE", "nOnE", "none ", "")},
            **self.confused(),
            **self.by_others(),
            "alg null": self.signed(json.dumps(as_object | {"alg": None}), self.payload),
            "no alg": headed(alg=None),
            "alg a list": headed(alg=["ES256"]),
            "typ JWT": headed(typ="JWT"),
            "typ application/at+jwt": headed(typ="application/at+jwt"),
            "typ in capitals": headed(typ="AT+JWT"),
            "typ of a logout": headed(typ="logout+jwt"),
            "typ a number": headed(typ=1),
            "no typ": headed(typ=None),
            "no kid": headed(kid=None),
            "kid of nobody": headed(kid="A" * 43),
            "kid of another": headed(kid=self.other.kid),
            "kid a path": headed(kid="../../../../dev/null"),
            "kid a path, encoded": headed(kid="..%2f..%2fdev%2fnull"),
            "kid a file": headed(kid="file:///etc/passwd"),
            "kid an address": headed(kid="https://evil.example/jwks.json"),
            "kid a command": headed(kid="x|/usr/bin/touch owned"),
            "kid SQL": headed(kid="' OR 1=1 --"),
            "kid SQL, a union": headed(kid="x' UNION SELECT 'key'; --"),
            "kid with NUL": headed(kid=f"{kid}\0"),
            "kid with spaces": headed(kid=f" {kid}"),
            "kid huge": headed(kid="k" * 1_000),
            "kid empty": headed(kid=""),
            "kid a number": headed(kid=0),
            "kid a list": headed(kid=[kid]),
            "kid an object": headed(kid={"kid": kid}),
            "jku": headed(jku="https://evil.example/jwks.json"),
            "jku of our own": headed(jku="http://127.0.0.1/.well-known/jwks.json"),
            "jwk": headed(jwk=jwk),
            "jwk, signed with it": self.signed(json.dumps(as_object | {"jwk": jwk}), self.payload, self.other),
            "x5u": headed(x5u="https://evil.example/cert.pem"),
            "x5c": headed(x5c=["MIIB"]),
            "x5t": headed(x5t="A" * 27),
            "crit": headed(crit=["exp"]),
            "crit empty": headed(crit=[]),
            "crit of b64": headed(crit=["b64"], b64=False),
            "b64 alone": headed(b64=False),
            "b64 false, the payload as it is": self.sealed(
                f"{b64(json.dumps(as_object | {'crit': ['b64'], 'b64': False}).encode())}.{self.payload}"
            ),
            "cty": headed(cty="JWT"),
            "zip": headed(zip="DEF"),
            "something of its own": headed(hello="world"),
            "alg twice": self.signed(twice(header, "alg", "ES256"), self.payload),
            "alg twice, none first": self.signed(f'{{"alg":"none",{header[1:]}', self.payload),
            "alg twice, none last": self.signed(twice(header, "alg", "none"), self.payload),
            "kid twice": self.signed(twice(header, "kid", kid), self.payload),
            "kid twice, another last": self.signed(twice(header, "kid", self.other.kid), self.payload, self.other),
            "typ twice": self.signed(twice(header, "typ", "at+jwt"), self.payload),
            "in another order": self.signed(
                json.dumps(dict(reversed(as_object.items())), separators=(",", ":")), self.payload
            ),
            "with spaces": self.signed(json.dumps(as_object), self.payload),
            "with a mark before it": self.signed(f"\ufeff{header}", self.payload),
            "with trailing data": self.signed(f"{header} ", self.payload),
            "no object": self.signed("[]", self.payload),
            "no JSON": self.signed("header", self.payload),
            "nothing": self.signed("", self.payload),
            "deep": self.signed("[" * 1000, self.payload),
        }

    def payloads(self) -> dict[str, str]:
        """Tokens signed by our key, with claims that are not ours."""
        claims, claiming, text, header = self.claims, self.claiming, self.payload, self.header
        issuer, audience, made = claims["iss"], claims["aud"], claims["iat"]
        return {
            **{f"no {name}": claiming(**{name: None}) for name in claims},
            **{
                f"{name} {word}": self.signed(header, text.replace(f'"{name}": {claims[name]}', f'"{name}": {written}'))
                for name in NUMBERS
                for word, written in {
                    "a string": f'"{claims[name]}"',
                    "a float": f"{claims[name]}.0",
                    "a fraction": f"{claims[name]}.5",
                    "an exponent": f"{claims[name]}e0",
                    "NaN": "NaN",
                    "Infinity": "Infinity",
                    "-Infinity": "-Infinity",
                    "beyond floats": "1e400",
                    "true": "true",
                    "null": "null",
                    "a list": f"[{claims[name]}]",
                    "an object": "{}",
                    "negative": "-1",
                    "beyond numbers": "9" * 400,
                    "beyond 2**53": str(2**53),
                    "beyond 2**63": str(2**63),
                    "with a leading zero": f"0{claims[name]}",
                }.items()
            },
            **{f"{name} twice": self.signed(header, twice(text, name, value)) for name, value in claims.items()},
            "exp twice, later": self.signed(header, twice(text, "exp", made + 10**6)),
            "exp twice, later first": self.signed(header, f'{{"exp":{made + 10**6},{text[1:]}'),
            "exp twice, escaped": self.signed(header, f'{text[:-1]},"\\u0065xp":{made + 10**6}}}'),
            "sub twice, another": self.signed(header, twice(text, "sub", "1")),
            "another issuer": claiming(iss="https://evil.example"),
            "issuer with a slash": claiming(iss=f"{issuer}/"),
            "issuer a list": claiming(iss=[issuer]),
            "another audience": claiming(aud="https://other.example.org"),
            "audience a list": claiming(aud=[audience]),
            "audience empty": claiming(aud=""),
            "audience a prefix": claiming(aud=audience[:-1]),
            "another client": claiming(client_id="evil"),
            "sub a number": claiming(sub=int(claims["sub"])),
            "sub empty": claiming(sub=""),
            "sub with a zero": claiming(sub=f"0{claims['sub']}"),
            "sub with a sign": claiming(sub=f"+{claims['sub']}"),
            "sub with a line end": claiming(sub=f"{claims['sub']}\n"),
            "sub of other digits": claiming(sub="\uff11\uff17"),
            "sub SQL": claiming(sub=f"{claims['sub']} OR 1=1"),
            "sub too long": claiming(sub="1" * 19),
            "sid a number": claiming(sid=int(claims["sid"])),
            "sid zero": claiming(sid="0"),
            "sid a path": claiming(sid=f"../{claims['sid']}"),
            "sid a token": claiming(sid=f"{claims['sid']}|{'A' * 40}"),
            "jti empty": claiming(jti=""),
            "jti a number": claiming(jti=1),
            "something of its own": claiming(level=2),
            "a scope": claiming(scope="admin"),
            "expired": claiming(iat=made - 300, nbf=made - 300, exp=made),
            "good for no second": claiming(exp=made),
            "expired long ago": claiming(iat=0, nbf=0, exp=300),
            "not yet valid": claiming(iat=made + 200, nbf=made + 200, exp=made + 300),
            "valid before it was made": claiming(nbf=made - 1),
            "good for nothing": claiming(iat=made + 1, nbf=made + 1, exp=made + 1),
            "good for too long": claiming(exp=made + 301),
            "trailing data": self.signed(header, f"{text}{{}}"),
            "a second object": self.signed(header, f"{text}\n{text}"),
            "a mark before it": self.signed(header, f"\ufeff{text}"),
            "UTF-16": self.signed(header, text.encode("utf-16")),
            "no UTF-8": self.signed(header, text.replace(claims["jti"], f"{claims['jti'][:-1]}\x80").encode("latin-1")),
            "a list": self.signed(header, f"[{text}]"),
            "no JSON": self.signed(header, "claims"),
            "deep": self.signed(header, "[" * 1300),
            "nothing": self.signed(header, ""),
            "another token": self.signed(header, self.token),
        }

    def others(self) -> dict[str, str]:
        """What is no token of ours for what it is, whatever it says."""
        token, header, text = self.token, self.header, self.payload
        head, payload, _ = token.split(".")
        parts = f"{head}.{payload}"
        return {
            "another key's signature": self.signed(header, text, self.other),
            "another key's token": self.signed(unb64(self.other.header), text, self.other),
            "the other signature": self.twin(),
            "no signature": f"{parts}.",
            "two parts": parts,
            "four parts": f"{token}.",
            "five parts": f"{token}.A.A",
            "a dot before": f".{token}",
            "detached": f"{head}..{token.rpartition('.')[2]}",
            "padded": f"{token}==",
            "padded payload": f"{head}.{payload}==.{token.rpartition('.')[2]}",
            "a line end": f"{token}\n",
            "a space before": f" {token}",
            "a NUL": f"{token}\0",
            "a signature of zeros": f"{parts}.{'A' * 86}",
            "r and s of the order": f"{parts}.{b64(P256_ORDER.to_bytes(32) * 2)}",
            "r and s of one": f"{parts}.{b64((1).to_bytes(32) * 2)}",
            "a signature in DER": f"{parts}.{b64(self.key.private.sign(parts.encode(), ec.ECDSA(SHA256())))}",
            "a long signature": f"{token}A",
            "another payload": f"{head}.{self.claiming(level=2).split('.')[1]}.{token.rpartition('.')[2]}",
            "standard base64": token.replace("-", "+").replace("_", "/") if set("-_") & set(token) else "+",
            "nothing": "",
            "dots": "..",
            "a session token": f"{self.claims['sid']}|{'A' * 40}",
            "not ASCII": "é.é.é",
            "other digits": f"{token[:-1]}\uff11",
            "surrogates": "\ud800.\ud800.\ud800",
            "too long": self.signed(header, text + " " * LONGEST),
            "JSON serialisation": json.dumps(
                dict(zip(("protected", "payload", "signature"), token.split("."), strict=True))
            ),
        }
