"""Access tokens at running services: two processes on one store, the command line beside them, and a service that asks.

What verifies here knows the addresses of the service and nothing of its code.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from service.book import open_book, parse_address
from service.credentials.signing_keys import SigningKeys
from tests.conformance.running import FAST, Running, fresh, running
from tests.conformance.talk import PASSWORD

ISSUER, AUDIENCE = "https://auth.example.org", "shop"
SECRET = "c1" * 32
KEYS = "/.well-known/jwks.json"


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Running]]:
    """Two processes on one store."""
    with two(tmp_path_factory.mktemp("access-tokens")) as found:
        yield found


@contextmanager
def two(folder: Path) -> Iterator[list[Running]]:
    config = folder / "gatebook.toml"
    config.write_text(f'introspection_clients = ["shop:{sha256(SECRET.encode()).hexdigest()}"]\n')
    settings = FAST | {"config": config, "token_issuer": ISSUER, "token_audience": AUDIENCE}
    with running(folder, **settings) as one, running(folder, **settings) as other:
        yield [one, other]


def session_of(service: Running, name: str | None = None) -> str:
    name = name or fresh()
    form = {"username": name, "nickname": fresh("nick"), "password": PASSWORD}
    assert service.ask("POST", "/api/register", form).status_code == 201
    answer = service.ask("POST", "/api/session", {"identifier": name, "password": PASSWORD})
    return str(answer.json()["token"])


def token_of(service: Running, session: str) -> str:
    answer = service.ask("POST", "/api/token", token=session)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["access_token"])


def keys_of(service: Running) -> list[dict[str, str]]:
    found: list[dict[str, str]] = service.ask("GET", KEYS).json()["keys"]
    return found


def introspected(service: Running, token: str) -> dict[str, Any]:
    answer = httpx.post(f"{service.http}/api/introspect", data={"token": token}, auth=("shop", SECRET), trust_env=False)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def verified(token: str, service: Running) -> dict[str, Any]:
    """What a service makes of the token that fetches the keys for itself."""
    kid = jwt.get_unverified_header(token)["kid"]
    key = jwt.PyJWKSet.from_dict({"keys": keys_of(service)})[kid]
    claims: dict[str, Any] = jwt.decode(
        token, key, algorithms=["ES256"], issuer=ISSUER, audience=AUDIENCE,
        options={"require": ["exp", "iat", "nbf", "sub", "sid", "jti", "client_id"]},
    )  # fmt: skip
    return claims


def kid_of(token: str) -> str:
    return str(jwt.get_unverified_header(token)["kid"])


def unwritten(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def test_what_one_process_issues_everybody_verifies(both: list[Running]) -> None:
    one, other = both
    name = fresh()
    session = session_of(one, name)
    token = token_of(one, session)
    claims = verified(token, other)
    assert claims["sid"] == session.partition("|")[0]
    assert claims["exp"] - claims["iat"] == 300
    for service in both:
        said = introspected(service, token)
        assert {key: said[key] for key in claims} == claims
        assert (said["active"], said["username"], said["level"]) == (True, name, 1)
        answer = service.ask("GET", "/verify", token=token)
        assert (answer.status_code, answer.headers["X-User-Id"]) == (204, claims["sub"])
        assert (answer.headers["X-User-Name"], answer.headers["X-Session-Id"]) == (name, claims["sid"])


def test_a_signature_is_good_by_cryptography_alone(both: list[Running]) -> None:
    """No JWT library at all: the bytes, the point and the hash."""
    token = token_of(both[0], session_of(both[0]))
    signed, _, signature = token.rpartition(".")
    [key] = [key for key in keys_of(both[1]) if key["kid"] == kid_of(token)]
    x, y = int.from_bytes(unwritten(key["x"])), int.from_bytes(unwritten(key["y"]))
    public = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
    r, s = unwritten(signature)[:32], unwritten(signature)[32:]
    der = encode_dss_signature(int.from_bytes(r), int.from_bytes(s))
    public.verify(der, signed.encode(), ec.ECDSA(SHA256()))
    with pytest.raises(InvalidSignature):
        public.verify(der, signed.encode() + b".", ec.ECDSA(SHA256()))


def test_a_session_that_ends_at_one_process_has_no_token_left_at_the_other(both: list[Running]) -> None:
    one, other = both
    session = session_of(one)
    token = token_of(other, session)
    assert introspected(other, token)["active"] is True
    assert one.ask("DELETE", "/api/session", token=session).status_code == 204
    assert verified(token, other), "by itself, a service cannot know"
    for service in both:
        assert introspected(service, token) == introspected(service, session) == {"active": False}
        assert service.ask("GET", "/verify", token=token).status_code == 401
        assert service.ask("POST", "/api/token", token=session).status_code == 401


def test_services_that_run_take_part_in_a_rotation_by_the_command_line(tmp_path: Path) -> None:
    with two(tmp_path) as both:
        one, other = both
        session = session_of(one)
        first = token_of(one, session)

        rotated = one.cli("keys", "rotate", "--json")
        assert rotated.returncode == 0, rotated.stderr
        following = json.loads(rotated.stdout)
        for service in both:
            # Told at once, for others to know it in time; signing comes later.
            assert [key["kid"] for key in keys_of(service)] == [kid_of(first), following["kid"]]
            token = token_of(service, session)
            assert kid_of(token) == kid_of(first)
            assert verified(token, one) != verified(first, other)
            assert introspected(service, first)["active"] is True

        rotated = other.cli("keys", "rotate", "--at-once", "--json")
        assert rotated.returncode == 0, rotated.stderr
        last = json.loads(rotated.stdout)
        for service in both:
            assert [key["kid"] for key in keys_of(service)] == [last["kid"]]
            assert introspected(service, first) == {"active": False}
            assert service.ask("GET", "/verify", token=first).status_code == 401
            token = token_of(service, session)
            assert kid_of(token) == last["kid"]
            assert verified(token, one)["sid"] == session.partition("|")[0]
            assert introspected(service, token)["active"] is True
            assert service.ask("GET", "/verify", token=token).status_code == 204

        listed = [json.loads(line) for line in one.cli("keys", "list", "--json").stdout.splitlines()]
        assert listed == [last]
        events = one.events("--type", "key.rotated")
        assert [(event["actor"], event.get("at_once", False)) for event in events] == [
            ("operator", False), ("operator", True),
        ]  # fmt: skip
        assert one.cli("verify").returncode == 0


def test_no_private_key_shows_anywhere(tmp_path: Path) -> None:
    with two(tmp_path) as both:
        one, other = both
        session = session_of(one)
        tokens = [token_of(service, session) for service in both]
        said = [one.cli("keys", "rotate").stdout, one.cli("keys", "list", "--json").stdout]
        book = open_book(parse_address(f"sqlite:{one.store}"))
        try:
            keys = SigningKeys(book.log, book.keyring).published()
            secrets = list(book.keyring.service_keys("access-tokens-").values())
        finally:
            book.close()
        assert len(keys) == len(secrets) == 2
        secrets += [key.private.private_numbers().private_value.to_bytes(32) for key in keys]
        for service in both:
            said += [service.log.read_text(), service.ask("GET", KEYS).text, service.ask("GET", "/openapi.json").text]
            said.append(Path(f"/proc/{service.process.pid}/cmdline").read_text())
        files = [file.read_bytes() for file in tmp_path.iterdir()]
        for secret in secrets:
            shapes = [secret, secret.hex().encode(), base64.b64encode(secret), base64.urlsafe_b64encode(secret)]
            for shape in (*shapes, str(int.from_bytes(secret)).encode()):
                assert not any(shape in file for file in files)
                assert not any(shape in text.encode() for text in said)
        for text in said:
            assert not any(token in text for token in (*tokens, session, SECRET))
        # They stand in no file of the service's either.
        assert not any(token.encode() in file for token in (*tokens, session) for file in files)
        assert other.errors() == []
