"""The auth-server contract, body by body: who logs in, and what every refusal looks like."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from service import errors
from service.doors.auth_server import Credentials, TokenIssued, read_login, refused
from service.doors.forms import FORM_TYPE, JSON_TYPE
from service.errors import AUTH_SERVER_STATUS, FieldError, InvalidFields, Overloaded, Refused, Throttled, Unavailable


def shown(refusal: Refused) -> tuple[int, dict[str, Any]]:
    status, problem = refused(refusal)
    return status, json.loads(msgspec.json.encode(problem))


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (FORM_TYPE, b"email=a%40example.org&password=correct+horse"),
        (JSON_TYPE, b'{"email": "a@example.org", "password": "correct horse"}'),
        (JSON_TYPE, b'{"remember": [1], "email": "a@example.org", "password": "correct horse", "level": 2}'),
    ],
)
def test_credentials_come_as_a_form_or_as_json_and_what_else_is_there_is_passed_over(kind: str, body: bytes) -> None:
    assert read_login([kind], body) == Credentials("a@example.org", "correct horse")


@pytest.mark.parametrize(
    ("body", "at_fault"),
    [
        (b"{}", ["email", "password"]),
        (b"", ["email", "password"]),
        (b'{"email": "a@example.org"}', ["password"]),
        (b'{"password": "x"}', ["email"]),
        (b'{"email": "", "password": "x"}', ["email"]),
        (b'{"email": "a", "password": ""}', ["password"]),
        (b'{"email": 5, "password": null}', ["email", "password"]),
        (b'{"email": ["a"], "password": {"x": 1}}', ["email", "password"]),
        (b'{"Email": "a", "password": "x"}', ["email"]),
    ],
)
def test_a_field_that_is_missing_or_no_text_is_named(body: bytes, at_fault: list[str]) -> None:
    with pytest.raises(InvalidFields) as found:
        read_login([JSON_TYPE], body)
    status, problem = shown(found.value)
    assert status == 422
    assert list(problem) == ["message", "errors"]
    assert list(problem["errors"]) == at_fault
    assert all(len(sentences) == 1 and sentences[0] for sentences in problem["errors"].values())


def test_the_contracts_own_words() -> None:
    assert shown(errors.Unauthenticated()) == (401, {"message": "Unauthenticated"})
    assert shown(errors.AlreadyLoggedIn()) == (406, {"message": "already logged in"})


def test_bad_credentials_stand_beside_the_email_and_say_not_which() -> None:
    status, problem = shown(errors.BadCredentials())
    assert status == 422
    assert problem == {"message": errors.BadCredentials.message, "errors": {"email": [errors.BadCredentials.message]}}


def test_two_faults_of_one_field_are_two_sentences() -> None:
    _, problem = shown(InvalidFields(FieldError("email", "One."), FieldError("email", "Two.")))
    assert problem["errors"] == {"email": ["One.", "Two."]}


def test_every_refusal_has_a_status_and_a_message_and_nothing_else() -> None:
    made: list[Refused] = [Throttled(3), errors.TooManyGuests(3), Overloaded("x"), Unavailable("the reason")]
    made += [kind() for kind in AUTH_SERVER_STATUS if kind not in {type(one) for one in made} | {InvalidFields}]
    for refusal in made:
        status, problem = shown(refusal)
        assert status == AUTH_SERVER_STATUS[type(refusal)]
        assert problem["message"]
        assert set(problem) <= {"message", "errors"}
        assert "the reason" not in json.dumps(problem)


def test_no_repr_shows_a_secret() -> None:
    assert "horse" not in repr(Credentials("a", "horse"))
    assert "7|" not in repr(TokenIssued("7|secret"))
