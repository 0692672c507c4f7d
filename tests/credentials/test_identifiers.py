# ruff: noqa: RUF001  (characters that look like others are what is tested)
"""Names, addresses and passwords: what is taken, what is refused with which sentence, what compares equal."""

import unicodedata
from collections.abc import Callable
from functools import partial
from io import StringIO
from typing import Literal
from unicodedata import normalize

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from precis_i18n import get_profile
from precis_i18n.context import context_rule_error
from precis_i18n.unicode import UnicodeData
from rich.console import Console

from service.credentials.identifiers import (
    Identifier,
    IdentifierRules,
    Prepared,
    check_registration,
    identifier_rules,
    prepare_email,
    prepare_identifier,
    prepare_nickname,
    prepare_password,
    prepare_password_for_check,
    prepare_username,
)
from service.credentials.opaque import NotOpaqueError, opaque
from service.credentials.reserved_names import RESERVED_NAMES
from service.errors import FieldError, InvalidFields

RULES = identifier_rules()
OPEN = IdentifierRules()
TOO_LONG = (["A username has 4 to 32 characters."], ["A nickname has 2 to 32 characters."])

# Lone surrogates included: JSON can carry them.
any_text = st.text(st.characters(), max_size=60) | st.text(
    st.sampled_from("aAzZß09@. -_İıſςΣꭰᎠéе\u0301\u0345\u0660\u06f0\u200c\u200d\u202e\u30fbカ·l\ufb01\uff21א\0\ud800"),
    max_size=40,
)


def sentences(refusal: pytest.ExceptionInfo[InvalidFields]) -> list[tuple[str, str]]:
    return [(error.field, error.message) for error in refusal.value.errors]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Alice", "alice"),
        ("ALICE", "ａｌｉｃｅ"),
        ("Straße", "STRASSE"),
        ("ΟΔΥΣΣΕΥΣ", "οδυσσευς"),
        ("José", "jose\u0301"),
        ("ᎠᎡᎢᎣ", "ꭰꭱꭲꭳ"),
    ],
)
def test_spellings_of_one_username_compare_equal(one: str, other: str) -> None:
    first, second = prepare_username(one, OPEN), prepare_username(other, OPEN)
    assert first.compared == second.compared
    assert (first.typed, second.typed) == (one, other)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "A username has 4 to 32 characters."),
        ("bob", "A username has 4 to 32 characters."),
        ("b" * 33, "A username has 4 to 32 characters."),
        ("ann@example", "A username holds no @."),
        ("ann smith", "The username holds a space."),
        ("ann\nsmith", "The username holds a control character."),
        ("ann\0smith", "The username holds a control character."),
        ("ann\u202esmith", "The username holds an invisible character."),
        ("ann\u2066smith", "The username holds an invisible character."),
        ("ann\u200bsmith", "The username holds an invisible character."),
        ("ann\u200dsmith", "The username holds a character that is not allowed there."),
        ("ann\ud800smith", "The username holds a character that is not allowed there."),
        ("ann\u0378smith", "The username holds a character that is not known yet."),
        ("annאsmith", "The username mixes directions of writing in a way that could deceive."),
        ("ann☺smith", "The username holds a character that is not allowed there."),
        ("Admin", "This username is reserved."),
        ("ｒｏｏｔ", "This username is reserved."),
        ("POSTMASTER", "This username is reserved."),
    ],
)
def test_a_username_that_breaks_its_rule(text: str, sentence: str) -> None:
    with pytest.raises(InvalidFields) as refusal:
        prepare_username(text, RULES)
    assert sentences(refusal) == [("username", sentence)]


@pytest.mark.parametrize("text", ["anna", "a" * 32, "o'neil", "\U00020000" * 4, "<b>x", "Ἀθηνᾶ", "שלום", "日本語名"])
def test_usernames_that_are_taken(text: str) -> None:
    assert prepare_username(text, RULES).typed == text


