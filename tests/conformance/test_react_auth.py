"""react-auth as its contract says it, and docs/react-auth.md where the contract is silent."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterable
from contextlib import ExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import trio

from tests.conformance.running import FAST, Running, running
from tests.conformance.talk import Talk, talk
from tests.conformance.test_account_api import PASSWORD, logged_in, registered

AUTHENTICATE = "fantaptik/react-auth/authenticate"
RESUME = "fantaptik/react-auth/resume"
SOCKET_RESUME = "fantaptik/react-auth/socket/resume"
CLOSE = "fantaptik/react-auth/close"
OVER = {"type": CLOSE}
DONE, FAILED = {"success": True}, {"success": False}
NOBODY: dict[str, Any] = {"success": False, "session": "", "user": {}}
USER_FIELDS = ["id", "username", "nickname", "level", "active", "created_at", "last_contact"]
COOKIE = "__Host-gatebook"
FORM = "application/x-www-form-urlencoded"
JSON = "application/json"
TOKEN = re.compile(r"[1-9][0-9]*\|[A-Za-z0-9]{40}")
TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
BOTH = pytest.mark.parametrize("kind", [FORM, JSON], ids=["form", "json"])


# HTTP


def post(
    service: Running,
    body: bytes | str | Iterable[bytes],
    kind: str | None = FORM,
    *,
    cookie: str | None = None,
    **headers: str,
) -> httpx.Response:
    """One request with exactly this body."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    sent |= {} if kind is None else {"Content-Type": kind}
    sent |= {} if cookie is None else {"Cookie": f"{COOKIE}={cookie}"}
    content = body.encode() if isinstance(body, str) else body
    return httpx.post(f"{service.http}/react-auth", content=content, headers=sent, trust_env=False)


def written(fields: dict[str, str], kind: str) -> str:
    """The fields as the published client's qs writes them, or as JSON."""
    if kind == JSON:
        return json.dumps(fields)
    return "&".join(f"{name}={quote(value, safe='')}" for name, value in fields.items())


def authenticate(
    service: Running, username: str, password: str = PASSWORD, kind: str = FORM, **more: Any
) -> httpx.Response:
    fields = {"type": AUTHENTICATE, "username": username, "password": password}
    return post(service, written(fields, kind), kind, **more)


def resume(service: Running, cookie: str | None, kind: str = FORM, **more: Any) -> httpx.Response:
    return post(service, written({"type": RESUME}, kind), kind, cookie=cookie, **more)


def opened(answer: httpx.Response, person: dict[str, Any]) -> tuple[str, str]:
    """The session and the cookie of an answer of success, every part of it looked at."""
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Cache-Control"] == "no-store"
    body = answer.json()
    assert list(body) == ["success", "session", "user"]
    assert body["success"] is True
    assert TOKEN.fullmatch(body["session"])
    user = body["user"]
    assert list(user) == USER_FIELDS
    assert [user[name] for name in USER_FIELDS[:5]] == [
        person["id"], person["username"], person["nickname"], 1, True
    ]  # fmt: skip
    for name in USER_FIELDS[5:]:
        assert TIMESTAMP.fullmatch(user[name]), user[name]
        assert timedelta(0) <= datetime.now(UTC) - datetime.fromisoformat(user[name]) < timedelta(minutes=10)
    cookie, *device = answer.headers.get_list("Set-Cookie")
    assert [one.partition("=")[0] for one in device] in ([], [f"{COOKIE}-device"])
    value, *attributes = cookie.split("; ")
    name, _, sealed = value.partition("=")
    assert name == COOKIE
    said = {one.partition("=")[0].lower(): one.partition("=")[2] for one in attributes}
    assert {"secure", "httponly"} <= said.keys()
    assert (said["path"], said["samesite"]) == ("/", "Lax")
    assert "domain" not in said
    assert 86_000 < int(said["max-age"]) <= 86_400
    assert body["session"].partition("|")[2] not in cookie
    return body["session"], sealed


def refused(answer: httpx.Response, status: int = 200) -> str:
    """The sentence of an answer that nobody is authenticated, in the contract's shape; the cookie stays as it is."""
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Cache-Control"] == "no-store"
    assert "Set-Cookie" not in answer.headers
    body = answer.json()
    message = body.pop("message", "")
    assert list(body.items()) == list(NOBODY.items())
    assert isinstance(message, str)
    # The contract's own answer is just that; whatever else went wrong is told in a sentence.
    assert bool(message) == (status != 200)
    return message


