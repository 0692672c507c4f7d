"""What people type for themselves, checked against its rule and prepared for comparing.

Names are kept as typed and compared prepared: PRECIS (RFC 8264, 8265, 8266), then NFKC and case folding until nothing
changes. The prepared form is recorded with the event: a replay gives the same with whatever Unicode tables come later.
"""

from collections.abc import Callable, Collection
from typing import Any, Final, Literal
from unicodedata import normalize

from email_validator import EmailNotValidError, validate_email
from msgspec import Struct
from precis_i18n import get_profile

from service.credentials.common_passwords import common_passwords
from service.credentials.opaque import LONGEST_RUN_OF_MARKS, NotOpaqueError, opaque
from service.credentials.own_words import left_without
from service.credentials.reserved_names import RESERVED_NAMES
from service.errors import FieldError, InvalidFields

__all__ = [
    "Identifier",
    "IdentifierRules",
    "Prepared",
    "RegistrationForms",
    "check_registration",
    "identifier_rules",
    "prepare_email",
    "prepare_identifier",
    "prepare_nickname",
    "prepare_password",
    "prepare_password_for_check",
    "prepare_username",
]

USERNAME_LENGTHS: Final = (4, 32)
NICKNAME_LENGTHS: Final = (2, 32)
LONGEST_EMAIL: Final = 254
SHORTEST_PASSWORD: Final = 8
LONGEST_OF_OWN_WORDS: Final = 4 * LONGEST_EMAIL
"""Longer passwords are not looked through for their owner's words."""

_USERNAME: Final = get_profile("UsernameCaseMapped")
_NICKNAME: Final = get_profile("NicknameCaseMapped:CaseFold")


class Prepared(Struct, frozen=True):
    """A name or address: as `typed`, which is shown, and as `compared`, which is unique and looked up."""

    typed: str
    compared: str


class IdentifierRules(Struct, frozen=True):
    """What the settings say about names and passwords; make it with `identifier_rules`."""

    reserved: frozenset[str] = frozenset()
    common_passwords: frozenset[str] = frozenset()


class RegistrationForms(Struct, frozen=True):
    """Everything that a registration needs, each field within its rule. The repr hides the password."""

    username: Prepared
    nickname: Prepared
    password: str
    email: Prepared | None = None

    def __repr__(self) -> str:
        return f"RegistrationForms({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        shown = [("username", self.username), ("nickname", self.nickname), ("password", "<hidden>")]
        return [*shown, ("email", self.email)]


class Identifier(Struct, frozen=True):
    """What was typed at a login, as it is looked up."""

    kind: Literal["username", "email"]
    compared: str


def identifier_rules(
    reserved_names: Collection[str] = RESERVED_NAMES, *, common_passwords_refused: bool = True
) -> IdentifierRules:
    """Return the rules for these settings; reads the list of common passwords when they are refused."""
    return IdentifierRules(
        reserved=frozenset(_fold(name.strip()) for name in reserved_names),
        common_passwords=common_passwords() if common_passwords_refused else frozenset(),
    )


def prepare_username(text: str, rules: IdentifierRules) -> Prepared:
    """Return the username, 4 to 32 code points as typed, PRECIS UsernameCaseMapped; it holds no `@`.

    Raises:
        InvalidFields: it breaks its rule.
    """
    field = "username"
    _check_length(field, "A username", text, USERNAME_LENGTHS)
    if "@" in text:
        raise InvalidFields(FieldError(field, "A username holds no @."))
    compared = _fold(_enforce(_USERNAME.enforce, field, "username", text))
    _check_reserved(field, "username", compared, rules)
    return Prepared(text, compared)


def prepare_nickname(text: str, rules: IdentifierRules) -> Prepared:
    """Return the nickname, 2 to 32 code points as typed and at least 2 without outer spaces, PRECIS Nickname.

    Raises:
        InvalidFields: it breaks its rule.
    """
    field = "nickname"
    _check_length(field, "A nickname", text, NICKNAME_LENGTHS)
    _check_length(field, "A nickname", text.strip(), NICKNAME_LENGTHS)
    compared = _fold(_enforce(_NICKNAME.enforce, field, "nickname", text))
    _check_reserved(field, "nickname", compared, rules)
    return Prepared(text, compared)


def prepare_email(text: str) -> Prepared:
    """Return the address, at most 254 characters (RFC 5321), by its form alone: no mail server is asked.

    Compared are the folded local part and the domain as DNS knows it, so both spellings of an international domain are
    the same address.

    Raises:
        InvalidFields: it is not an e-mail address.
    """
    field = "email"
    if len(text) > LONGEST_EMAIL:
        raise InvalidFields(FieldError(field, f"An e-mail address has at most {LONGEST_EMAIL} characters."))
    try:
        found = validate_email(text, check_deliverability=False)
    except (EmailNotValidError, UnicodeError):
        # The library's own sentences repeat what was typed.
        raise InvalidFields(FieldError(field, "This is not a valid e-mail address.")) from None
    return Prepared(text, f"{_fold(found.local_part)}@{(found.ascii_domain or found.domain).lower()}")


