"""The auth-server contract as a client meets it: black box, over a real socket, against a running service."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conformance.running import FAST, Running, running
from tests.conformance.test_account_api import PASSWORD, logged_in, registered

COOKIE = "__Host-gatebook"
TOKEN = re.compile(r"([1-9][0-9]*)\|[A-Za-z0-9]{40}")


def post(
    service: Running,
    path: str,
    *,
    token: str | None = None,
    cookie: str | None = None,
    headers: dict[str, str] | None = None,
    **body: Any,
) -> httpx.Response:
    """One POST; `data` is a form, `json` JSON, `content` anything."""
    sent = dict(headers or {})
    if token is not None:
        sent["Authorization"] = f"Bearer {token}"
    if cookie is not None:
        sent["Cookie"] = f"{COOKIE}={cookie}"
    return httpx.post(f"{service.http}{path}", headers=sent, trust_env=False, **body)


def authenticate(service: Running, **options: Any) -> httpx.Response:
    return post(service, "/api/authenticate", **options)


def log_in(service: Running, token: str | None, email: Any = None, password: Any = PASSWORD) -> httpx.Response:
    return post(service, "/api/login", token=token, data={"email": email, "password": password})


def issued(answer: httpx.Response) -> tuple[str, str]:
    """The token and the cookie of an answer that hands them out, every part of it looked at."""
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.json().keys() == {"at"}
    token = answer.json()["at"]
    assert TOKEN.fullmatch(token)
    set_cookie, *device = answer.headers.get_list("Set-Cookie")
    assert [one.partition("=")[0] for one in device] in ([], [f"{COOKIE}-device"])
    value, *attributes = set_cookie.split("; ")
    name, _, value = value.partition("=")
    assert name == COOKIE
    assert token not in set_cookie
    assert token.partition("|")[2] not in set_cookie
    said = {one.partition("=")[0].lower(): one.partition("=")[2] for one in attributes}
    assert {"secure", "httponly", "path", "samesite"} <= said.keys()
    assert "domain" not in said
    assert (said["path"], said["samesite"]) == ("/", "Lax")
    assert 86_390 <= int(said["max-age"]) <= 86_400
    return token, value


def refusal(answer: httpx.Response, status: int, *, fields: list[str] | None = None) -> str:
    """The message of a refusal in the contract's shape: nothing more or less, and no cookie touched."""
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Cache-Control"] == "no-store"
    assert "Set-Cookie" not in answer.headers
    body = answer.json()
    assert list(body) == ["message"] + (["errors"] if fields else [])
    if fields:
        assert list(body["errors"]) == fields
        assert all(isinstance(one, str) and one for sentences in body["errors"].values() for one in sentences)
    assert isinstance(body["message"], str)
    return str(body["message"])


def whoami(service: Running, token: str) -> tuple[int, Any]:
    answer = service.ask("GET", "/api/session", token=token)
    return answer.status_code, answer.json()


def test_whoever_comes_without_a_token_gets_a_guests(service: Running) -> None:
    token, _ = issued(authenticate(service))
    status, me = whoami(service, token)
    assert status == 200
    number = int(token.partition("|")[0])
    assert (me["user"]["id"], me["user"]["level"], me["user"]["username"]) == (number, 0, None)
    assert (me["session"]["id"], me["session"]["door"]) == (number, "auth-server")


@pytest.mark.parametrize("body", [{}, {"json": {"x": 1}}, {"data": {"x": "1"}}, {"content": b"\xff not a body"}])
def test_what_stands_in_the_body_of_authenticate_does_not_matter(service: Running, body: dict[str, Any]) -> None:
    issued(authenticate(service, **body))


def test_a_live_token_is_given_back_with_a_cookie_of_its_own(service: Running) -> None:
    token, cookie = issued(authenticate(service))
    again, renewed = issued(authenticate(service, token=token))
    assert again == token
    assert renewed != cookie
    by_cookie, _ = issued(authenticate(service, cookie=cookie))
    assert by_cookie == token
    by_renewed, _ = issued(authenticate(service, cookie=renewed))
    assert by_renewed == token