@BOTH
def test_authenticate_opens_a_session_and_resume_goes_on_with_it(service: Running, kind: str) -> None:
    person = registered(service)
    session, cookie = opened(authenticate(service, person["username"], kind=kind), person)
    again, sealed_again = opened(resume(service, cookie, kind), person)
    assert again == session
    assert sealed_again != cookie
    assert opened(resume(service, sealed_again, kind), person)[0] == session
    # The older cookie names the same session, and goes on doing so.
    assert opened(resume(service, cookie, kind), person)[0] == session
    assert service.ask("GET", "/api/session", token=session).json()["session"]["door"] == "react-auth"


@BOTH
def test_any_identifier_and_any_character_logs_in(service: Running, kind: str) -> None:
    password = "a+b & c=d %41 \u2603 \U0001f600"
    person = registered(service, password=password)
    for name in (person["username"], person["username"].upper(), person["email"]):
        opened(authenticate(service, name, password, kind), person)


@BOTH
def test_a_refused_login_is_plain_and_always_the_same(service: Running, kind: str) -> None:
    person = registered(service)
    _, cookie = opened(authenticate(service, person["username"]), person)
    wrong = [
        (person["username"], f"{PASSWORD}!"), (person["username"], ""), ("nobody at all", PASSWORD), ("", ""),
        ("\0", "\0"), ("x" * 5_000, "y" * 5_000), ("nobody@example.org", PASSWORD),
    ]  # fmt: skip
    for username, password in wrong:
        assert refused(authenticate(service, username, password, kind, cookie=cookie)) == ""
    for fields in ({}, {"username": person["username"]}, {"password": PASSWORD}):
        assert refused(post(service, written({"type": AUTHENTICATE, **fields}, kind), kind)) == ""
    # Whoever was somebody is so still.
    opened(resume(service, cookie), person)


def test_a_throttled_login_is_plain_too_and_says_when_to_try_again(service: Running) -> None:
    person, other = registered(service), registered(service)
    answers = [authenticate(service, person["username"], "wrong") for _ in range(12)]
    for answer in answers:
        assert refused(answer) == ""
    assert all("Retry-After" not in answer.headers for answer in answers[:5])
    # The right password is not looked at meanwhile.
    answers.append(authenticate(service, person["username"]))
    assert refused(answers[-1]) == ""
    assert int(answers[-1].headers["Retry-After"]) >= 1
    opened(authenticate(service, other["username"]), other)


def test_without_a_live_session_resume_is_a_plain_refusal(service: Running) -> None:
    person = registered(service)
    session, cookie = opened(authenticate(service, person["username"]), person)
    guest = httpx.post(f"{service.http}/api/authenticate", trust_env=False).headers["Set-Cookie"]
    guests = guest.partition("; ")[0].partition("=")[2]
    half = len(cookie) // 2
    wrong = [
        None, "", "x", session, cookie[:-1], cookie[:half], f"{cookie}x", cookie[half:] + cookie[:half], cookie.upper(),
        quote(session), guests, f"{cookie}; {COOKIE}={guests}", "gAAAAA" + "A" * 200, "=" * 100,
    ]  # fmt: skip
    for given in wrong:
        assert refused(resume(service, given)) == "", given
    assert refused(resume(service, None, Authorization=f"Bearer {session}")) == ""
    assert opened(resume(service, cookie), person)[0] == session
    service.ask("DELETE", "/api/session", token=session)
    assert refused(resume(service, cookie)) == ""


def test_a_cookie_of_the_auth_server_door_resumes_here(service: Running) -> None:
    person = registered(service)
    ask = partial(httpx.post, trust_env=False)
    guest = ask(f"{service.http}/api/authenticate").json()["at"]
    credentials = {"email": person["email"], "password": PASSWORD}
    answer = ask(f"{service.http}/api/login", data=credentials, headers={"Authorization": f"Bearer {guest}"})
    cookie = answer.headers["Set-Cookie"].partition("; ")[0].partition("=")[2]
    assert opened(resume(service, cookie), person)[0] == answer.json()["at"]


