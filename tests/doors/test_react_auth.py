"""react-auth over HTTP, body by body: what a body asks for, and what the answers look like, byte for byte."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service import errors
from service.doors.react_auth import Authenticate, Resume, opened, read, refused
from service.doors.route_protocol import Account
from service.errors import Malformed, Refused, UnsupportedMedia

FORM = ["application/x-www-form-urlencoded"]
JSON = ["application/json"]
AUTHENTICATE = "fantaptik/react-auth/authenticate"
RESUME = "fantaptik/react-auth/resume"
NOON = datetime(2026, 11, 21, 12, 30, 15, 250_000, tzinfo=UTC)
ALICE = Account(17, "alice", "Alice \u2603", 1, True, NOON, NOON)
ALICE_SHOWN = (
    '{"id":17,"username":"alice","nickname":"Alice \u2603","level":1,"active":true,'
    '"created_at":"2026-11-21T12:30:15.250000Z","last_contact":"2026-11-21T12:30:15.250000Z"}'
)
TYPE_AT_FAULT = "`type` is missing, or none that this address knows."
BOTH = pytest.mark.parametrize("kind", [FORM, JSON], ids=["form", "json"])


def body(kind: list[str], fields: dict[str, str]) -> bytes:
    """The fields as the published client's qs writes them, or as JSON."""
    if kind == JSON:
        return json.dumps(fields).encode()
    return "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in fields.items()).encode()


def malformed(kind: list[str], data: bytes) -> str:
    with pytest.raises(Malformed) as refused:
        read(kind, data)
    return refused.value.message


@BOTH
def test_authenticate_takes_username_and_password(kind: list[str]) -> None:
    fields = {"type": AUTHENTICATE, "username": "Zo\u00eb", "password": " a+b & c=d %41 \0 \U0001f600 "}
    assert read(kind, body(kind, fields)) == Authenticate(fields["username"], fields["password"])


def test_a_form_as_the_published_client_writes_it() -> None:
    form = b"type=fantaptik%2Freact-auth%2Fauthenticate&username=ann&password=a%20b"
    assert read(FORM, form) == Authenticate("ann", "a b")
    assert read(FORM, b"type=fantaptik%2Freact-auth%2Fresume") == Resume()


@BOTH
def test_resume_takes_nothing(kind: list[str]) -> None:
    assert read(kind, body(kind, {"type": RESUME})) == Resume()


@BOTH
def test_fields_that_are_not_known_are_passed_over(kind: list[str]) -> None:
    more = {"more": "x", "session": "4|x", "user[id]": "4", "": "nothing"}
    assert read(kind, body(kind, more | {"type": AUTHENTICATE, "username": "u", "password": "p"})) == Authenticate(
        "u", "p"
    )
    assert read(kind, body(kind, more | {"type": RESUME, "username": "u"})) == Resume()


def test_fields_that_are_not_known_may_be_anything() -> None:
    more = '"x":[1e99,null,{"type":1}],"username":1,"password":null'
    assert read(JSON, f'{{{more},"type":"{RESUME}"}}'.encode()) == Resume()
    assert read(FORM, f"x=1&y&=&&username=1&type={RESUME}".encode()) == Resume()


@BOTH
def test_what_is_not_given_is_empty(kind: list[str]) -> None:
    assert read(kind, body(kind, {"type": AUTHENTICATE})) == Authenticate("", "")
    assert read(kind, body(kind, {"type": AUTHENTICATE, "username": "", "password": "p"})) == Authenticate("", "p")
    assert read(kind, body(kind, {"type": AUTHENTICATE, "username": "u"})) == Authenticate("u", "")


