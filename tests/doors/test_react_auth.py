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
from service.doors.react_auth import FIELDS, REFUSED, Authenticate, Resume, fault, opened, read, status
from service.doors.route_protocol import Account
from service.errors import FieldError, Malformed, Refused, UnsupportedMedia

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


def test_fields_that_are_not_known_may_be_anything_and_stand_there_twice() -> None:
    more = '"x":1,"x":{"type":1,"type":2},"y":[1e999,%s,null],"username":1,"username":2' % ("9" * 5_000)
    assert read(JSON, f'{{{more},"type":"{RESUME}"}}'.encode()) == Resume()
    assert read(FORM, f"x=1&x=2&y&=&&username=1&username=2&type={RESUME}".encode()) == Resume()


@BOTH
def test_what_is_not_given_is_empty(kind: list[str]) -> None:
    assert read(kind, body(kind, {"type": AUTHENTICATE})) == Authenticate("", "")
    assert read(kind, body(kind, {"type": AUTHENTICATE, "username": "", "password": "p"})) == Authenticate("", "p")
    assert read(kind, body(kind, {"type": AUTHENTICATE, "username": "u"})) == Authenticate("u", "")


def test_a_form_may_be_written_in_more_than_one_way() -> None:
    wanted = Authenticate("a b", "\u2603%")
    for form in (
        f"type={AUTHENTICATE}&username=a+b&password=%E2%98%83%",
        f"password=\u2603%25&username=a%20b&type={AUTHENTICATE}",
        f"&&%74ype={AUTHENTICATE}&username=a b&password=%e2%98%83%&",
    ):
        assert read(FORM, form.encode()) == wanted
    # A semicolon divides nothing.
    assert read(FORM, f"type={AUTHENTICATE}&username=a;password=b".encode()) == Authenticate("a;password=b", "")


def test_json_may_be_written_in_more_than_one_way() -> None:
    written = ' {\n"pass\\u0077ord" : "\\u2603%",\t"type":"fantaptik\\/react-auth\\/authenticate","username":"a b"}\r\n'
    assert read(JSON, written.encode()) == Authenticate("a b", "\u2603%")


@pytest.mark.parametrize(
    "said",
    [
        "application/json", "Application/JSON", "application/json;charset=utf-8", 'application/json; charset="UTF-8"',
        "application/json ; ",
    ],
)  # fmt: skip
def test_the_content_type_is_read_as_headers_are(said: str) -> None:
    assert read([said], body(JSON, {"type": RESUME})) == Resume()
    as_form = said.lower().replace("application/json", "application/x-www-form-urlencoded")
    assert read([as_form], body(FORM, {"type": RESUME})) == Resume()


@pytest.mark.parametrize(
    "said",
    [
        [], [""], ["text/plain"], ["multipart/form-data; boundary=x"], ["application/json; charset=latin-1"],
        ["application/x-www-form-urlencoded; charset=utf-16"], [*JSON, *JSON], [*JSON, *FORM], ["application/jsonx"],
        ["application/json, application/json"], ["application/x-www-form-urlencoded\0"],
    ],
)  # fmt: skip
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
    sentence = "`type` is none that this address knows."
    assert malformed(kind, body(kind, {"type": unknown, "username": "u", "password": "p"})) == sentence


@BOTH
def test_a_body_without_a_type_is_malformed(kind: list[str]) -> None:
    assert malformed(kind, body(kind, {"username": "u", "password": "p"})) == "`type` is missing."


def test_a_body_of_nothing_is_malformed() -> None:
    assert malformed(FORM, b"") == "`type` is missing."
    assert malformed(JSON, b"{}") == "`type` is missing."
    assert malformed(JSON, b"") == "The body is not valid JSON."


WRONG = ["null", "1", "1.5", "true", "[]", '["x"]', "{}", '{"a":"b"}', "9" * 5_000]


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("field", ["type", "username", "password"])
def test_a_field_that_is_no_string_is_named(field: str, wrong: str) -> None:
    fields = {"type": AUTHENTICATE, "username": "u", "password": "p"}
    text = json.dumps(fields | {field: "HERE"}).replace('"HERE"', wrong)
    assert malformed(JSON, text.encode()) == f"`{field}` must be a string."


@pytest.mark.parametrize("field", ["type", "username", "password"])
def test_a_field_that_stands_there_twice_is_named(field: str) -> None:
    fields = {"type": AUTHENTICATE, "username": "u", "password": "p"}
    sentence = f"`{field}` stands there twice."
    assert malformed(FORM, body(FORM, fields) + b"&" + body(FORM, {field: fields[field]})) == sentence
    text = body(JSON, fields)[:-1] + f',"{field}":"{fields[field]}"}}'.encode()
    assert malformed(JSON, text) == sentence
    assert malformed(JSON, text.replace(field.encode(), f"\\u{ord(field[0]):04x}{field[1:]}".encode(), 1)) == sentence