@pytest.mark.parametrize(
    ("one", "other"), [("Ann Smith", " ann\u00a0 smith "), ("ﬁne", "FINE"), ("ſam", "Sam"), ("№ Ⅷ", "no viii")]
)
def test_spellings_of_one_nickname_compare_equal(one: str, other: str) -> None:
    assert prepare_nickname(one, OPEN).compared == prepare_nickname(other, OPEN).compared


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "A nickname has 2 to 32 characters."),
        ("a", "A nickname has 2 to 32 characters."),
        (" a ", "A nickname has 2 to 32 characters."),
        ("  \u3000 ", "A nickname has 2 to 32 characters."),
        ("a" * 33, "A nickname has 2 to 32 characters."),
        ("a\tb", "The nickname holds a control character."),
        ("a\u202eb", "The nickname holds an invisible character."),
        ("a\u2028b", "The nickname holds a character that is not allowed there."),
        (" System ", "This nickname is reserved."),
        ("ＲＯＯＴ", "This nickname is reserved."),
    ],
)
def test_a_nickname_that_breaks_its_rule(text: str, sentence: str) -> None:
    with pytest.raises(InvalidFields) as refusal:
        prepare_nickname(text, RULES)
    assert sentences(refusal) == [("nickname", sentence)]


def test_the_reserved_list_is_a_setting_and_compared_prepared() -> None:
    rules = identifier_rules(["Ｃｈｉｅｆ"], common_passwords_refused=False)
    assert prepare_username("admin", rules).compared == "admin"
    for name in ["chief", "CHIEF"]:
        with pytest.raises(InvalidFields, match="reserved"):
            prepare_username(name, rules)


@pytest.mark.parametrize("name", RESERVED_NAMES)
def test_every_reserved_name_is_refused_as_a_nickname(name: str) -> None:
    with pytest.raises(InvalidFields, match="reserved"):
        prepare_nickname(name.upper(), RULES)


@pytest.mark.parametrize(
    ("typed", "compared"),
    [
        ("Ann@Example.COM", "ann@example.com"),
        ("ann+books@example.com", "ann+books@example.com"),
        ("ann@Bücher.example", "ann@xn--bcher-kva.example"),
        ("ann@xn--bcher-kva.example", "ann@xn--bcher-kva.example"),
        ("Dörte@example.com", "dörte@example.com"),
    ],
)
def test_addresses_as_they_are_compared(typed: str, compared: str) -> None:
    assert prepare_email(typed) == Prepared(typed, compared)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "@",
        "ann",
        "ann@",
        "@example.com",
        "ann@example",
        "ann@localhost",
        "a b@example.com",
        "ann@example.com\n",
        "ann\0@example.com",
        "ann@exa\u202emple.com",
        "\ud800@example.com",
        "ann@\ud800.com",
        "ann@[127.0.0.1]",
        "Ann <ann@example.com>",
    ],
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(InvalidFields) as refusal:
        prepare_email(text)
    assert sentences(refusal) == [("email", "This is not a valid e-mail address.")]
    assert refusal.value.__suppress_context__


def test_an_address_has_at_most_254_characters() -> None:
    with pytest.raises(InvalidFields, match="at most 254 characters"):
        prepare_email("a@" + "b" * 70_000 + ".com")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "A password has at least 8 characters."),
        ("1234567", "A password has at least 8 characters."),
        ("e\u0301" * 7, "A password has at least 8 characters."),
        ("correct\0horse", "The password holds a character that no keyboard types: a control or unassigned one."),
        ("correct\nhorse", "The password holds a character that no keyboard types: a control or unassigned one."),
        ("corréct\u202ehorse", "The password holds a character that no keyboard types: a control or unassigned one."),
        ("corréct\ud800horse", "The password holds a character that no keyboard types: a control or unassigned one."),
        ("correct·horse", "The password holds a character that may not stand beside its neighbours."),
        ("correct horse a" + "\u0301" * 31, "The password holds more than 30 combining marks in a row."),
        ("Password1", "This password is among the most common ones; please choose another."),
        ("QWERTYUIOP", "This password is among the most common ones; please choose another."),
    ],
)
def test_a_password_that_breaks_its_rule(text: str, sentence: str) -> None:
    with pytest.raises(InvalidFields) as refusal:
        prepare_password(text, RULES, field="new_password")
    assert sentences(refusal) == [("new_password", sentence)]


def test_a_password_is_whole_and_keeps_case_and_spaces() -> None:
    long = " Correct  Horse " * 4000
    assert prepare_password(long, RULES) == long
    assert prepare_password("\u3000Corréct\u00a0Hors\u0065\u0301", RULES) == " Corréct Horsé"