def test_a_live_bearer_token_wins_over_the_cookie_and_a_dead_one_does_not(service: Running) -> None:
    mine, _ = issued(authenticate(service))
    _, other_cookie = issued(authenticate(service))
    assert issued(authenticate(service, token=mine, cookie=other_cookie))[0] == mine
    other = issued(authenticate(service, cookie=other_cookie))[0]
    assert issued(authenticate(service, token=mine[:-1] + "!", cookie=other_cookie))[0] == other


def test_a_users_session_is_given_back_as_well(service: Running) -> None:
    token = logged_in(service, registered(service))
    given, cookie = issued(authenticate(service, token=token))
    assert given == token
    assert issued(authenticate(service, cookie=cookie))[0] == token


@pytest.mark.parametrize("kind", ["data", "json"])
@pytest.mark.parametrize("name", ["email", "username"])
def test_a_guest_logs_in(service: Running, kind: str, name: str) -> None:
    form = registered(service)
    guest, guest_cookie = issued(authenticate(service))
    body: dict[str, Any] = {kind: {"email": form[name], "password": PASSWORD, "x": "1"}}
    answer = post(service, "/api/login", token=guest, **body)
    token, cookie = issued(answer)
    assert token != guest
    status, me = whoami(service, token)
    assert (status, me["user"]["id"], me["session"]["door"]) == (200, form["id"], "auth-server")
    # The guest's token and cookie are worth nothing any more: with either, one is a new guest.
    assert whoami(service, guest)[0] == 401
    assert issued(authenticate(service, token=guest))[0] not in {guest, token}
    assert issued(authenticate(service, cookie=guest_cookie))[0] not in {guest, token}
    assert issued(authenticate(service, cookie=cookie))[0] == token


def test_the_guest_is_linked_to_the_account_in_the_book(service: Running) -> None:
    form = registered(service)
    guest, _ = issued(authenticate(service))
    token, _ = issued(log_in(service, guest, form["email"]))
    number = guest.partition("|")[0]
    told = [
        (one["type"], one.get("user_id"), one.get("reason")) for one in service.events("--stream", f"session-{number}")
    ]
    assert told == [
        ("guest.created", None, None),
        ("guest.linked", form["id"], None),
        ("session.closed", int(number), "replaced"),
    ]
    assert token.partition("|")[0] != number


@pytest.mark.parametrize("shown", [None, "x y", "1|" + "a" * 40, "x", "0|" + "a" * 40, "9" * 30 + "|" + "a" * 40])
def test_without_a_live_token_nobody_logs_in(service: Running, shown: str | None) -> None:
    form = registered(service)
    answer = log_in(service, shown, form["email"])
    assert refusal(answer, 401) == "Unauthenticated"
    assert answer.json() == {"message": "Unauthenticated"}
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_a_cookie_never_stands_in_for_the_token_at_login(service: Running) -> None:
    form = registered(service)
    _, cookie = issued(authenticate(service))
    answer = post(service, "/api/login", cookie=cookie, data={"email": form["email"], "password": PASSWORD})
    assert answer.json() == {"message": "Unauthenticated"}
    assert answer.status_code == 401


@pytest.mark.parametrize(
    "body", [{"data": {"email": "x", "password": "y"}}, {"content": b"{"}, {"json": []}, {"content": b"x" * 1_000}, {}]
)
def test_whoever_is_logged_in_is_told_so_before_anybody_looks_at_the_credentials(
    service: Running, body: dict[str, Any]
) -> None:
    token = logged_in(service, registered(service))
    answer = post(service, "/api/login", token=token, **body)
    assert refusal(answer, 406) == "already logged in"
    assert answer.json() == {"message": "already logged in"}
    assert whoami(service, token)[0] == 200


