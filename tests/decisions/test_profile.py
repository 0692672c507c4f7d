"""Changing one's own profile and password."""

from datetime import timedelta

import pytest
from msgspec.structs import replace

from events.catalogue import LoginFailed, PasswordChanged, ProfileChanged, SessionClosed, ThrottleStep, UserDeactivated
from projections.names import Name
from service.decisions.profile import ChangeProfile, NewPassword, Renaming
from service.decisions.throttling import Limit
from service.errors import FieldError, InvalidFields, Stale, Throttled, Unauthenticated
from tests.given import A_DAY, START, TAGGER, Given, given, on, opened, registered, taking

ADA = registered("ada", email="ada@x.org")
GRACE = registered("grace", email="grace@x.org")
LOGGED_IN: list[Given] = [ADA, opened(user=1)]
LOVELACE = Renaming(taking("nickname", "Lovelace"), "ada the great")
NEW_ADDRESS = Renaming(taking("email", "Countess@x.org"), "ada@x.org")
RENAMED = ProfileChanged(nickname="Lovelace", nickname_prepared="lovelace", nickname_released="ada the great")
MOVED = ProfileChanged(email="Countess@x.org", email_prepared="countess@x.org", email_released="ada@x.org")
NEW_PASSWORD = NewPassword("new hash", verified_version=1)


def change(
    *, nickname: Renaming | None = None, email: Renaming | None = None, email_removed: str | None = None,
    password: NewPassword | None = None, profile_version: int = 1, user_id: int = 1, session_id: int = 2,
) -> ChangeProfile:  # fmt: skip
    return ChangeProfile(user_id, session_id, profile_version, nickname, email, email_removed, password)


def test_a_new_nickname_frees_the_old_one() -> None:
    book = given(LOGGED_IN).when(change(nickname=LOVELACE)).then([on("user-1", RENAMED)])
    assert book.documents("names").get(TAGGER("nickname", "lovelace")) == Name("nickname", 1)
    assert TAGGER("nickname", "ada the great") not in book.documents("names")
    assert book.documents("users")["1"].nickname == "Lovelace"


def test_a_nickname_in_another_case_is_the_same_nickname() -> None:
    louder = Renaming(taking("nickname", "ADA THE GREAT"), "ada the great")
    book = (
        given(LOGGED_IN)
        .when(change(nickname=louder))
        .then(
            [
                on(
                    "user-1",
                    ProfileChanged(
                        nickname="ADA THE GREAT", nickname_prepared="ada the great", nickname_released="ada the great"
                    ),
                )
            ]
        )
    )
    assert book.documents("names").get(TAGGER("nickname", "ada the great")) == Name("nickname", 1)


def test_a_new_address_frees_the_old_one() -> None:
    book = given(LOGGED_IN).when(change(email=NEW_ADDRESS)).then([on("user-1", MOVED)])
    assert TAGGER("email", "countess@x.org") in book.documents("names")
    assert TAGGER("email", "ada@x.org") not in book.documents("names")


def test_a_first_address_frees_nothing() -> None:
    first = Renaming(taking("email", "ada@x.org"), None)
    given([registered("ada"), opened(user=1)]).when(change(email=first)).then(
        [on("user-1", ProfileChanged(email="ada@x.org", email_prepared="ada@x.org"))]
    )


def test_an_address_that_is_removed_is_free() -> None:
    book = (
        given(LOGGED_IN)
        .when(change(email_removed="ada@x.org"))
        .then([on("user-1", ProfileChanged(email_released="ada@x.org", email_removed=True))])
    )
    assert book.documents("users")["1"].email is None
    assert TAGGER("email", "ada@x.org") not in book.documents("names")


def test_a_new_address_is_no_removal_of_the_old_one() -> None:
    given(LOGGED_IN).when(change(email=NEW_ADDRESS, email_removed="ada@x.org")).then([on("user-1", MOVED)])


def test_nickname_and_address_change_in_one_event() -> None:
    both = ProfileChanged(
        nickname="Lovelace", nickname_prepared="lovelace", nickname_released="ada the great",
        email="Countess@x.org", email_prepared="countess@x.org", email_released="ada@x.org",
    )  # fmt: skip
    given(LOGGED_IN).when(change(nickname=LOVELACE, email=NEW_ADDRESS)).then([on("user-1", both)])


def test_a_new_password_ends_every_other_session() -> None:
    book = (
        given([ADA, *[opened(user=1)] * 3, GRACE, opened(user=5)])
        .when(change(password=NEW_PASSWORD, session_id=3))
        .then(
            [
                on("user-1", PasswordChanged("new hash")),
                on("session-2", SessionClosed(1, "password_changed")),
                on("session-4", SessionClosed(1, "password_changed")),
            ]
        )
    )
    assert set(book.documents("sessions")) == {"3", "6"}
    assert book.documents("users")["1"].password_version == 7


