"""Cookies that somebody made or mended: none of them is a principal, and all are answered as nonsense is.

Each is one step away from a good one, which is shown to be good. Some are sealed under the service's own key, taken
from its store: then only what they say is wrong.
"""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
from cryptography.fernet import Fernet
from httpx import Response

from service.credentials.cookies import CookieClaims, Cookies
from tests.attacks.asking import COOKIE
from tests.attacks.scene import RESUME, Person, Scene
from tests.house import book_in

ALPHABET: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
NONSENSE: Final = "nonsense"
BLOCK: Final = 16
HEAD: Final = 9
"""Bytes of a Fernet token before its IV: the version, and the second in which it was made."""
MAC: Final = 32


class Holder(NamedTuple):
    """Somebody who has a cookie."""

    person: Person
    cookie: str


@pytest.fixture(scope="module")
def alice(scene: Scene) -> Holder:
    person = scene.person(admin=True)
    return Holder(person, scene.cookie(person.token))


@pytest.fixture(scope="module")
def bob(scene: Scene) -> Holder:
    person = scene.person()
    return Holder(person, scene.cookie(person.token))


def seen(scene: Scene, header: str | list[str]) -> list[tuple[int, bytes, str | None]]:
    """What each address that goes by the cookie alone says to these Cookie headers."""
    headers = [("Cookie", one) for one in ([header] if isinstance(header, str) else header)]
    answers = (
        scene.ask("GET", "/api/session", headers=headers),
        scene.ask("GET", "/verify", headers=[("X-Forwarded-Method", "GET"), *headers]),
        scene.ask("GET", "/admin/api/projections", headers=headers),
        scene.ask("POST", "/react-auth", headers=headers, data=RESUME),
        scene.ask("POST", "/api/token", headers=headers),
    )
    return [_said(answer) for answer in answers]


def _said(answer: Response) -> tuple[int, bytes, str | None]:
    assert "Set-Cookie" not in answer.headers
    return answer.status_code, answer.content, answer.headers.get("WWW-Authenticate")


def good(scene: Scene, holder: Holder) -> bool:
    """Whether the holder's own cookie is what it was."""
    answer = scene.ask("GET", "/api/session", cookie=holder.cookie)
    return answer.status_code == 200 and answer.json()["user"]["id"] == holder.person.id


def refused(scene: Scene, cookies: dict[str, str], holder: Holder) -> None:
    """All of them are answered as nonsense is, and nothing is written; the good one goes on being good."""
    before, nothing = scene.head, seen(scene, f"{COOKIE}={NONSENSE}")
    assert [status for status, _, _ in nothing] == [401, 401, 401, 200, 401]
    assert b'"success":false' in nothing[3][1]
    taken = [name for name, cookie in cookies.items() if seen(scene, f"{COOKIE}={cookie}") != nothing]
    assert taken == []
    assert scene.head == before
    assert good(scene, holder)


def decoded(cookie: str) -> bytes:
    return base64.urlsafe_b64decode(cookie)


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode()


def test_no_character_of_a_cookie_can_be_another(scene: Scene, alice: Holder) -> None:
    """ASVS 5.0: 11.3.3, 7.2.1; CWE-353, CWE-565: its neighbours in base64, and one that is none."""
    cookie, forged = alice.cookie, {}
    before, nothing = scene.head, _said(scene.ask("GET", "/api/session", cookie=NONSENSE))
    for place, character in enumerate(cookie):
        at = ALPHABET.find(character)
        for other in (ALPHABET[at ^ 1], ALPHABET[at ^ 32], "=%"[place % 2]):
            if other != character:
                forged[place, other] = f"{cookie[:place]}{other}{cookie[place + 1 :]}"
    taken = [name for name, one in forged.items() if _said(scene.ask("GET", "/api/session", cookie=one)) != nothing]
    assert taken == []
    assert len(forged) > 2 * len(cookie)
    assert scene.head == before
    assert good(scene, alice)


def test_no_byte_that_a_cookie_stands_for_can_be_another(scene: Scene, alice: Holder) -> None:
    """ASVS 5.0: 11.3.3; CWE-353: version, second, IV, each block, the MAC, in base64 that is well written."""
    data = decoded(alice.cookie)
    nothing = _said(scene.ask("POST", "/react-auth", cookie=NONSENSE, data=RESUME))
    taken = []
    for place in range(len(data)):
        for flip in (0x01, 0x80, 0xFF):
            forged = encoded(data[:place] + bytes([data[place] ^ flip]) + data[place + 1 :])
            if _said(scene.ask("POST", "/react-auth", cookie=forged, data=RESUME)) != nothing:
                taken.append((place, flip))
    assert taken == []
    assert good(scene, alice)


