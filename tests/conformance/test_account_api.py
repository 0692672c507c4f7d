"""The account API as a client meets it: black box, over a real socket, against a running service."""

from __future__ import annotations

import json
import socket
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from tests.conformance.running import Running, fresh

PASSWORD = "correct horse battery"
USER_FIELDS = {"id", "username", "nickname", "email", "level", "active", "created_at", "last_contact"}


def person(**changes: Any) -> dict[str, Any]:
    name = fresh("person")
    return {"username": name, "nickname": name, "password": PASSWORD, "email": f"{name}@example.org"} | changes


def registered(service: Running, **changes: Any) -> dict[str, Any]:
    form = person(**changes)
    answer = service.ask("POST", "/api/register", form)
    assert answer.status_code == 201, answer.text
    assert answer.json().keys() == {"id"}
    return {**form, **answer.json()}


def logged_in(service: Running, form: dict[str, Any]) -> str:
    answer = service.ask("POST", "/api/session", {"identifier": form["username"], "password": form["password"]})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["token"])


def refusal(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Cache-Control"] == "no-store"
    body = answer.json()
    assert body.keys() == {"error"}
    error: dict[str, Any] = body["error"]
    assert error["code"] == code
    assert isinstance(error["message"], str)
    assert error["message"]
    assert error.keys() <= {"code", "message", "fields", "retry_after"}
    return error


def faults(answer: httpx.Response) -> list[str]:
    error = refusal(answer, 422, "invalid_fields")
    assert all(fault.keys() == {"field", "message"} for fault in error["fields"])
    return [fault["field"] for fault in error["fields"]]


def moment(text: str) -> datetime:
    assert text.endswith("Z")
    return datetime.fromisoformat(text)


def test_a_life(service: Running) -> None:
    form = registered(service)
    answer = service.ask("POST", "/api/session", {"identifier": form["email"], "password": PASSWORD})
    assert answer.status_code == 201
    assert answer.headers["Cache-Control"] == "no-store"
    body = answer.json()
    assert body.keys() == {"token", "user", "device_key"}
    number, _, secret = body["token"].partition("|")
    assert number.isdigit()
    assert len(secret) == 40
    assert secret.isalnum()
    token = body["token"]

    answer = service.ask("GET", "/api/session", token=token)
    assert answer.status_code == 200
    me = answer.json()
    assert me.keys() == {"user", "session"}
    assert me["user"].keys() == USER_FIELDS
    assert me["session"].keys() == {"id", "opened_at", "expires_at", "seen_at", "door"}
    assert me["user"] == body["user"]
    assert {name: me["user"][name] for name in ("id", "username", "nickname", "email", "level", "active")} == {
        **{name: form[name] for name in ("id", "username", "nickname", "email")},
        "level": 1,
        "active": True,
    }
    assert (me["session"]["id"], me["session"]["door"]) == (int(number), "account-api")
    lifetime = moment(me["session"]["expires_at"]) - moment(me["session"]["opened_at"])
    assert lifetime == timedelta(days=1)
    assert abs(datetime.now(UTC) - moment(me["user"]["created_at"])) < timedelta(minutes=2)
    assert moment(me["user"]["last_contact"]) >= moment(me["user"]["created_at"])

    answer = service.ask("PATCH", "/api/profile", {"nickname": "New " + form["username"], "email": None}, token=token)
    assert answer.status_code == 200
    assert answer.json()["user"] == me["user"] | {"nickname": "New " + form["username"], "email": None}

    assert service.ask("DELETE", "/api/session", token=token).status_code == 204
    refusal(service.ask("GET", "/api/session", token=token), 401, "unauthenticated")

    told = [(one["type"], one["door"], one["actor"]) for one in service.events("--user", str(form["id"]))]
    assert told == [
        ("user.registered", "account-api", "anonymous"),
        ("session.opened", "account-api", f"user-{form['id']}"),
        ("profile.changed", "account-api", f"user-{form['id']}"),
        ("session.closed", "account-api", f"user-{form['id']}"),
    ]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("username", "abc"),
        ("username", "a" * 33),
        ("username", "has space"),
        ("username", "has@sign"),
        ("username", "admin"),
        ("username", "ADMIN"),
        ("username", "nul\0nul"),
        ("nickname", "x"),
        ("nickname", "x" * 33),
        ("nickname", "root"),
        ("nickname", "nul\0nul"),
        ("password", "short77"),
        ("password", "password123"),
        ("password", "nul\0nulnul"),
        ("email", "nowhere"),
        ("email", "a@" + "b" * 254),
        ("email", ""),
    ],
)
def test_each_field_has_its_rule(service: Running, field: str, value: str) -> None:
    assert faults(service.ask("POST", "/api/register", person(**{field: value}))) == [field]


