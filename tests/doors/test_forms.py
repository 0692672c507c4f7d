"""Bodies that are a form or JSON."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.doors.forms import FORM_TYPE, JSON_TYPE, MOST_FIELDS, fields_of, is_media
from service.errors import Malformed, Refused, UnsupportedMedia

texts = st.text(st.characters(codec="utf-8"), max_size=20)


@given(st.dictionaries(texts, texts, min_size=1, max_size=10))
def test_what_was_filled_in_is_what_is_read(fields: dict[str, str]) -> None:
    assert fields_of([FORM_TYPE], urlencode(fields).encode()) == fields
    assert fields_of([JSON_TYPE], json.dumps(fields).encode()) == fields


def test_no_body_has_no_fields_whatever_it_is_said_to_be() -> None:
    for said in ([], [FORM_TYPE], [JSON_TYPE], ["text/html"], [JSON_TYPE, FORM_TYPE]):
        assert fields_of(said, b"") == {}


@pytest.mark.parametrize(
    ("said", "is_json"),
    [
        (["application/json"], True),
        (["Application/JSON; charset=UTF-8"], True),
        (['application/json;charset="utf-8"'], True),
        (["application/json; charset=latin-1"], False),
        (["application/json; boundary=x"], False),
        (["application/jsonp"], False),
        (["application/json", "application/json"], False),
        ([], False),
        ([""], False),
    ],
)
def test_the_type_is_said_once_and_in_utf_8(said: list[str], is_json: bool) -> None:
    assert is_media(said, JSON_TYPE) is is_json


def refusal(said: list[str], body: bytes) -> Refused:
    with pytest.raises(Refused) as refused:
        fields_of(said, body)
    return refused.value


@pytest.mark.parametrize("said", [[], ["text/plain"], ["multipart/form-data; boundary=x"], [JSON_TYPE, FORM_TYPE]])
def test_other_types_are_refused(said: list[str]) -> None:
    assert type(refusal(said, b"email=a")) is UnsupportedMedia


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (FORM_TYPE, b"email=a&email=b"),
        (FORM_TYPE, b"secret=%ff"),
        (FORM_TYPE, "secret=é".encode("latin-1")),
        (FORM_TYPE, b"&".join(b"secret%d=1" % number for number in range(MOST_FIELDS + 1))),
        (JSON_TYPE, b'{"secret": 1, "secret": 2}'),
        (JSON_TYPE, b'{"a": {"secret": 1, "secret": 2}}'),
        (JSON_TYPE, b'["secret"]'),
        (JSON_TYPE, b'"secret"'),
        (JSON_TYPE, b"secret=1"),
        (JSON_TYPE, b'{"secret": "\xff"}'),
        (JSON_TYPE, b'{"secret": NaN}'),
        (JSON_TYPE, b'{"secret": ' + b"[" * 40 + b"]" * 40 + b"}"),
        (JSON_TYPE, b"[" * 60_000),
    ],
)
def test_what_is_neither_is_malformed_and_nothing_of_it_is_repeated(kind: str, body: bytes) -> None:
    refused = refusal([kind], body)
    assert type(refused) is Malformed
    assert "secret" not in refused.message


def test_fields_without_a_value_are_empty_and_plus_is_a_space() -> None:
    expected: dict[str, Any] = {"email": "", "password": "a b&c", "x": ""}
    assert fields_of([FORM_TYPE], b"email=&password=a+b%26c&x") == expected


def test_letters_come_percent_encoded_or_as_they_are() -> None:
    for body in (b"email=zo%C3%AB", "email=zoë".encode(), b"e%6Dail=zo%c3%ab"):
        assert fields_of([FORM_TYPE], body) == {"email": "zoë"}