def test_no_cookie_is_made_of_parts_of_others(scene: Scene, alice: Holder, bob: Holder) -> None:
    """ASVS 5.0: 11.3.3; CWE-353, CWE-294: cut, grown, glued, or put together out of what others had sealed."""
    mine, theirs, again = alice.cookie, bob.cookie, scene.cookie(alice.person.token)
    one, two = decoded(mine), decoded(theirs)
    body, tag = one[:-MAC], one[-MAC:]
    blocks = [body[at : at + BLOCK] for at in range(HEAD, len(body), BLOCK)]
    cookies = {
        **{f"cut to {length}": mine[:length] for length in range(0, len(mine), 5)},
        **{f"from {start} on": mine[start:] for start in range(1, len(mine), 23)},
        **{f"with {more!r} behind it": mine + more for more in ("A", "AAAA", "=", "==", "%3D", ".", ",", "\t.", mine)},
        **{f"with {more!r} before it": more + mine for more in ("A", "AAAA", "=", '"', "Bearer ", "%67", "\\")},
        "two, glued": mine + theirs,
        "two, glued without padding": mine.rstrip("=") + theirs,
        "in quotes": f'"{mine}"',
        "percent-encoded": mine.replace("=", "%3D") if "=" in mine else f"%{ord(mine[0]):X}{mine[1:]}",
        "in standard base64": base64.b64encode(one).decode() if {0x2B, 0x2F} & {*base64.b64encode(one)} else "+",
        "without padding": mine.rstrip("=") if mine.endswith("=") else f"{mine}=",
        "in capitals": mine.upper(),
        "in base64 twice": encoded(mine.encode()),
        "its head before another's body": encoded(one[:HEAD] + two[HEAD:]),
        "its IV before another's blocks": encoded(one[: HEAD + BLOCK] + two[HEAD + BLOCK :]),
        "another's MAC": encoded(body + two[-MAC:]),
        "the MAC of another of its own": encoded(body + decoded(again)[-MAC:]),
        "no MAC": encoded(body),
        "an empty MAC": encoded(body + bytes(MAC)),
        "half a MAC": encoded(one[: -MAC // 2]),
        "two MACs": encoded(one + tag),
        "blocks the other way round": encoded(body[:HEAD] + b"".join(reversed(blocks)) + tag),
        "a block fewer": encoded(body[:-BLOCK] + tag),
        "a block twice": encoded(body + body[-BLOCK:] + tag),
        "no block at all": encoded(body[: HEAD + BLOCK] + tag),
        "nothing but a version": encoded(b"\x80"),
        "zeros": encoded(bytes(len(one))),
        "of 512 characters": "A" * 512,
        "of 15,000 characters": "A" * 15_000,
        "the session's token itself": alice.person.token,
        "what stands in it": json.dumps({"at": alice.person.token, "user_id": alice.person.id, "guest": 0}),
        "an access token": scene.access_token(alice.person.token),
        "NUL, written out": "%00",
        "not ASCII": "é☃",
    }
    refused(scene, {name: cookie for name, cookie in cookies.items() if cookie not in {mine, theirs, again}}, alice)


def keys_of(scene: Scene) -> list[Fernet]:
    """The keys under which the service seals cookies."""
    keys = scene.book.keyring.service_keys("cookies-")
    assert keys
    return [Fernet(base64.urlsafe_b64encode(key)) for key in keys.values()]


def test_a_key_of_anybody_elses_seals_nothing(scene: Scene, alice: Holder, tmp_path: Path) -> None:
    """ASVS 5.0: 11.3.3; CWE-347, CWE-321: another service's, ones that are easily guessed, all others of ours."""
    said = json.dumps({"at": alice.person.token, "user_id": alice.person.id, "guest": 0}).encode()
    keys = scene.book.keyring.service_keys("")
    ours = {name: key for name, key in keys.items() if not name.startswith("cookies-")}
    assert ours
    guessed = {"zeros": bytes(32), "ones": b"\xff" * 32, "text": b"gatebook".ljust(32, b"\0"), "s": b"s" * 32}
    sealed = {name: Fernet(base64.urlsafe_b64encode(key[:32])) for name, key in {**ours, **guessed}.items()}
    cookies = {name: key.encrypt(said).decode() for name, key in sealed.items()}
    with book_in(tmp_path) as elsewhere:
        claims = CookieClaims(alice.person.token, alice.person.id, 0)
        cookies["another service's"] = Cookies(elsewhere.keyring).seal(claims)
    refused(scene, cookies, alice)


def test_a_cookie_is_believed_when_all_that_it_says_is_so(scene: Scene, alice: Holder, bob: Holder) -> None:
    """ASVS 5.0: 7.2.1; CWE-565, CWE-639: sealed under the service's own key, and of one word that is another."""
    [key, *_] = keys_of(scene)
    guest = scene.guest()
    me, guests_id = alice.person, int(guest.partition("|")[0])
    claims: dict[str, Any] = {"at": me.token, "user_id": me.id, "guest": 0}

    def sealed(said: object) -> str:
        return key.encrypt(said if isinstance(said, bytes) else json.dumps(said).encode()).decode()

    refused(
        scene,
        {
            "another's account": sealed(claims | {"user_id": bob.person.id}),
            "another's session": sealed(claims | {"at": bob.person.token}),
            "a session that is not there": sealed(claims | {"at": f"{10**6}|{'A' * 40}"}),
            "a session by its number": sealed(claims | {"at": me.session}),
            "another secret": sealed(claims | {"at": f"{me.token[:-1]}{'A' if me.token[-1] != 'A' else 'B'}"}),
            "a guest, as an account": sealed({"at": guest, "user_id": me.id, "guest": 0}),
            "a guest, as the account of its number": sealed({"at": guest, "user_id": guests_id, "guest": 0}),
            "an account, as a guest": sealed(claims | {"guest": 1}),
            "a number as a text": sealed(claims | {"user_id": str(me.id)}),
            "a number with a fraction": sealed(claims | {"user_id": me.id + 0.5}),
            "a truth for a number": sealed(claims | {"guest": False}),
            "2 for a guest": sealed(claims | {"guest": 2}),
            "nothing for an account": sealed(claims | {"user_id": None}),
            **{
                f"without {name}": sealed({other: claims[other] for other in claims if other != name})
                for name in claims
            },
            "a level of its own": sealed(claims | {"level": 2}),
            "a list": sealed([claims]),
            "a text": sealed(json.dumps(claims)),
            "two objects": sealed(json.dumps(claims).encode() * 2),
            "no JSON": sealed(b"{"),
            "nothing": sealed(b""),
            "no UTF-8": sealed(b"\xff"),
            "deep": sealed(b"[" * 100),
        },
        alice,
    )
    assert scene.ask("GET", "/api/session", cookie=sealed(claims)).json()["user"]["id"] == me.id


def test_of_two_cookies_of_one_name_none_counts(scene: Scene, alice: Holder, bob: Holder) -> None:
    """CWE-565, CWE-384; ASVS 5.0: 15.3.7: who can set one beside it makes nobody anybody, in one header or two."""
    mine, theirs = f"{COOKIE}={alice.cookie}", f"{COOKIE}={bob.cookie}"
    nothing, before = seen(scene, f"{COOKIE}={NONSENSE}"), scene.head
    both: list[str | list[str]] = [
        f"{mine}; {theirs}", f"{theirs}; {mine}", f"{mine}; {mine}", f"{mine};{theirs}", f"{mine}; a=b; {theirs}",
        f"{mine}; {COOKIE}=", f"{COOKIE}=; {mine}", f"{mine}; {COOKIE}", f"{COOKIE}; {mine}", [mine, theirs],
        [mine, mine], [f"{COOKIE}=", mine], ["a=b", mine, theirs],
    ]  # fmt: skip
    assert [header for header in both if seen(scene, header) != nothing] == []
    assert scene.head == before
    assert good(scene, alice)


@pytest.mark.parametrize(
    "header",
    [
        "__host-gatebook={0}", "__HOST-GATEBOOK={0}", "gatebook={0}", "__Secure-gatebook={0}", "__Host-gatebook\t={0}",
        "__Host-gatebook[]={0}", "__Host-gatebook.={0}", "$__Host-gatebook={0}", "%5F%5FHost-gatebook={0}",
        "=__Host-gatebook={0}", "__Host-gatebook%3D{0}", "x=y, __Host-gatebook={0}", 'x="; __Host-gatebook={0}"',
        "x=__Host-gatebook={0}", "__Host-gatebook=={0}", "{0}", "{0}=__Host-gatebook", "__Host-gatebook:{0}",
        "\u00a0__Host-gatebook={0}", "\uff3f\uff3fHost-gatebook={0}",
    ],
)  # fmt: skip
def test_no_other_name_stands_for_ours(scene: Scene, alice: Holder, header: str) -> None:
    """CWE-565; ASVS 5.0: 3.3.1, 3.3.3: a name that browsers let neighbours set is not read as the one they do not."""
    assert seen(scene, header.format(alice.cookie)) == seen(scene, f"{COOKIE}={NONSENSE}")
    assert good(scene, alice)


def test_a_cookie_of_tomorrow_or_of_long_ago_opens_by_its_session_alone(scene: Scene, alice: Holder) -> None:
    """ASVS 5.0: 7.4.1; CWE-613: the second that shows from outside says nothing; the session behind it does."""
    [key, *_] = keys_of(scene)
    person = scene.person()
    claims = json.dumps({"at": person.token, "user_id": person.id, "guest": 0}).encode()
    now = int(datetime.now(UTC).timestamp())
    sealed = [key.encrypt_at_time(claims, second).decode() for second in (0, now - 10**8, now + 10**8)]
    for cookie in sealed:
        assert scene.ask("GET", "/api/session", cookie=cookie).json()["user"]["id"] == person.id
    assert scene.ask("DELETE", "/api/session", token=person.token).status_code == 204
    refused(scene, {f"of the second {number}": cookie for number, cookie in enumerate(sealed)}, alice)