def test_a_login_replaces_no_other_session_of_the_browser(service: Running) -> None:
    person = registered(service)
    first, cookie = opened(authenticate(service, person["username"]), person)
    second, _ = opened(authenticate(service, person["username"], cookie=cookie), person)
    assert first != second
    for session in (first, second):
        assert service.ask("GET", "/api/session", token=session).status_code == 200


NO_MESSAGE: dict[str, tuple[str | None, bytes, int]] = {
    "nothing": (FORM, b"", 400),
    "nothing of JSON": (JSON, b"", 400),
    "no type": (FORM, b"username=alice&password=x", 400),
    "an empty type": (FORM, b"type=&username=alice&password=x", 400),
    "a type of the socket's": (FORM, b"type=fantaptik/react-auth/close", 400),
    "a type that is nearly one": (FORM, b"type=Fantaptik/react-auth/resume", 400),
    "a type twice": (FORM, f"type={RESUME}&type={RESUME}".encode(), 400),
    "a username twice": (FORM, f"type={AUTHENTICATE}&username=a&username=b&password=x".encode(), 400),
    "a password twice in JSON": (JSON, f'{{"type":"{AUTHENTICATE}","password":"x","password":"y"}}'.encode(), 400),
    "no UTF-8": (FORM, f"type={AUTHENTICATE}&username=%FF&password=x".encode(), 400),
    "no UTF-8 in JSON": (JSON, b'{"type":"\xff"}', 400),
    "more fields than anybody needs": (FORM, f"type={RESUME}".encode() + b"&x=1" * 10_000, 400),
    "no JSON": (JSON, b"hello", 400),
    "a form that is said to be JSON": (JSON, f"type={RESUME}".encode(), 400),
    "half an object": (JSON, f'{{"type":"{RESUME}"'.encode(), 400),
    "an array": (JSON, f'["{RESUME}"]'.encode(), 400),
    "null": (JSON, b"null", 400),
    "NaN": (JSON, f'{{"type":"{RESUME}","x":NaN}}'.encode(), 400),
    "half a surrogate pair": (JSON, f'{{"type":"{AUTHENTICATE}","username":"\\ud800"}}'.encode(), 400),
    "a type that is a number": (JSON, b'{"type":1}', 400),
    "a username that is a number": (JSON, f'{{"type":"{AUTHENTICATE}","username":1,"password":"x"}}'.encode(), 400),
    "a password of null": (JSON, f'{{"type":"{AUTHENTICATE}","username":"a","password":null}}'.encode(), 400),
    "a password in a list": (JSON, f'{{"type":"{AUTHENTICATE}","username":"a","password":["x"]}}'.encode(), 400),
    "too deep": (JSON, f'{{"type":"{RESUME}","x":{"[" * 50}{"]" * 50}}}'.encode(), 400),
    "a depth bomb": (JSON, b'{"a":' * 10_000, 400),
    "plain text": ("text/plain", f"type={RESUME}".encode(), 415),
    "many parts": ("multipart/form-data; boundary=x", f"type={RESUME}".encode(), 415),
    "another encoding": (f"{FORM}; charset=utf-16", f"type={RESUME}".encode(), 415),
    "no type of content": (None, f"type={RESUME}".encode(), 415),
}


def test_what_is_no_message_is_refused_in_the_contracts_shape_and_harms_nobody(service: Running) -> None:
    person = registered(service)
    _, cookie = opened(authenticate(service, person["username"]), person)
    before = service.events()
    with httpx.Client(trust_env=False) as honest:
        for what, (kind, body, status) in NO_MESSAGE.items():
            assert refused(post(service, body, kind, cookie=cookie), status), what
            assert honest.get(f"{service.http}/health/live").status_code == 200
    assert service.events() == before
    opened(resume(service, cookie), person)


