"""Registering an account."""

import pytest

from events.catalogue import ADMIN, USER, ProfileChanged, UserRegistered
from projections.names import Name
from service.decisions.command import Reads
from service.decisions.registration import Register, Taking
from service.errors import FieldError, InvalidFields
from tests.given import TAGGER, given, on, registered, taking


def register(username: str, nickname: str, email: str | None = None) -> Register:
    return Register(
        taking("username", username),
        taking("nickname", nickname),
        taking("email", email) if email else None,
        "hash",
        USER,
    )


def test_a_free_name_becomes_an_account_as_it_was_typed() -> None:
    book = (
        given([])
        .when(register("Ada", "The Countess", "Ada@example.org"))
        .then(
            [
                on(
                    "user",
                    UserRegistered(
                        username="Ada",
                        username_prepared="ada",
                        nickname="The Countess",
                        nickname_prepared="the countess",
                        password_hash="hash",
                        level=USER,
                        email="Ada@example.org",
                        email_prepared="ada@example.org",
                    ),
                )
            ]
        )
    )
    assert book.documents("names") == {
        TAGGER("username", "ada"): Name("username", 1),
        TAGGER("nickname", "the countess"): Name("nickname", 1),
        TAGGER("email", "ada@example.org"): Name("email", 1),
    }


def test_an_address_is_no_part_of_it_unless_it_is_given() -> None:
    given([]).when(register("ada", "The Countess")).then(
        [on("user", UserRegistered("ada", "ada", "The Countess", "the countess", "hash", USER))]
    )


def test_the_level_and_what_is_known_of_the_client_are_recorded() -> None:
    command = Register(
        taking("username", "root"), taking("nickname", "boss"), None, "hash", ADMIN, "192.0.2.1", "agent/1"
    )
    given([]).when(command).then(
        [
            on(
                "user",
                UserRegistered(
                    "root", "root", "boss", "boss", "hash", ADMIN, address="192.0.2.1", agent="agent/1"
                ),
            )
        ]
    )  # fmt: skip


def test_a_second_account_stands_beside_the_first() -> None:
    book = (
        given([registered("ada", email="ada@example.org")])
        .when(register("grace", "The Admiral", "grace@example.org"))
        .then(
            [
                on(
                    "user",
                    UserRegistered(
                        "grace", "grace", "The Admiral", "the admiral", "hash", USER,
                        "grace@example.org", "grace@example.org",
                    ),
                )
            ]
        )
    )  # fmt: skip
    assert set(book.documents("users")) == {"1", "2"}


@pytest.mark.parametrize(
    ("command", "field", "message"),
    [
        (register("ADA", "Somebody"), "username", "This username is taken."),
        (register("grace", "ADA the great"), "nickname", "This nickname is taken."),
        (register("grace", "Somebody", "ADA@example.org"), "email", "This e-mail address is taken."),
    ],
    ids=["username", "nickname", "email"],
)
def test_a_name_that_is_taken_is_refused_by_its_field(command: Register, field: str, message: str) -> None:
    refusal = given([registered("ada", email="ada@example.org")]).when(command).refused(InvalidFields)
    assert refusal.errors == (FieldError(field, message),)


def test_every_name_that_is_taken_is_told_of_at_once() -> None:
    refusal = (
        given([registered("ada", email="ada@example.org")])
        .when(register("ada", "Ada the Great", "ada@example.org"))
        .refused(InvalidFields)
    )
    assert [error.field for error in refusal.errors] == ["username", "nickname", "email"]


def test_a_username_may_be_what_another_has_as_nickname() -> None:
    given([registered("ada")]).when(register("ada the great", "ada")).then(
        [on("user", UserRegistered("ada the great", "ada the great", "ada", "ada", "hash", USER))]
    )


def test_a_name_that_was_given_up_can_be_had() -> None:
    given_up = ProfileChanged(
        nickname="Lovelace", nickname_prepared="lovelace", nickname_released="ada the great",
        email_released="ada@x.org", email_removed=True,
    )  # fmt: skip
    given([registered("ada", email="ada@x.org"), on("user-1", given_up)]).when(
        register("grace", "Ada the Great", "ada@x.org")
    ).then(
        [
            on(
                "user",
                UserRegistered(
                    "grace", "grace", "Ada the Great", "ada the great", "hash", USER, "ada@x.org", "ada@x.org"
                ),
            )
        ]
    )  # fmt: skip


def test_it_reads_the_names_that_it_takes_and_nothing_else() -> None:
    names = Taking("a", "a", "t1"), Taking("b", "b", "t2"), Taking("c", "c", "t3")
    reads = Register(*names, "hash", USER).reads()
    assert reads == Reads(names=("t1", "t2", "t3"))