def test_common_passwords_may_be_allowed() -> None:
    assert prepare_password("password1", identifier_rules(common_passwords_refused=False)) == "password1"


@pytest.mark.parametrize(
    "password",
    [
        "AnneSmith",
        "annesmith",
        "The Anne Smith",
        "anne.smith@example.com",
        "annesmith2026",
        "2026!AnneSmith",
        "annesmithannesmith",
        "ANNE+smith",
        "smith-example-1",
        "Gatebook2026!",
        "\uff21nneSmith99",
    ],
)
def test_a_password_is_not_made_of_its_owners_words(password: str) -> None:
    """ASVS 5.0: 6.2.11; NIST SP 800-63B, 3.1.1.2."""
    with pytest.raises(InvalidFields) as refusal:
        check_registration("annesmith", "The Anne  Smith", password, "Anne.Smith@example.com", OPEN)
    assert [error.field for error in refusal.value.errors] == ["password"]
    assert "names and addresses of yours" in refusal.value.errors[0].message


@pytest.mark.parametrize(
    "password",
    [
        "annesmith" + "karenina",
        "my anne in chains",
        "the gates of dawn",
        "exemplary-tides",
        "annesmith " * 200,
    ],
)
def test_words_of_ones_own_are_no_fault_where_there_is_enough_besides(password: str) -> None:
    assert check_registration("annesmith", "The Anne  Smith", password, "Anne.Smith@example.com", OPEN).password


def test_names_of_three_letters_are_in_too_many_words_to_count() -> None:
    rules = identifier_rules(common_passwords_refused=False)
    own = [Prepared("Ida", "ida")]
    assert prepare_password("hidalgos", rules, own=own) == "hidalgos"


def test_a_registration_has_its_forms() -> None:
    forms = check_registration("Alice", "Alice L.", "correct horse", None, RULES)
    assert forms.username == Prepared("Alice", "alice")
    assert forms.nickname == Prepared("Alice L.", "alice l.")
    assert (forms.password, forms.email) == ("correct horse", None)
    shown = StringIO()
    Console(file=shown, width=200).print(forms, [forms])
    assert "correct" not in repr(forms) + shown.getvalue()
    assert "alice" in repr(forms)


def test_every_field_at_fault_is_named_in_order() -> None:
    with pytest.raises(InvalidFields) as refusal:
        check_registration("al", "", "short", "nowhere", RULES)
    assert [error.field for error in refusal.value.errors] == ["username", "nickname", "password", "email"]


def test_one_fault_is_the_sentence_of_the_refusal() -> None:
    with pytest.raises(InvalidFields) as refusal:
        check_registration("al", "Alice", "correct horse", None, RULES)
    assert refusal.value.errors == (FieldError("username", "A username has 4 to 32 characters."),)


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("Alice", Identifier("username", "alice")),
        ("admin", Identifier("username", "admin")),
        ("Alice@Example.com", Identifier("email", "alice@example.com")),
        ("", None),
        ("al", None),
        ("al ice", None),
        ("alice@", None),
        ("\ud800\ud800\ud800\ud800", None),
        ("a" * 60_000, None),
        ("@" * 60_000, None),
    ],
)
def test_what_is_looked_up_for_an_identifier(typed: str, found: Identifier | None) -> None:
    assert prepare_identifier(typed) == found


@given(any_text)
def test_preparing_is_total_and_what_was_prepared_stays_as_it_is(text: str) -> None:
    for prepare in (partial(prepare_username, rules=OPEN), partial(prepare_nickname, rules=OPEN), prepare_email):
        try:
            once = prepare(text)
        except InvalidFields:
            continue
        assert once.typed == text
        once.compared.encode()
        try:
            twice = prepare(once.compared)
        except InvalidFields as refusal:
            # Folding may lengthen a name beyond what may be typed; nothing else may be wrong with it.
            assert [error.message for error in refusal.errors] in TOO_LONG  # noqa: PT017  # either answer is right
            continue
        assert twice.compared == once.compared