def test_a_password_is_no_name_of_its_owner(service: Running) -> None:
    form = person()
    assert faults(service.ask("POST", "/api/register", form | {"password": form["email"]})) == ["password"]


def test_names_are_taken_however_they_are_written(service: Running) -> None:
    form = registered(service)
    for field in ("username", "nickname", "email"):
        for written in (form[field], form[field].upper()):
            assert faults(service.ask("POST", "/api/register", person(**{field: written}))) == [field]
    token = logged_in(service, registered(service))
    for field in ("nickname", "email"):
        assert faults(service.ask("PATCH", "/api/profile", {field: form[field]}, token=token)) == [field]


def test_a_name_set_free_is_anybodys(service: Running) -> None:
    form = registered(service)
    token = logged_in(service, form)
    assert service.ask("PATCH", "/api/profile", {"email": None}, token=token).status_code == 200
    registered(service, email=form["email"])


def test_names_may_be_in_any_script_and_passwords_long(service: Running) -> None:
    form = registered(service, username=fresh("Ångström"), nickname=fresh("мир "), password="пароль 🔐 " * 100)
    answer = service.ask("GET", "/api/session", token=logged_in(service, form))
    assert (answer.json()["user"]["username"], answer.json()["user"]["nickname"]) == (
        form["username"],
        form["nickname"],
    )


def test_a_wrong_login_looks_the_same_whatever_was_wrong(service: Running) -> None:
    form = registered(service)
    told = [
        service.ask("POST", "/api/session", {"identifier": identifier, "password": "wrong horse"})
        for identifier in (form["username"], form["email"], fresh("nobody"), "", "x" * 1000, "nul\0", "a@b@c")
    ]
    bodies = {json.dumps(refusal(answer, 401, "bad_credentials")) for answer in told}
    assert len(bodies) == 1
    assert {answer.headers["WWW-Authenticate"] for answer in told} == {'Bearer realm="gatebook"'}


def test_guessing_is_throttled(service: Running) -> None:
    form = registered(service)
    for _ in range(10):
        answer = service.ask("POST", "/api/session", {"identifier": form["username"], "password": "wrong horse"})
        if answer.status_code != 401:
            break
    error = refusal(answer, 429, "throttled")
    assert answer.headers["Retry-After"] == str(error["retry_after"])
    assert error["retry_after"] >= 1
    right = {"identifier": form["email"], "password": PASSWORD}
    refusal(service.ask("POST", "/api/session", right), 429, "throttled")


def test_a_new_password_ends_every_other_session(service: Running) -> None:
    form = registered(service)
    mine, other = logged_in(service, form), logged_in(service, form)
    change = {"old_password": PASSWORD, "new_password": "battery horse staple"}
    assert faults(service.ask("PATCH", "/api/profile", change | {"old_password": "wrong"}, token=mine)) == [
        "old_password"
    ]
    assert faults(service.ask("PATCH", "/api/profile", {"new_password": "battery horse"}, token=mine)) == [
        "old_password"
    ]
    assert service.ask("PATCH", "/api/profile", change, token=mine).status_code == 200
    assert service.ask("GET", "/api/session", token=mine).status_code == 200
    refusal(service.ask("GET", "/api/session", token=other), 401, "unauthenticated")
    refusal(
        service.ask("POST", "/api/session", {"identifier": form["username"], "password": PASSWORD}),
        401,
        "bad_credentials",
    )
    logged_in(service, form | {"password": "battery horse staple"})