def test_a_form_may_be_written_in_more_than_one_way() -> None:
    wanted = Authenticate("a b", "\u2603%")
    for form in (
        f"type={AUTHENTICATE}&username=a+b&password=%E2%98%83%",
        f"password=%E2%98%83%25&username=a%20b&type={AUTHENTICATE}",
        f"&&%74ype={AUTHENTICATE}&username=a b&password=%e2%98%83%&",
    ):
        assert read(FORM, form.encode()) == wanted
    # A semicolon divides nothing.
    assert read(FORM, f"type={AUTHENTICATE}&username=a;password=b".encode()) == Authenticate("a;password=b", "")


def test_json_may_be_written_in_more_than_one_way() -> None:
    written = ' {\n"pass\\u0077ord" : "\\u2603%",\t"type":"fantaptik\\/react-auth\\/authenticate","username":"a b"}\r\n'
    assert read(JSON, written.encode()) == Authenticate("a b", "\u2603%")


@pytest.mark.parametrize("said", [[], [""], ["text/plain"], ["multipart/form-data; boundary=x"], [*JSON, *FORM]])
def test_any_other_content_type_is_unsupported(said: list[str]) -> None:
    for kind in (FORM, JSON):
        with pytest.raises(UnsupportedMedia, match=r"must be a form or JSON"):
            read(said, body(kind, {"type": RESUME}))


@BOTH
@pytest.mark.parametrize(
    "unknown",
    ["", "authenticate", "fantaptik/react-auth", "Fantaptik/react-auth/resume", f"{RESUME}\0", f" {RESUME}",
     "fantaptik/react-auth/socket/resume", "fantaptik/react-auth/close"],
)  # fmt: skip
def test_a_type_that_is_not_known_is_malformed(kind: list[str], unknown: str) -> None:
    assert malformed(kind, body(kind, {"type": unknown, "username": "u", "password": "p"})) == TYPE_AT_FAULT


@BOTH
def test_a_body_without_a_type_is_malformed(kind: list[str]) -> None:
    assert malformed(kind, body(kind, {"username": "u", "password": "p"})) == TYPE_AT_FAULT
    assert malformed(kind, b"") == TYPE_AT_FAULT


WRONG = ["null", "1", "1.5", "true", "[]", '["x"]', "{}", '{"a":"b"}']


@pytest.mark.parametrize("wrong", WRONG)
def test_a_field_that_is_no_string_is_named(wrong: str) -> None:
    fields = {"type": AUTHENTICATE, "username": "u", "password": "p"}
    sentences = {"type": TYPE_AT_FAULT} | {name: f"`{name}` must be a string." for name in ("username", "password")}
    for field, sentence in sentences.items():
        text = json.dumps(fields | {field: "HERE"}).replace('"HERE"', wrong)
        assert malformed(JSON, text.encode()) == sentence


@pytest.mark.parametrize("field", ["type", "username", "password"])
def test_a_field_that_stands_there_twice_is_malformed(field: str) -> None:
    fields = {"type": AUTHENTICATE, "username": "u", "password": "p"}
    again = {field: fields[field]}
    assert "twice" in malformed(FORM, body(FORM, fields) + b"&" + body(FORM, again))
    assert "twice" in malformed(JSON, body(JSON, fields)[:-1] + b"," + body(JSON, again)[1:])


NO_MESSAGE = {
    "an array": "[]", "pairs": f'[["type","{RESUME}"]]', "a string": f'"{RESUME}"', "null": "null", "no JSON": "hello",
    "half an object": f'{{"type":"{RESUME}"', "a comma too many": f'{{"type":"{RESUME}",}}',
    "NaN": f'{{"type":"{RESUME}","x":NaN}}', "half a surrogate pair": f'{{"type":"{RESUME}","x":"\\ud800"}}',
    "the other half": f'{{"type":"{AUTHENTICATE}","password":"\\udc00"}}',
    "a bare NUL": f'{{"type":"{RESUME}","x":"\0"}}',
    "a byte order mark": f'\ufeff{{"type":"{RESUME}"}}', "too deep": f'{{"type":"{RESUME}","x":{"[" * 32}{"]" * 32}}}',
}  # fmt: skip