@pytest.mark.parametrize("prepare", [partial(prepare_username, rules=RULES), partial(prepare_nickname, rules=RULES)])
@pytest.mark.parametrize("around", ["{} x{}", "{}\0{}", "{}\u202e{}", "{}@{}", "{0}{0}{0}{0}{0}{0}{1}", "{}\ud800{}"])
def test_no_sentence_repeats_what_was_typed(prepare: Callable[[str], Prepared], around: str) -> None:
    for refused in (prepare, prepare_email, partial(prepare_password, rules=RULES)):
        try:
            refused(around.format("hunter", "hunter"))
        except InvalidFields as refusal:
            assert "hunter" not in f"{refusal} {refusal!r} {refusal.errors}"  # noqa: PT017  # some of them are fine


@given(any_text)
def test_an_identifier_finds_what_was_registered_by_the_same_name(text: str) -> None:
    found = prepare_identifier(text)
    for kind, prepare in (("username", partial(prepare_username, rules=RULES)), ("email", prepare_email)):
        try:
            registered = prepare(text)
        except InvalidFields:
            continue
        assert found is not None
        assert (found.kind, found.compared) == (kind, registered.compared)


@given(any_text)
@example("l·l\u0660\u0661")
@example("\u0660\u06f0")
@example("カ・")
@example("é・")
@example("\u0628\u200c\u0628")
@example("क्\u200d")
def test_a_password_is_prepared_as_the_library_would(text: str) -> None:
    library = get_profile("OpaqueString")
    marked = "".join("m" if unicodedata.combining(character) else " " for character in text)
    assume("m" * 31 not in marked)
    try:
        expected: str | None = library.enforce(text)
    except UnicodeEncodeError:
        expected = None
    found = opaque_or_none(text)
    assert found == expected
    assert found is None or opaque(found) == found


def opaque_or_none(text: str) -> str | None:
    try:
        return opaque(text)
    except NotOpaqueError:
        return None


@given(any_text, any_text)
@example("\0", "\0")
@example("", "\0")
@example("Corréct\u00a0hors\u0065\u0301", "Corréct horsé")
def test_a_password_for_a_check_matches_what_was_set_and_nothing_else(typed: str, chosen: str) -> None:
    checked = prepare_password_for_check(typed)
    checked.encode()
    kept = opaque_or_none(chosen)
    assert (checked == kept) == (kept is not None and opaque_or_none(typed) == kept)


LONG = {
    "arabic digits": "\u0660" * 32_000,
    "katakana": "漢\u30fb" * 10_000,
    "non-joiners": "ب\u200c" * 1_000 + "ب" * 16_000,
    "middle dots": "l·" * 1_000 + "l" * 16_000,
    "every ideograph": "".join(map(chr, range(0x4E00, 0x9FFF))),
}


@pytest.mark.parametrize("text", LONG.values(), ids=LONG)
def test_context_is_looked_for_nearby_or_once(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # The library looks at the whole text for each of these characters: minutes for 64 KiB.
    handed_over = 0

    def counted(value: str, offset: int, ucd: UnicodeData) -> str:
        nonlocal handed_over
        handed_over += len(value)
        return context_rule_error(value, offset, ucd)

    monkeypatch.setattr("service.credentials.opaque.context_rule_error", counted)
    assert prepare_password(text, OPEN) == text
    assert handed_over <= 4 * len(text) + 70_000


@pytest.mark.parametrize("text", ["ب\u200c" * 1_001 + "ب", "l·" * 1_001 + "l"])
def test_more_than_a_thousand_joiners_are_refused_unseen(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("service.credentials.opaque.context_rule_error")
    assert prepare_password_for_check(text) == "\0"


@pytest.mark.parametrize("marks", ["\u0301\u0316", "\u0f73", "\u0344\u0323"])
def test_long_runs_of_marks_never_reach_normalisation(marks: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # It is quadratic in their number: more than a second for 64 KiB.
    longest = 0

    def counted(form: Literal["NFC", "NFD"], text: str) -> str:
        nonlocal longest
        longest = max(longest, len(text))
        return normalize(form, text)

    with monkeypatch.context() as patched:
        patched.setattr("service.credentials.opaque.unicodedata.normalize", counted)
        assert prepare_password_for_check("é" + marks * 16_000) == "\0"
    assert longest <= 1