def test_wrong_credentials_are_one_answer_and_the_guest_stays(service: Running) -> None:
    form = registered(service)
    guest, _ = issued(authenticate(service))
    wrong = log_in(service, guest, form["email"], "wrong horse battery")
    unknown = log_in(service, guest, "nobody@example.org", PASSWORD)
    for answer in (wrong, unknown):
        assert refusal(answer, 422, fields=["email"])
    assert wrong.content == unknown.content
    assert issued(authenticate(service, token=guest))[0] == guest
    issued(log_in(service, guest, form["email"]))


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, ["email", "password"]),
        ({"data": {"email": "a@example.org"}}, ["password"]),
        ({"data": {"email": "", "password": ""}}, ["email", "password"]),
        ({"json": {"email": 1, "password": {"a": []}}}, ["email", "password"]),
        ({"json": {"password": "x"}}, ["email"]),
    ],
)
def test_fields_that_are_missing_are_named_and_the_guest_stays(
    service: Running, body: dict[str, Any], fields: list[str]
) -> None:
    guest, _ = issued(authenticate(service))
    refusal(post(service, "/api/login", token=guest, **body), 422, fields=fields)
    assert issued(authenticate(service, token=guest))[0] == guest


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"content": b"{", "headers": {"Content-Type": "application/json"}}, 400),
        ({"json": ["a"]}, 400),
        ({"content": b'{"email": "a", "email": "b"}', "headers": {"Content-Type": "application/json"}}, 400),
        ({"content": b"email=%ff", "headers": {"Content-Type": "application/x-www-form-urlencoded"}}, 400),
        ({"content": b"email=a", "headers": {"Content-Type": "text/plain"}}, 415),
        ({"content": b"email=a"}, 415),
        ({"files": {"email": b"a"}}, 415),
        ({"content": b"x" * 70_000, "headers": {"Content-Type": "application/x-www-form-urlencoded"}}, 413),
    ],
)
def test_a_body_that_is_neither_form_nor_json_is_refused_in_the_contracts_shape(
    service: Running, body: dict[str, Any], status: int
) -> None:
    guest, _ = issued(authenticate(service))
    answer = post(service, "/api/login", token=guest, **body)
    assert answer.status_code == status, answer.text
    # What is too long is ended by the listener, before any contract is asked; it speaks in this one's shape.
    refusal(answer, status)
    assert issued(authenticate(service, token=guest))[0] == guest


@pytest.mark.parametrize("path", ["/api/authenticate", "/api/login"])
@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
    ],
)
def test_another_sites_page_gets_no_cookie_set(service: Running, path: str, headers: dict[str, str]) -> None:
    before = len(service.events("--type", "guest.created"))
    refusal(post(service, path, headers=headers), 403)
    assert len(service.events("--type", "guest.created")) == before


def test_a_page_of_ours_gets_one(service: Running) -> None:
    issued(authenticate(service, headers={"Sec-Fetch-Site": "same-origin"}))
    issued(authenticate(service, headers={"Origin": service.http}))


def test_guests_are_no_session_at_other_addresses(service: Running) -> None:
    guest, _ = issued(authenticate(service))
    for method, path in (("DELETE", "/api/session"), ("PATCH", "/api/profile"), ("GET", "/admin/api/projections")):
        assert service.ask(method, path, {} if method == "PATCH" else None, token=guest).status_code == 401
    assert whoami(service, guest)[0] == 200


@pytest.mark.parametrize("path", ["/api/authenticate", "/api/login"])
def test_other_methods_are_not_taken(service: Running, path: str) -> None:
    answer = service.ask("GET", path)
    assert answer.status_code == 405
    assert answer.headers["Allow"] == "OPTIONS, POST"


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A service that takes few guests and few failures."""
    folder: Path = tmp_path_factory.mktemp("strict")
    with running(folder, **FAST | {"guests_in_all": 3, "throttle_account_failures": 2}) as found:
        yield found


def test_there_are_so_many_guests_and_no_more(strict: Running) -> None:
    tokens = [issued(authenticate(strict))[0] for _ in range(3)]
    answer = authenticate(strict)
    assert refusal(answer, 503)
    assert answer.headers["Retry-After"] == "60"
    # Whoever is there already is served as ever.
    assert issued(authenticate(strict, token=tokens[0]))[0] == tokens[0]
    form = registered(strict)
    issued(log_in(strict, tokens[0], form["email"]))

    # The account's throttle is that of every door, in this one's shape.
    for _ in range(2):
        refusal(log_in(strict, tokens[1], form["email"], "wrong horse battery"), 422, fields=["email"])
    answer = log_in(strict, tokens[1], form["email"])
    assert refusal(answer, 429)
    assert int(answer.headers["Retry-After"]) >= 1
    assert answer.json().keys() == {"message"}