def test_a_change_is_whole_or_not_at_all(service: Running) -> None:
    form = registered(service)
    token = logged_in(service, form)
    change = {"nickname": fresh("other"), "email": "nowhere", "new_password": "short", "old_password": PASSWORD}
    assert faults(service.ask("PATCH", "/api/profile", change, token=token)) == ["email", "new_password"]
    assert service.ask("GET", "/api/session", token=token).json()["user"]["nickname"] == form["nickname"]


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/api/session"), ("DELETE", "/api/session"), ("POST", "/api/logout"), ("PATCH", "/api/profile")],
)
def test_a_session_is_needed(service: Running, method: str, path: str) -> None:
    answer = service.ask(method, path, {} if method == "PATCH" else None)
    refusal(answer, 401, "unauthenticated")
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="gatebook"'
    token = logged_in(service, registered(service))
    number, _, secret = token.partition("|")
    wrongs = [
        f"{number}|{secret[:-1]}{'A' if secret[-1] != 'A' else 'B'}",
        f"{int(number) + 1000}|{secret}",
        "x",
        secret,
    ]
    for wrong in [*wrongs, f"0{token}", f"{2**70}|{secret}", f" {number}|{secret[:-1]}"]:
        answer = service.ask(method, path, {} if method == "PATCH" else None, token=wrong)
        refusal(answer, 401, "unauthenticated")
        assert answer.headers["WWW-Authenticate"] == 'Bearer realm="gatebook", error="invalid_token"'
    assert service.ask("GET", "/api/session", token=token).status_code == 200


def raw(service: Running, body: bytes, path: str = "/api/session", kind: str = "application/json") -> httpx.Response:
    return httpx.post(f"{service.http}{path}", content=body, headers={"Content-Type": kind}, trust_env=False)


@pytest.mark.parametrize("path", ["/api/register", "/api/session"])
def test_bad_bodies_are_malformed_and_write_nothing(service: Running, path: str) -> None:
    head = service.events()[-1]["position"]
    bombs = [b"[" * 60_000, b'{"a":' * 10_000, b'{"identifier":' + b"[" * 60_000, b"{" + b'"a":{' * 50 + b"}" * 51]
    broken = [b"", b"{", b"null", b"[]", b"1", b'{"identifier":"\xff","password":"x"}', b"\x00", b'{"identifier":NaN}']
    for body in [*bombs, *broken]:
        refusal(raw(service, body, path), 400, "malformed")
    good: dict[str, Any] = person() if path == "/api/register" else {"identifier": "someone", "password": "p" * 8}
    for name in good.keys() - {"email"}:
        refusal(service.ask("POST", path, {key: value for key, value in good.items() if key != name}), 400, "malformed")
        wrongs: list[Any] = [None, 1, [], {}, True]
        for wrong in wrongs:
            refusal(service.ask("POST", path, good | {name: wrong}), 400, "malformed")
    error = refusal(service.ask("POST", path, good | {"remember_me": True}), 400, "malformed")
    assert "remember_me" not in error["message"]
    refusal(raw(service, json.dumps(good).encode(), path, "text/plain"), 415, "unsupported_media")
    assert raw(service, b" " * 65_537, path).status_code == 413
    assert raw(service, b" " * 65_537, path).json()["error"]["code"] == "too_large"
    assert service.events()[-1]["position"] == head


def test_a_body_that_never_ends_is_cut(service: Running) -> None:
    host, _, port = service.http.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(
            b"POST /api/session HTTP/1.1\r\nhost: x\r\n"
            b"content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        chunk = b"4000\r\n" + b"[" * 0x4000 + b"\r\n"
        try:
            for _ in range(8):
                connection.sendall(chunk)
        except OSError:
            pass  # it has answered and closed already
        assert b"413" in connection.recv(65_536).split(b"\r\n")[0]


def test_what_is_not_there_and_what_is_not_done(service: Running) -> None:
    refusal(service.ask("GET", "/api/nothing"), 404, "no_such_route")
    refusal(service.ask("GET", "/"), 404, "no_such_route")
    answer = service.ask("PUT", "/api/session", {})
    refusal(answer, 405, "method_not_allowed")
    assert answer.headers["Allow"] == "DELETE, GET, HEAD, OPTIONS, POST"
    answer = service.ask("OPTIONS", "/api/profile")
    assert (answer.status_code, answer.headers["Allow"]) == (204, "OPTIONS, PATCH")


def test_health(service: Running) -> None:
    answer = service.ask("GET", "/health/live")
    assert (answer.status_code, answer.json()) == (200, {"status": "live"})
    answer = service.ask("GET", "/health/ready")
    assert (answer.status_code, answer.json()) == (200, {"status": "ready"})