def test_what_the_listener_refuses_has_the_contracts_shape_too(service: Running) -> None:
    message = f"type={RESUME}"
    asked: list[tuple[int, bytes | Iterable[bytes], dict[str, str]]] = [
        (413, b"x" * 65_537, {}),
        # A body of no announced length, too long with its last piece.
        (413, iter([b"x" * 65_536, b"x"]), {}),
        (400, message.encode(), {"Connection": "Upgrade", "Upgrade": "websocket"}),
        (400, message.encode(), {"Transfer_Encoding": "chunked"}),
        (431, message.encode(), {"X_Header": "x" * 20_000}),
    ]
    for status, content, headers in asked:
        assert refused(post(service, content, **headers), status)
    # Elsewhere it has that of the address.
    answer = httpx.post(f"{service.http}/api/session", content=b"x" * 65_537, trust_env=False)
    assert answer.json()["error"]["code"] == "too_large"


@pytest.mark.parametrize("what", [AUTHENTICATE, RESUME])
def test_another_sites_page_is_refused_in_the_contracts_shape(service: Running, what: str) -> None:
    person = registered(service)
    _, cookie = opened(authenticate(service, person["username"]), person)
    body = written({"type": what, "username": person["username"], "password": PASSWORD}, FORM)
    theirs = [("Sec_Fetch_Site", "cross-site"), ("Sec_Fetch_Site", "same-site"), ("Origin", "null"),
              ("Origin", "https://evil.example.org")]  # fmt: skip
    for name, value in theirs:
        assert refused(post(service, body, cookie=cookie, **{name: value}), 403)
    for name, value in (("Sec_Fetch_Site", "same-origin"), ("Sec_Fetch_Site", "none"), ("Origin", service.http)):
        opened(post(service, body, cookie=cookie, **{name: value}), person)


def test_other_methods_are_not_taken(service: Running) -> None:
    for method in ("GET", "PUT", "PATCH", "DELETE"):
        answer = service.ask(method, "/react-auth")
        assert (answer.status_code, answer.headers["Allow"]) == (405, "OPTIONS, POST")


# Sockets


@asynccontextmanager
async def client(service: Running) -> AsyncIterator[Talk]:
    async with talk(service, "/react-auth") as found:
        yield found


def session_of(service: Running, person: dict[str, Any]) -> str:
    return str(authenticate(service, person["username"]).json()["session"])


async def resumed(found: Talk, session: str, **more: Any) -> bool:
    return succeeded(await found.ask({"type": SOCKET_RESUME, "session": session, **more}))


async def closed(found: Talk, session: str, **more: Any) -> bool:
    return succeeded(await found.ask({"type": CLOSE, "session": session, **more}))


def succeeded(answer: dict[str, Any]) -> bool:
    assert list(answer) == ["success"]
    assert type(answer["success"]) is bool
    return bool(answer["success"])


async def heard(found: Talk) -> Any:
    return json.loads(await found.hear())


async def heard_nothing(found: Talk) -> None:
    """Nothing was sent on this connection that was not asked for: the next thing is the answer to this."""
    assert await found.ask({"id": "nothing"}) == {"id": "nothing", **FAILED}


async def test_a_session_of_any_door_is_resumed(service: Running) -> None:
    person = registered(service)
    async with client(service) as found, talk(service) as route:
        sessions = [
            session_of(service, person), logged_in(service, person), await route.log_in(person["username"], PASSWORD)
        ]  # fmt: skip
        for session in sessions:
            assert await resumed(found, session)
            for user in ({"id": person["id"]}, {"id": person["id"], "level": 2, "username": "somebody"}, {}):
                assert await resumed(found, session, user=user)


async def test_what_is_no_live_session_of_a_user_is_not_resumed(service: Running) -> None:
    person = registered(service)
    async with client(service) as found:
        session, ended = session_of(service, person), session_of(service, person)
        service.ask("DELETE", "/api/session", token=ended)
        guest = service.ask("POST", "/api/authenticate").json()["at"]
        number, secret = session.split("|")
        for wrong in (
            ended, guest, "", "|", "x", number, secret, f"{number}|", f"{number}|{secret[:-1]}", f"{session}x",
            f" {session}", f"{session}\n", f"0{session}", f"-{session}", f"{int(number) + 9_999}|{secret}",
            f"{number}|{secret[::-1]}", f"{2**63}|{secret}", f"\u0661|{secret}", f"{session}\0",
        ):  # fmt: skip
            assert not await resumed(found, wrong), wrong
        assert await resumed(found, session)