def test_profile_and_password_change_in_one_command() -> None:
    given([*LOGGED_IN, opened(user=1)]).when(change(nickname=LOVELACE, password=NEW_PASSWORD)).then(
        [
            on("user-1", RENAMED),
            on("user-1", PasswordChanged("new hash")),
            on("session-3", SessionClosed(1, "password_changed")),
        ]
    )


def test_nothing_to_change_changes_nothing() -> None:
    given(LOGGED_IN).when(change()).then([])


@pytest.mark.parametrize(
    ("events", "command"),
    [
        ([], change(nickname=LOVELACE)),
        ([ADA], change(nickname=LOVELACE)),
        ([*LOGGED_IN, on("session-2", SessionClosed(1, "logout"))], change(nickname=LOVELACE)),
        ([*LOGGED_IN, A_DAY], change(nickname=LOVELACE)),
        ([*LOGGED_IN, on("user-1", UserDeactivated())], change(nickname=LOVELACE)),
        ([*LOGGED_IN, GRACE, opened(user=3)], change(nickname=LOVELACE, session_id=4)),
    ],
    ids=["no account", "no session", "logged out", "expired", "deactivated", "another's session"],
)
def test_only_a_live_session_of_ones_own_changes_a_profile(events: list[Given], command: ChangeProfile) -> None:
    given(events).when(command).refused(Unauthenticated)


def test_until_its_last_moment_a_session_changes_a_profile() -> None:
    given([*LOGGED_IN, A_DAY - timedelta(microseconds=1)]).when(change(nickname=LOVELACE)).then([on("user-1", RENAMED)])


@pytest.mark.parametrize(
    "command",
    [change(nickname=LOVELACE), change(email=NEW_ADDRESS), change(email_removed="ada@x.org")],
    ids=["nickname", "email", "email removed"],
)
def test_names_that_moved_since_they_were_read_are_read_anew(command: ChangeProfile) -> None:
    # The version is that of the event before: what would be released is not what the account has now.
    given([*LOGGED_IN, on("user-1", MOVED)]).when(command).refused(Stale)


def test_with_the_version_of_now_names_change_again() -> None:
    again = Renaming(taking("nickname", "Byron"), "lovelace")
    given([*LOGGED_IN, on("user-1", RENAMED)]).when(change(nickname=again, profile_version=3)).then(
        [
            on(
                "user-1",
                ProfileChanged(nickname="Byron", nickname_prepared="byron", nickname_released="lovelace"),
            )
        ]
    )  # fmt: skip


def test_a_password_that_moved_since_it_was_verified_is_verified_anew() -> None:
    changed = [*LOGGED_IN, on("user-1", PasswordChanged("another hash"))]
    given(changed).when(change(password=NEW_PASSWORD)).refused(Stale)
    given(changed).when(change(password=NewPassword("new hash", verified_version=3))).then(
        [on("user-1", PasswordChanged("new hash"))]
    )


def test_a_password_changes_whatever_became_of_the_names() -> None:
    given([*LOGGED_IN, on("user-1", RENAMED)]).when(change(password=NEW_PASSWORD)).then(
        [on("user-1", PasswordChanged("new hash"))]
    )


def test_another_users_names_are_refused_by_their_fields() -> None:
    taken_nickname = Renaming(taking("nickname", "GRACE the great"), "ada the great")
    taken_email = Renaming(taking("email", "GRACE@x.org"), "ada@x.org")
    book = given([*LOGGED_IN, GRACE])
    refusal = book.when(change(nickname=taken_nickname, email=taken_email)).refused(InvalidFields)
    assert refusal.errors == (
        FieldError("nickname", "This nickname is taken."),
        FieldError("email", "This e-mail address is taken."),
    )
    # One name that is taken keeps the other from changing as well, and the password too.
    refusal = book.when(change(nickname=taken_nickname, email=NEW_ADDRESS, password=NEW_PASSWORD)).refused(
        InvalidFields
    )
    assert [error.field for error in refusal.errors] == ["nickname"]


def test_an_old_password_that_was_one_guess_too_many_changes_nothing() -> None:
    limit = Limit("device:a", 2, timedelta(minutes=15))
    failed = LoginFailed("wrong_password", 1, (ThrottleStep("device:a", 2, START + timedelta(seconds=2)),))
    command = replace(change(nickname=LOVELACE, password=NEW_PASSWORD), limits=(limit,))
    given([*LOGGED_IN, on("user-1", failed)]).when(command).refused(Throttled)
    given([*LOGGED_IN, on("user-1", failed), timedelta(seconds=2)]).when(command).then(
        [on("user-1", RENAMED), on("user-1", PasswordChanged("new hash"))]
    )