@pytest.mark.parametrize("text", NO_MESSAGE.values(), ids=NO_MESSAGE.keys())
def test_what_is_no_message_is_malformed(text: str) -> None:
    assert malformed(JSON, text.encode())


@pytest.mark.parametrize("bad", [b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xc0\x80", b"\xf8\x88\x80\x80\x80"])
def test_what_is_not_utf_8_is_malformed(bad: bytes) -> None:
    fields = {"type": AUTHENTICATE, "username": "u", "password": "HERE"}
    assert malformed(JSON, body(JSON, fields).replace(b"HERE", bad))
    assert malformed(FORM, body(FORM, fields).replace(b"HERE", "".join(f"%{byte:02X}" for byte in bad).encode()))


TEXTS = st.text(st.characters(exclude_categories=["Cs"]))


@given(TEXTS, TEXTS)
@pytest.mark.parametrize("kind", [FORM, JSON], ids=["form", "json"])
def test_names_and_passwords_arrive_as_they_were_typed(kind: list[str], username: str, password: str) -> None:
    fields = {"type": AUTHENTICATE, "username": username, "password": password}
    assert read(kind, body(kind, fields)) == Authenticate(username, password)


BITS = st.lists(
    st.sampled_from(
        ["{", "}", "[", "]", ",", ":", '"', '"type"', f'"{RESUME}"', f'"{AUTHENTICATE}"', '"password"', "&", "=", "%",
         "type", RESUME, "null", "1", "-", "e", ".", "\\", "\\ud800", "u", "NaN", "\0", "\n", " ", "\xff", "%FF"]
    ),
    max_size=40,
).map("".join)  # fmt: skip


@given(st.one_of(st.binary(max_size=200), BITS.map(str.encode)))
@pytest.mark.parametrize("kind", [FORM, JSON], ids=["form", "json"])
def test_whatever_a_body_holds_it_is_read_or_malformed(kind: list[str], data: bytes) -> None:
    with suppress(Malformed):
        assert isinstance(read(kind, data), Authenticate | Resume)


def test_a_refusal_repeats_nothing_of_the_body() -> None:
    for text in ('{"type":"hunter2"}', '{"type":"hunter2"', '{"type":["hunter2"]}', '{"hunter2":1}', "hunter2"):
        assert "hunter2" not in malformed(JSON, text.encode())
    assert "hunter2" not in malformed(FORM, b"type=hunter2")


def test_a_call_shows_no_password() -> None:
    assert repr(Authenticate("ann", "hunter2")) == "Authenticate(\u2026)"
    assert Authenticate("ann", "hunter2").__rich_repr__() == []


# Answers


def test_a_session_is_shown_in_full() -> None:
    shown = f'{{"success":true,"session":"4|k","user":{ALICE_SHOWN}}}'
    assert opened("4|k", ALICE).decode() == shown


NOBODY = '{"success":false,"session":"","user":{}}'


@pytest.mark.parametrize("refusal", [errors.BadCredentials(), errors.Unauthenticated(), errors.Throttled(7)], ids=repr)
def test_nobody_is_authenticated_as_the_contract_shows_it(refusal: Refused) -> None:
    assert refused(refusal) == (200, NOBODY.encode())


FAULTS: list[tuple[Refused, int]] = [
    (errors.Malformed("No."), 400),
    (errors.Forbidden(), 403),
    (errors.CrossSite(), 403),
    (errors.TooLarge(), 413),
    (errors.UnsupportedMedia(), 415),
    (errors.InternalError(), 500),
    (errors.Overloaded("hashing"), 503),
    (errors.Unavailable("no room"), 503),
]


@pytest.mark.parametrize(("refusal", "code"), FAULTS, ids=[type(refusal).__name__ for refusal, _ in FAULTS])
def test_everything_else_has_its_status_and_a_sentence(refusal: Refused, code: int) -> None:
    assert refused(refusal) == (code, f'{NOBODY[:-1]},"message":"{refusal.message}"}}'.encode())