async def test_a_user_object_that_lies_is_not_believed(service: Running) -> None:
    person, other = registered(service), registered(service)
    async with client(service) as found:
        session = session_of(service, person)
        number = person["id"]
        ids = [other["id"], str(number), float(number), True, None, [number], {"id": number}, -number]
        lies: list[Any] = [*({"id": lie} for lie in ids), None, True, number, str(number), [], [{"id": number}]]
        for user in lies:
            assert not await resumed(found, session, user=user), user
        twice = f'{{"type":"{SOCKET_RESUME}","session":"{session}","user":{{"id":{number},"id":{other["id"]}}}}}'
        assert not succeeded(await found.ask(twice))
        assert await resumed(found, session, user={"id": number})


IDS = [
    "null", "true", "false", "0", "-0", "1", "1.0", "1.50", "1e5", "1E+05", "123456789012345678901234567890",
    "9" * 2_000, '""', '"6f1c"', r'"\u0041\/"', r'"\u0000"', r'"\ud83d\ude00"', '"\U0001f600\u2028"', "[]", "[ ]", "{}",
    '{"b": 1,\t"a" : [1.0 ,\n2e0]}', '{"a":1,"a":2}', '{"data":{"type":"x"},"id":1}', "[" * 31 + "]" * 31,
]  # fmt: skip


async def test_an_id_of_any_type_comes_back_byte_for_byte_bare_and_enveloped(service: Running) -> None:
    person = registered(service)
    async with client(service) as found:
        session = session_of(service, person)
        said = [
            (f'"type":"{SOCKET_RESUME}","session":"{session}"', "true"),
            (f'"type":"{SOCKET_RESUME}","session":"x"', "false"),
            (f'"type":"{SOCKET_RESUME}","session":1', "false"),
            (f'"type":"{CLOSE}","session":"x"', "true"),
            ('"type":"nothing"', "false"),
        ]
        for written_id in IDS:
            for message, success in said:
                for text in (f'{{{message},"id":{written_id}}}', f'{{ "id" : {written_id} ,\r\n{message}}}'):
                    await found.tell(text)
                    assert await found.hear() == f'{{"id":{written_id},"success":{success}}}'
                for text in (
                    f'{{"data":{{{message}}},"id":{written_id}}}',
                    f'{{"id" : {written_id},"type":"{CLOSE}","session":[], "data": {{{message},"id":"inside"}} }}',
                ):
                    await found.tell(text)
                    assert await found.hear() == f'{{"id":{written_id},"data":{{"success":{success}}}}}'


async def test_an_envelope_without_an_id_gets_a_reply_without_one(service: Running) -> None:
    person = registered(service)
    async with client(service) as found:
        message = {"type": SOCKET_RESUME, "session": session_of(service, person), "user": {"id": person["id"]}}
        await found.tell({"data": message})
        assert await found.hear() == '{"data":{"success":true}}'
        # As the published client envelopes it, with a property lifted out of the message.
        await found.tell(json.dumps({"data": message, "id": "6f1c", "type": SOCKET_RESUME}))
        assert await found.hear() == '{"id":"6f1c","data":{"success":true}}'


async def test_a_message_whose_data_is_no_typed_object_is_bare(service: Running) -> None:
    person = registered(service)
    async with client(service) as found:
        session = session_of(service, person)
        for data in ("null", "1", '"x"', "[]", "{}", f'[{{"type":"{CLOSE}"}}]', '{"type":1}', '{"session":"x"}'):
            await found.tell(f'{{"type":"{SOCKET_RESUME}","session":"{session}","data":{data},"id":7}}')
            assert await found.hear() == '{"id":7,"success":true}'
            await found.tell(f'{{"data":{data},"id":7}}')
            assert await found.hear() == '{"id":7,"success":false}'
        service.ask("DELETE", "/api/session", token=session)
        # None of that was an envelope, and so the notification has none.
        assert await heard(found) == OVER