def prepare_password(
    text: str, rules: IdentifierRules, *, field: str = "password", own: Collection[Prepared] = ()
) -> str:
    """Return the password as PRECIS OpaqueString, at least 8 code points, whole: there is no upper limit.

    `field` is the name that an error carries; `own` are the person's names and address: apart from their words, it has
    to be long enough.

    Raises:
        InvalidFields: it breaks its rule, or is among the common ones that the rules hold.
    """
    try:
        prepared = opaque(text)
    except NotOpaqueError as refusal:
        raise InvalidFields(FieldError(field, _NOT_OPAQUE[refusal.reason])) from None
    if len(prepared) < SHORTEST_PASSWORD:
        raise InvalidFields(FieldError(field, f"A password has at least {SHORTEST_PASSWORD} characters."))
    if len(prepared) <= LONGEST_OF_OWN_WORDS:
        folded = _fold(prepared)
        left = left_without(folded, (form for name in own for form in (name.compared, _fold(name.typed))))
        if left != folded and len(left) < SHORTEST_PASSWORD:
            raise InvalidFields(FieldError(field, _OF_OWN_WORDS))
    if prepared.casefold() in rules.common_passwords:
        raise InvalidFields(FieldError(field, "This password is among the most common ones; please choose another."))
    return prepared


def check_registration(
    username: str, nickname: str, password: str, email: str | None, rules: IdentifierRules
) -> RegistrationForms:
    """Return the forms of a registration.

    Raises:
        InvalidFields: names every field that breaks its rule, in the order of the arguments.
    """
    errors: list[FieldError] = []

    def kept(prepare: Callable[[], Prepared]) -> Prepared:
        try:
            return prepare()
        except InvalidFields as refusal:
            errors.extend(refusal.errors)
            return _NOTHING

    names = kept(lambda: prepare_username(username, rules)), kept(lambda: prepare_nickname(nickname, rules))
    address = None if email is None else kept(lambda: prepare_email(email))
    own = [name for name in (*names, address) if name is not None]
    try:
        secret = prepare_password(password, rules, own=own)
    except InvalidFields as refusal:
        errors[:] = sorted([*errors, *refusal.errors], key=lambda error: _ORDER.index(error.field))
    if errors:
        raise InvalidFields(*errors)
    return RegistrationForms(*names, secret, address)


def prepare_identifier(text: str) -> Identifier | None:
    """Return what to look up for an identifier that was typed at a login; None when it can belong to nobody.

    With an `@` it is an e-mail address, otherwise a username. The reserved list is not asked: a name that was
    registered before it was reserved still logs in.
    """
    try:
        if "@" in text:
            return Identifier("email", prepare_email(text).compared)
        return Identifier("username", prepare_username(text, _NO_RULES).compared)
    except InvalidFields:
        return None


def prepare_password_for_check(text: str) -> str:
    """Return what to hold against a hash; never refuses.

    What can be no password becomes a text that no password is prepared to, so that it costs a hash like any other and
    matches nothing.
    """
    try:
        return opaque(text)
    except NotOpaqueError:
        return "\0"


_NOTHING: Final = Prepared("", "")
_NO_RULES: Final = IdentifierRules()
_ORDER: Final = ("username", "nickname", "password", "email")
_OF_OWN_WORDS: Final = (
    "Apart from names and addresses of yours, and the name of this service, a password has at least"
    f" {SHORTEST_PASSWORD} characters."
)
_NOT_OPAQUE: Final = {
    "empty": f"A password has at least {SHORTEST_PASSWORD} characters.",
    "disallowed": "The password holds a character that no keyboard types: a control or unassigned one.",
    "context": "The password holds a character that may not stand beside its neighbours.",
    "marks": f"The password holds more than {LONGEST_RUN_OF_MARKS} combining marks in a row.",
}
# The codes of precis-i18n that people can do something about; the others share one sentence.
_NOT_PRECIS: Final = {
    "empty": "The {what} is empty.",
    "spaces": "The {what} holds a space.",
    "controls": "The {what} holds a control character.",
    "precis_ignorable_properties": "The {what} holds an invisible character.",
    "unassigned": "The {what} holds a character that is not known yet.",
    "bidi_rule": "The {what} mixes directions of writing in a way that could deceive.",
}


def _check_length(field: str, what: str, text: str, lengths: tuple[int, int]) -> None:
    shortest, longest = lengths
    if not shortest <= len(text) <= longest:
        raise InvalidFields(FieldError(field, f"{what} has {shortest} to {longest} characters."))


def _enforce(profile: Callable[[str], str], field: str, what: str, text: str) -> str:
    try:
        return profile(text)
    except UnicodeEncodeError as refusal:
        # The exception holds what was typed: only its code is used, and it goes no further.
        code = refusal.reason.rpartition("/")[2]
    sentence = _NOT_PRECIS.get(code, "The {what} holds a character that is not allowed there.")
    raise InvalidFields(FieldError(field, sentence.format(what=what)))


def _check_reserved(field: str, what: str, compared: str, rules: IdentifierRules) -> None:
    if compared in rules.reserved:
        raise InvalidFields(FieldError(field, f"This {what} is reserved."))


def _fold(text: str) -> str:
    """Return NFKC and case folding of the text, repeated until it no longer changes."""
    while (folded := normalize("NFKC", normalize("NFKC", text).casefold())) != text:
        text = folded
    return text
