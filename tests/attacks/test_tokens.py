"""Forged access tokens at a running service, wherever one is taken: at `/verify` and at introspection.

They are made with the very key that signs ours, taken from the service's store, so that each differs from a good one in
one thing; what is refused is answered to the letter as nonsense is. `tests.credentials.forging` has the list.
"""

from __future__ import annotations

import json
from typing import Any, Final
from urllib.parse import quote

import pytest
from httpx import Response

from service.credentials.signing_keys import SigningKeys, signing_key
from tests.attacks.asking import COOKIE
from tests.attacks.hostile import request
from tests.attacks.scene import CLIENT, RESUME, SOCKET_RESUME, SOCKETS, Person, Scene
from tests.attacks.test_transport import told
from tests.conformance.talk import talk
from tests.credentials.forging import Forger, unb64

FORM: Final = {"Content-Type": "application/x-www-form-urlencoded"}
NONSENSE: Final = "non.sens.e"
FAMILIES: Final = ("headers", "payloads", "others")


@pytest.fixture(scope="module")
def alice(scene: Scene) -> Person:
    return scene.person()


@pytest.fixture(scope="module")
def forger(scene: Scene, alice: Person) -> Forger:
    """Has the service's own key, and a token that the service made."""
    token = scene.access_token(alice.token)
    key = SigningKeys(scene.book.log, scene.book.keyring).signing()
    return Forger(key, signing_key(7, b"o" * 32), json.loads(unb64(token.split(".")[1])), token)


Said = tuple[int, bytes, str | None]


def said(answer: Response) -> Said:
    assert "X-User-Id" not in answer.headers
    return answer.status_code, answer.content, answer.headers.get("WWW-Authenticate")


def verified(scene: Scene, token: str) -> Said:
    return said(scene.ask("GET", "/verify", token=token))


def introspected(scene: Scene, token: str) -> Said:
    body = f"token={quote(token, errors='surrogatepass')}"
    return said(scene.ask("POST", "/api/introspect", headers=CLIENT | FORM, content=body.encode()))


def live(scene: Scene, token: str) -> bool:
    """Whether both take it."""
    return scene.ask("GET", "/verify", token=token).status_code == 204 and scene.introspected(token)["active"] is True


@pytest.mark.parametrize("family", FAMILIES)
def test_a_forged_token_is_answered_as_nonsense_is(scene: Scene, forger: Forger, family: str) -> None:
    """ASVS 5.0: 9.1.1, 9.1.2, 9.1.3, 9.2.1, 9.2.2, 9.2.3; CWE-347, CWE-345, CWE-327, CWE-22, CWE-89."""
    assert live(scene, forger.token)
    assert live(scene, forger.signed(forger.header, forger.payload)), "the forger's hand signs well"
    forged: dict[str, str] = getattr(forger, family)()
    assert len(forged) > 25
    before, files = scene.head, {*scene.service.store.parent.iterdir()}
    no, inactive = verified(scene, NONSENSE), introspected(scene, NONSENSE)
    assert (no[0], inactive[:2]) == (401, (200, b'{"active":false}'))
    taken = []
    for name, token in forged.items():
        # Of an empty field, and of bytes that are no text, it is known that they are no token.
        expected = inactive if token and not _is_broken(token) else (400,)
        if introspected(scene, token)[: len(expected)] != expected:
            taken.append(f"{name}, introspected")
        # In a header blanks around it are no part of it; what else no header may hold, stands below.
        if token.strip(" ") not in {"", forger.token} and token.isprintable() and verified(scene, token) != no:
            taken.append(f"{name}, verified")
    assert taken == []
    assert scene.head == before
    assert {*scene.service.store.parent.iterdir()} == files
    assert live(scene, forger.token)


def _is_broken(token: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in token)


async def test_what_no_header_may_hold_ends_the_request(scene: Scene, forger: Forger) -> None:
    """CWE-20, CWE-113; ASVS 5.0: 9.1.1: NUL, line ends and bytes that are no ASCII, inside a token and around it."""
    for token in (
        f"{forger.token}\0", f"\0{forger.token}", forger.token.replace(".", "\0.", 1), f"{forger.token}\x1b[0m",
        f"{forger.token}\x7f", forger.token.replace(".", "\r\n.", 1), forger.token.replace(".", "\n ", 1),
        f"{forger.token}\x85", f"{forger.token}\xa0", f"\xef\xbb\xbf{forger.token}",
    ):  # fmt: skip
        sent = request(f"authorization: Bearer {token}", "connection: close", method="GET", path="/verify")
        answer = await told(scene.service.http, sent)
        assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 401")), repr(token)
        assert b"x-user-id" not in answer.lower()