async def test_close_on_one_connection_notifies_every_other_and_ends_the_session_everywhere(service: Running) -> None:
    person = registered(service)
    async with (
        client(service) as tab, client(service) as bare, client(service) as enveloped, client(service) as other,
        talk(service) as route,
    ):  # fmt: skip
        answer = authenticate(service, person["username"])
        session, cookie = opened(answer, person)
        user = answer.json()["user"]
        elsewhere = session_of(service, person)
        assert await resumed(tab, session, user=user)
        assert await resumed(bare, session, user=user)
        message = {"type": SOCKET_RESUME, "session": session, "user": user}
        assert await enveloped.ask({"data": message, "id": 1}) == {"id": 1, "data": DONE}
        assert await resumed(other, elsewhere)
        assert (await route.call("authenticate", session_key=session))["error"] is False

        assert await closed(tab, session, user=user)
        assert await heard(bare) == OVER
        assert await heard(enveloped) == {"data": OVER}
        for found in (tab, bare, enveloped, other):
            await heard_nothing(found)
        assert refused(resume(service, cookie)) == ""
        assert service.ask("GET", "/api/session", token=session).status_code == 401
        assert await route.refusal("update_profile") == (403, [])
        assert await route.refusal("authenticate", session_key=session) == (401, [])
        for found in (tab, bare, enveloped):
            assert not succeeded(await found.ask({"type": SOCKET_RESUME, "session": session}))
        # The other session of the same user is as it was.
        assert service.ask("GET", "/api/session", token=elsewhere).status_code == 200
        (ending,) = service.events("--stream", f"session-{session.partition('|')[0]}", "--type", "session.closed")
        assert (ending["reason"], ending["door"], ending["actor"]) == ("logout", "react-auth", f"user-{person['id']}")


async def test_close_is_a_success_whenever_the_session_is_over_or_unknown_and_ends_nothing(service: Running) -> None:
    person = registered(service)
    async with client(service) as found:
        session, ended = session_of(service, person), session_of(service, person)
        assert await closed(found, ended)
        guest = service.ask("POST", "/api/authenticate").json()["at"]
        number, secret = session.split("|")
        before = service.events("--type", "session.closed")
        for over in (
            ended, guest, "", "x", "|", f"{number}|{secret[::-1]}", f"{session} ", f"{int(number) + 9_999}|{secret}",
            f"{2**63}|{secret}", "\0",
        ):  # fmt: skip
            for user in ({"id": person["id"]}, None, "x"):
                assert await closed(found, over, user=user), over
        assert service.events("--type", "session.closed") == before
        assert service.ask("GET", "/api/session", token=guest).status_code == 200
        assert service.ask("GET", "/api/session", token=session).status_code == 200


@pytest.mark.parametrize("user", [None, [], "x", 7, {}, {"id": 0}, {"id": "somebody else"}])
async def test_close_goes_by_the_session_whatever_user_says(service: Running, user: Any) -> None:
    person = registered(service)
    async with client(service) as found, client(service) as tab:
        session = session_of(service, person)
        assert await resumed(tab, session)
        # From a connection that never resumed anything, too.
        assert await closed(found, session, user=user)
        assert await heard(tab) == OVER


async def test_a_second_resume_moves_the_connection_to_the_other_session(service: Running) -> None:
    person, other = registered(service), registered(service)
    async with client(service) as found:
        first, second = session_of(service, person), session_of(service, other)
        assert await resumed(found, first)
        assert await resumed(found, second)
        assert service.ask("DELETE", "/api/session", token=first).is_success
        await heard_nothing(found)
        # One that is refused moves nothing.
        assert not await resumed(found, first)
        assert service.ask("DELETE", "/api/session", token=second).is_success
        assert await heard(found) == OVER


async def test_replies_come_in_the_order_of_the_messages(service: Running) -> None:
    person = registered(service)
    async with client(service) as found:
        sessions = [session_of(service, person) for _ in range(5)]
        expected = []
        for number, session in enumerate(sessions):
            # A close waits for the disk, a resume for a lookup, nonsense for nothing.
            kinds = [
                (CLOSE, session, True), ("nothing", session, False), (SOCKET_RESUME, session, False), (CLOSE, "x", True)
            ]  # fmt: skip
            for kind, key, success in kinds:
                await found.tell({"type": kind, "session": key, "id": [number, kind, key]})
                expected.append({"id": [number, kind, key], "success": success})
        assert [await heard(found) for _ in expected] == expected


# The session ends elsewhere


