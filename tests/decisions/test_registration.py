"""Registering an account."""

from datetime import timedelta

import pytest
from msgspec.structs import replace

from events.catalogue import ADMIN, USER, NameRefused, ProfileChanged, ThrottleStep, UserRegistered
from projections.names import Name
from service.decisions.command import Reads
from service.decisions.registration import RecordNameTaken, Register, Taking
from service.decisions.throttling import Limit
from service.errors import FieldError, InvalidFields, Throttled
from tests.given import START, TAGGER, given, on, registered, taking

REGISTRATIONS = Limit("registration:a", 2, timedelta(minutes=15), outlives_success=True)


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


def counted(failures: int, until: timedelta | None = None) -> tuple[ThrottleStep, ...]:
    return (ThrottleStep("registration:a", failures, None if until is None else START + until),)


def test_it_counts_against_the_address() -> None:
    command = replace(register("ada", "The Countess"), limits=(REGISTRATIONS,))
    event = UserRegistered("ada", "ada", "The Countess", "the countess", "hash", USER)
    book = given([]).when(command).then([on("user", replace(event, throttles=counted(1)))])
    assert book.documents("throttles")["registration:a"].failures == 1
    given([replace(registered("grace"), throttles=counted(1))]).when(command).then(
        [on("user", replace(event, throttles=counted(2, timedelta(seconds=1))))]
    )


def test_one_too_many_is_refused_whatever_names_it_wants() -> None:
    told = [replace(registered("ada"), throttles=counted(2, timedelta(seconds=4)))]
    for name in ("ada", "grace"):
        refusal = given(told).when(replace(register(name, "somebody"), limits=(REGISTRATIONS,))).refused(Throttled)
        assert refusal.retry_after == 5


def test_a_name_found_taken_counts_likewise_and_says_nothing_of_the_name() -> None:
    given([registered("ada"), NameRefused(counted(1))]).when(RecordNameTaken((REGISTRATIONS,))).then(
        [on("service", NameRefused(counted(2, timedelta(seconds=1))))]
    )
    given([registered("ada")]).when(RecordNameTaken(())).then([])
