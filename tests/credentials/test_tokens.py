"""Tokens: what is written can be read, nothing else can, and the secret shows nowhere."""

import hashlib
import string
from collections import Counter
from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.pretty import Pretty

from service.credentials.tokens import (
    PresentedToken,
    digest,
    format_token,
    matches,
    new_secret,
    parse_token,
    without_tokens,
)

SECRET = "0123456789abcdefghijABCDEFGHIJklmnopqrst"
LETTERS_AND_DIGITS = string.ascii_letters + string.digits

secrets_strategy = st.text(st.sampled_from(LETTERS_AND_DIGITS), min_size=40, max_size=40)


@given(st.integers(1, 2**63 - 1), secrets_strategy)
def test_what_is_written_can_be_read(session_id: int, secret: str) -> None:
    assert parse_token(format_token(session_id, secret)) == PresentedToken(session_id, secret)


@given(st.text())
def test_any_text_is_read_without_an_error_and_only_tokens_are_taken(text: str) -> None:
    token = parse_token(text)
    assert token is None or format_token(token.session_id, token.secret) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        SECRET,
        f"|{SECRET}",
        f"0|{SECRET}",
        f"042|{SECRET}",
        f"+42|{SECRET}",
        f"-42|{SECRET}",
        f" 42|{SECRET}",
        f"42|{SECRET}\n",
        f"42|{SECRET} ",
        f"42|{SECRET}x",
        f"42|{SECRET[1:]}",
        f"42|{SECRET[1:]}-",
        f"42|{SECRET[1:]}é",
        f"42|{SECRET[1:]}٣",
        f"٤٢|{SECRET}",
        f"42\uff5c{SECRET}",
        f"42||{SECRET[1:]}",
        f"{2**63}|{SECRET}",
        f"{10**19}|{SECRET}",
        "9" * 100_000,
    ],
)
def test_what_is_no_token_is_none(text: str) -> None:
    assert parse_token(text) is None


def test_the_largest_session_id_is_taken() -> None:
    assert parse_token(f"{2**63 - 1}|{SECRET}") == PresentedToken(2**63 - 1, SECRET)


@pytest.mark.parametrize(("session_id", "secret"), [(0, SECRET), (-1, SECRET), (2**63, SECRET), (1, SECRET[1:])])
def test_a_token_that_nobody_could_read_is_never_written(session_id: int, secret: str) -> None:
    with pytest.raises(ValueError, match="A token is a session id") as refusal:
        format_token(session_id, secret)
    assert secret not in str(refusal.value)


def test_a_secret_is_forty_letters_and_digits_and_never_twice_the_same() -> None:
    drawn = [new_secret() for _ in range(100)]
    assert len(set(drawn)) == 100
    assert all(len(secret) == 40 and set(secret) <= set(LETTERS_AND_DIGITS) for secret in drawn)


def test_every_character_stands_for_equally_many_byte_values() -> None:
    drawn = [new_secret(bytes([byte]).__mul__) for byte in range(248)]
    assert Counter(drawn) == {character * 40: 4 for character in LETTERS_AND_DIGITS}


def test_the_byte_values_left_over_are_thrown_away() -> None:
    answers = iter([bytes([255]) * 48, bytes([248]) * 48, bytes([247]) * 48])
    assert new_secret(lambda _: next(answers)) == "9" * 40


def test_the_digest_is_the_sha_256_of_the_secret() -> None:
    assert digest(SECRET) == hashlib.sha256(SECRET.encode()).hexdigest()


def test_a_presented_token_matches_its_own_digest_alone() -> None:
    assert matches(PresentedToken(42, SECRET), digest(SECRET))
    assert not matches(PresentedToken(42, SECRET), digest(SECRET[::-1]))
    assert not matches(PresentedToken(42, SECRET), "")
    assert not matches(PresentedToken(42, SECRET), SECRET)


def test_the_secret_shows_in_no_repr() -> None:
    token = PresentedToken(42, SECRET)
    shown = StringIO()
    Console(file=shown, width=200).print(Pretty(token), token, [token])
    assert repr(token) == "PresentedToken(session_id=42, secret=<hidden>)"
    assert SECRET not in f"{token} {token!r} {[token]} {shown.getvalue()}"
    with pytest.raises(AttributeError):
        token.secret = "other"  # type: ignore[misc]  # that it cannot be set is what is shown


@pytest.mark.parametrize("token", [f"17|{'aZ9' * 13}x", f"1|{'a' * 5}", f"{2**63 - 1}|{'b' * 60}"])
def test_what_repeats_what_was_typed_repeats_no_token(token: str) -> None:
    assert without_tokens(f"more than it takes: {token} and 12") == "more than it takes: (a session token) and 12"
    assert without_tokens(f"{token}, {token}") == "(a session token), (a session token)"


def test_what_is_like_no_token_is_repeated_as_it_is() -> None:
    for text in ("HOST:PORT|off", "a|b", "17", "17|", "|abc", "user-17 | 3"):
        assert without_tokens(text) == text