@asynccontextmanager
async def held(service: Running, session: str) -> AsyncIterator[tuple[Talk, Talk]]:
    """Two connections that hold the session: one bare, one enveloped."""
    async with client(service) as bare, client(service) as enveloped:
        assert await resumed(bare, session)
        message = {"type": SOCKET_RESUME, "session": session}
        assert await enveloped.ask({"data": message, "id": "e"}) == {"id": "e", "data": DONE}
        yield bare, enveloped


async def are_told(both: tuple[Talk, Talk]) -> None:
    bare, enveloped = both
    assert await bare.hear() == f'{{"type":"{CLOSE}"}}'
    assert await enveloped.hear() == f'{{"data":{{"type":"{CLOSE}"}}}}'
    for found in both:
        await heard_nothing(found)


async def test_a_logout_at_another_door_is_told(service: Running) -> None:
    person = registered(service)
    session = session_of(service, person)
    async with held(service, session) as both:
        assert service.ask("DELETE", "/api/session", token=session).is_success
        await are_told(both)
    async with talk(service) as route:
        session = await route.log_in(person["username"], PASSWORD)
        async with held(service, session) as both:
            await route.call("logout")
            await are_told(both)


async def test_a_login_that_replaces_a_session_is_told_to_it(service: Running) -> None:
    person = registered(service)
    async with talk(service) as route:
        session = await route.log_in(person["username"], PASSWORD)
        async with held(service, session) as both:
            await route.log_in(person["username"], PASSWORD)
            await are_told(both)


async def test_a_new_password_is_told_to_all_sessions_but_ones_own(service: Running) -> None:
    person = registered(service)
    mine, other = session_of(service, person), session_of(service, person)
    async with held(service, mine) as own, held(service, other) as others:
        change = {"old_password": PASSWORD, "new_password": "a better horse battery"}
        assert service.ask("PATCH", "/api/profile", change, token=mine).is_success
        await are_told(others)
        for found in own:
            await heard_nothing(found)


async def test_a_deactivation_by_another_process_is_told(service: Running) -> None:
    person, bystander = registered(service), registered(service)
    session, cookie = opened(authenticate(service, person["username"]), person)
    async with held(service, session) as both, held(service, session_of(service, bystander)) as unharmed:
        done = await trio.to_thread.run_sync(lambda: service.cli("users", "deactivate", str(person["id"])))
        assert done.returncode == 0, done.stderr
        await are_told(both)
        for found in unharmed:
            await heard_nothing(found)
        assert refused(resume(service, cookie)) == ""
        assert refused(authenticate(service, person["username"])) == ""
        assert await closed(both[0], session)


async def test_a_revocation_by_another_process_is_told(service: Running) -> None:
    person = registered(service)
    session = session_of(service, person)
    async with held(service, session) as both:
        done = await trio.to_thread.run_sync(lambda: service.cli("sessions", "revoke", session.partition("|")[0]))
        assert done.returncode == 0, done.stderr
        await are_told(both)


async def test_a_session_that_runs_out_is_told(tmp_path: Path) -> None:
    with running(tmp_path, **FAST, session_idle_limit=2, session_seen_interval=1) as service:
        person = registered(service)
        session, cookie = opened(authenticate(service, person["username"]), person)
        async with held(service, session) as both:
            await are_told(both)
        assert refused(resume(service, cookie)) == ""
        (ending,) = service.events("--type", "session.closed")
        assert ending["reason"] == "expired"


async def test_a_restart_is_no_end_of_a_session(tmp_path: Path) -> None:
    with ExitStack() as first:
        service = first.enter_context(running(tmp_path, **FAST))
        person = registered(service)
        session, cookie = opened(authenticate(service, person["username"]), person)
        async with held(service, session) as both, trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, first.close)
            # Not a word but the closing: a client that hears it comes again.
            for found in both:
                assert await found.closing_code() == 1001
    http, ws = (int(address.rpartition(":")[2]) for address in (service.http, service.ws))
    with running(tmp_path, ports=(http, ws), **FAST) as again:
        assert opened(resume(again, cookie), person)[0] == session
        async with held(again, session) as back:
            assert again.ask("DELETE", "/api/session", token=session).is_success
            await are_told(back)
        assert [event["reason"] for event in again.events("--type", "session.closed")] == ["logout"]


# Bad input