NO_OBJECT = {
    "an array": "[]", "pairs": f'[["type","{RESUME}"]]', "a string": f'"{RESUME}"', "a number": "1", "null": "null",
}  # fmt: skip
NO_JSON = {
    "nothing": "", "blanks": " \n ", "no JSON": "hello", "a form": f"type={RESUME}",
    "half an object": f'{{"type":"{RESUME}"', "two objects": f'{{"type":"{RESUME}"}}{{}}',
    "a comma too many": f'{{"type":"{RESUME}",}}', "a comment": f'{{"type":"{RESUME}"/**/}}',
    "NaN": f'{{"type":"{RESUME}","x":NaN}}', "Infinity": f'{{"type":"{RESUME}","x":[-Infinity]}}',
    "half a surrogate pair": f'{{"type":"{RESUME}","x":"\\ud800"}}',
    "the other half": f'{{"type":"{AUTHENTICATE}","password":"\\udc00"}}',
    "a bare NUL": f'{{"type":"{RESUME}","x":"\0"}}', "a byte order mark": f'\ufeff{{"type":"{RESUME}"}}',
    "a number with a leading zero": f'{{"type":"{RESUME}","x":01}}',
}  # fmt: skip


@pytest.mark.parametrize("text", NO_OBJECT.values(), ids=NO_OBJECT.keys())
def test_what_is_no_object_is_malformed(text: str) -> None:
    assert malformed(JSON, text.encode()) == "The body is not a JSON object."


@pytest.mark.parametrize("text", NO_JSON.values(), ids=NO_JSON.keys())
def test_what_is_no_json_is_malformed(text: str) -> None:
    assert malformed(JSON, text.encode()) == "The body is not valid JSON."


@pytest.mark.parametrize("deep", ["[" * 32 + "]" * 32, '{"y":' * 32 + "1" + "}" * 32, "[" * 60_000])
def test_what_is_nested_too_deep_is_malformed(deep: str) -> None:
    assert malformed(JSON, f'{{"type":"{RESUME}","x":{deep}}}'.encode()) == "The body is nested deeper than 32 levels."


def test_as_deep_as_the_limit_is_taken() -> None:
    assert read(JSON, f'{{"type":"{RESUME}","x":{"[" * 31 + "]" * 31}}}'.encode()) == Resume()
    assert read(FORM, f"type={RESUME}&x={'[' * 40}".encode()) == Resume()


@pytest.mark.parametrize("bad", [b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xc0\x80", b"\xf8\x88\x80\x80\x80"])
def test_what_is_not_utf_8_is_malformed(bad: bytes) -> None:
    sentence = "The body is not UTF-8."
    assert malformed(JSON, b'{"type":"x","password":"' + bad + b'"}') == sentence
    assert malformed(FORM, b"type=x&password=" + bad) == sentence
    escaped = "".join(f"%{byte:02X}" for byte in bad)
    assert malformed(FORM, f"type={RESUME}&more={escaped}".encode()) == sentence


def test_a_form_has_a_bounded_number_of_fields() -> None:
    form = f"type={RESUME}" + "&x=1" * (FIELDS - 1)
    assert read(FORM, form.encode()) == Resume()
    assert malformed(FORM, form.encode() + b"&x=1") == "The body has more than 100 fields."


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


def test_a_refusal_is_what_the_contract_shows() -> None:
    assert REFUSED == b'{"success":false,"session":"","user":{}}'


def test_a_fault_is_a_refusal_with_a_sentence() -> None:
    assert fault("No.") == b'{"success":false,"session":"","user":{},"message":"No."}'


STATUS: list[tuple[Refused, int]] = [
    (errors.BadCredentials(), 200),
    (errors.Unauthenticated(), 200),
    (errors.Throttled(7), 200),
    (errors.TooManyGuests(7), 200),
    (errors.Malformed(), 400),
    (errors.Forbidden(), 403),
    (errors.CrossSite(), 403),
    (errors.TooLarge(), 413),
    (errors.UnsupportedMedia(), 415),
    (errors.InvalidFields(FieldError("username", "No.")), 422),
    (errors.InternalError(), 500),
    (errors.Overloaded("hashing"), 503),
    (errors.Unavailable("no room"), 503),
]


@pytest.mark.parametrize(("refusal", "code"), STATUS, ids=[type(refusal).__name__ for refusal, _ in STATUS])
def test_each_refusal_has_its_status(refusal: Refused, code: int) -> None:
    assert status(refusal) == code