def test_whose_token_it_is_and_which_sessions_are_one_thing(scene: Scene, alice: Person, forger: Forger) -> None:
    """ASVS 5.0: 7.4.1, 8.2.2; CWE-639, CWE-613: well signed, and of a session that is not there, over, or another's."""
    bob, guest = scene.person(), scene.guest()
    over = scene.logged_in(alice.name).partition("|")[0]
    assert scene.ask("DELETE", f"/api/sessions/{over}", token=alice.token).status_code == 204
    no, inactive = verified(scene, NONSENSE), introspected(scene, NONSENSE)
    changes: list[dict[str, str]] = [
        {"sub": str(bob.id)}, {"sid": bob.session}, {"sub": bob.session, "sid": bob.session}, {"sid": over},
        {"sid": guest.partition("|")[0]}, {"sub": guest.partition("|")[0], "sid": guest.partition("|")[0]},
        {"sid": str(scene.head + 1)}, {"sid": str(10**17)}, {"sid": alice.session[::-1] + "0"}, {"sub": alice.session},
        {"sid": str(alice.id)}, {"sub": str(scene.warden.id)}, {"sub": "9" * 18}, {"sub": "1", "sid": "1"},
    ]  # fmt: skip
    for change in changes:
        token = forger.claiming(**change)
        assert verified(scene, token) == no, change
        assert introspected(scene, token) == inactive, change
    # Whoever has the key has everybody: what was wrong above was what the tokens said.
    own = forger.claiming(sub=str(bob.id), sid=bob.session)
    assert scene.introspected(own)["username"] == bob.name
    assert live(scene, own)


def test_every_character_of_a_token_counts(scene: Scene, forger: Forger) -> None:
    """ASVS 5.0: 9.1.1; CWE-347, CWE-353: none can be its neighbour in base64, none be left out, none come to it."""
    token, no = forger.token, verified(scene, NONSENSE)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_."
    for place, character in enumerate(token):
        before, after = token[:place], token[place + 1 :]
        other = alphabet[alphabet.index(character) ^ 1] if character != "." else "-"
        for forged in (f"{before}{other}{after}", (before + after, f"{before}{other}{character}{after}")[place % 2]):
            assert verified(scene, forged) == no, (place, forged)
    # The last character has bits that stand for nothing: only as they are written by us do they verify.
    last = [verified(scene, token[:-1] + other) for other in alphabet if other != token[-1]]
    assert last == [no] * 64


def test_an_access_token_is_a_session_nowhere(scene: Scene, forger: Forger) -> None:
    """ASVS 5.0: 9.2.2; CWE-863, CWE-269: where a session is needed, a good one is answered as nonsense is."""
    before, asked = scene.head, 0
    for operation in scene.operations():
        if operation.template in {"/verify", "/api/authenticate"} or not operation.takes("bearer"):
            continue
        path = operation.path(name="users")
        good, bad = (said(scene.ask(operation.method, path, token=token)) for token in (forger.token, NONSENSE))
        assert good == bad, operation.name
        assert good[0] == 401, operation.name
        asked += 1
    assert asked > 20
    assert scene.head == before
    at = scene.ask("POST", "/api/authenticate", token=forger.token).json()["at"]
    assert scene.ask("GET", "/api/session", token=at).json()["user"]["level"] == 0


@pytest.mark.parametrize("path", SOCKETS)
async def test_an_access_token_opens_nothing_at_a_socket(scene: Scene, forger: Forger, path: str) -> None:
    """ASVS 5.0: 9.2.2; CWE-863."""
    headers = {"Authorization": f"Bearer {forger.token}", "Cookie": f"{COOKIE}={forger.token}"}
    async with talk(scene.service, f"{path}?access_token={forger.token}", headers) as talking:
        answers = []
        for token in (forger.token, NONSENSE):
            if path == "/react-auth":
                answers.append(await talking.ask({"type": SOCKET_RESUME, "session": token}))
            else:
                answers.append(await talking.call("authenticate", session_key=token))
        assert answers[0] == answers[1]
        assert answers[0].get("success") is False or answers[0]["data"]["error_code"] == 401


def test_a_token_counts_in_one_header_alone(scene: Scene, alice: Person, forger: Forger) -> None:
    """ASVS 5.0: 14.2.1, 15.3.7; CWE-598, CWE-235: not in an address, a body, a cookie, twice, or otherwise named."""
    for token in (forger.token, alice.token):
        bearer = f"Bearer {token}"
        ways: list[list[tuple[str, str]]] = [
            [("Authorization", bearer), ("Authorization", bearer)],
            [("Authorization", bearer), ("Authorization", "Bearer x")],
            [("Authorization", f"{bearer}, {bearer}")],
            [("Authorization", f"Bearer {bearer}")],
            [("Authorization", f'Bearer "{token}"')],
            [("Authorization", f"Bearer token={token}")],
            *(
                [("Authorization", f"{scheme} {token}")]
                for scheme in ("Basic", "Token", "JWT", "DPoP", "Digest", "Bearer,")
            ),
            [("Authorization", token)],
            [("Authorization", f"Bearer{token}")],
            [("Authorization", f"Bearer\t{token}")],
            [("Proxy-Authorization", bearer)],
            *([(name, token)] for name in ("X-Access-Token", "X-Auth-Token", "X-Api-Key", "X-Forwarded-Access-Token")),
            *([("Cookie", f"{name}={quote(token)}")] for name in (COOKIE, "access_token", "token", "Authorization")),
        ]
        queries = ("access_token", "token", "at", "session", "session_key", "Authorization")
        for headers in ways:
            assert scene.ask("GET", "/verify", headers=headers).status_code == 401, headers
            assert scene.ask("GET", "/api/session", headers=headers).status_code == 401, headers
        for name in queries:
            for path in ("/verify", "/api/session"):
                assert scene.ask("GET", f"{path}?{name}={quote(token)}").status_code == 401, name
            body: dict[str, Any] = {name: token}
            assert scene.ask("POST", "/react-auth", data=RESUME | body).json()["success"] is False