BAD_MESSAGES = {
    "nothing": "", "no JSON": "hello", "an array": "[]", "a string": f'"{CLOSE}"', "a number": "1", "null": "null",
    "half an object": f'{{"type":"{CLOSE}"', "a comma too many": '{"id":1,}', "NaN": '{"id":NaN}',
    "a bare NUL": '{"id":"\0"}', "half a surrogate pair": '{"id":"\\ud800"}', "a depth bomb": '{"data":' * 8_000,
    "brackets alone": "[" * 65_536,
    "too deep a user": f'{{"type":"{CLOSE}","session":"x","user":{"[" * 40}{"]" * 40}}}',
    "no type": "{}", "a type of null": '{"type":null}', "a type that is a number": '{"type":1,"session":"x"}',
    "a type in a list": f'{{"type":["{CLOSE}"],"session":"x"}}', "an unknown type": '{"type":"x","session":"x"}',
    "a type of the HTTP half": f'{{"type":"{RESUME}"}}', "no session": f'{{"type":"{CLOSE}"}}',
    "no session to resume": f'{{"type":"{SOCKET_RESUME}"}}',
    "a session of null": f'{{"type":"{CLOSE}","session":null}}',
    "a session that is a number": f'{{"type":"{SOCKET_RESUME}","session":7}}',
    "a session that is an object": f'{{"type":"{CLOSE}","session":{{"id":7}}}}',
    "a session that is a huge number": f'{{"type":"{CLOSE}","session":{"9" * 5_000}}}',
}  # fmt: skip


async def test_a_bad_message_fails_and_harms_nobody(service: Running) -> None:
    person = registered(service)
    session = session_of(service, person)
    async with client(service) as found, held(service, session) as honest:
        assert await resumed(found, session)
        before = service.events()
        for what, message in BAD_MESSAGES.items():
            await found.tell(message)
            assert await found.hear() == '{"success":false}', what
            if message.startswith("{") and message.endswith("}") and '"type":"' in message and "deep" not in what:
                await found.tell(f'{{"data":{message},"id":[1]}}')
                assert await found.hear() == '{"id":[1],"data":{"success":false}}', what
        # This connection has spoken in envelopes by now: what cannot be read is answered in one.
        await found.tell("hello")
        assert await found.hear() == '{"data":{"success":false}}'
        assert service.events() == before
        service.ask("DELETE", "/api/session", token=session)
        await are_told(honest)
        assert await heard(found) == {"data": OVER}


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x82\x82\0\0\0\0{}", 1003),
        (b"\x81\x82\0\0\0\0\xff\xfe", 1007),
        (b"\x83\x80\0\0\0\0", 1002),
        (b"\xf1\x82\0\0\0\0{}", 1002),
        (b"\x01\x80\0\0\0\0" + b"\x00\x80\0\0\0\0" * 100, 1009),
    ],
    ids=["binary", "no UTF-8", "no such frame", "reserved bits", "too many fragments"],
)
async def test_a_bad_frame_ends_its_own_connection_alone(service: Running, data: bytes, code: int) -> None:
    person = registered(service)
    session = session_of(service, person)
    async with client(service) as found, held(service, session) as honest:
        assert await resumed(found, session)
        await found.socket._stream.send_all(data)
        assert await found.closing_code() == code
        for one in honest:
            await heard_nothing(one)
        assert await closed(honest[0], session)
        assert await heard(honest[1]) == {"data": OVER}


async def test_64_kib_are_taken_and_one_byte_more_closes_with_1009(service: Running) -> None:
    async with client(service) as found:
        assert await found.ask('{"id":1}'.ljust(65_536)) == {"id": 1, **FAILED}
        await found.tell('{"id":1}'.ljust(65_537))
        assert await found.closing_code() == 1009


async def test_no_token_is_in_the_book_or_the_log(service: Running) -> None:
    person = registered(service)
    session, cookie = opened(authenticate(service, person["username"]), person)
    async with client(service) as found:
        assert await resumed(found, session)
        await found.ask({"type": session, "session": session, "user": session})
        assert await closed(found, session)
    told = json.dumps(service.events()) + service.log.read_text()
    for secret in (session.partition("|")[2], cookie, PASSWORD):
        assert secret not in told
