"""Logging in, and failing to."""

from datetime import timedelta

import msgspec
import pytest

from events.catalogue import (
    LoginFailed,
    PasswordChanged,
    PasswordRehashed,
    SessionClosed,
    SessionOpened,
    ThrottleStep,
    UserDeactivated,
    UserReactivated,
)
from projections.throttles import Throttle
from service.decisions.login import LogIn, RecordFailure
from service.decisions.throttling import Limit
from service.errors import BadCredentials, Stale, Throttled
from tests.given import A_DAY, START, Given, given, on, opened, registered

ADA = registered("ada")
GRACE = registered("grace")
LOGIN = LogIn(
    user_id=1, password_version=1, token_digest="e" * 64, lifetime=timedelta(hours=2), most_sessions=3,
    address="192.0.2.1", agent="agent/1",
)  # fmt: skip
OPENED = SessionOpened(1, "e" * 64, START + timedelta(hours=2), "192.0.2.1", "agent/1")
REPLACED = SessionClosed(1, "replaced")
LIMIT = Limit("account:a", 2, timedelta(minutes=15))
OTHER = Limit("account:other", 2, timedelta(minutes=15))
NETWORK = Limit("address:b", 100, timedelta(minutes=15), outlives_success=True)


def login(**changes: object) -> LogIn:
    return msgspec.structs.replace(LOGIN, **changes)


def test_a_session_is_opened_for_as_long_as_it_lives() -> None:
    book = given([ADA]).when(LOGIN).then([on("session", OPENED)])
    assert book.documents("sessions")["2"].expires_at == START + timedelta(hours=2)
    assert book.documents("users")["1"].open_sessions == 1


def test_its_life_begins_when_it_is_decided() -> None:
    given([ADA, A_DAY]).when(LOGIN).then(
        [on("session", msgspec.structs.replace(OPENED, expires_at=START + A_DAY + timedelta(hours=2)))]
    )


def test_nobody_logs_in_to_an_account_that_never_was() -> None:
    given([]).when(LOGIN).refused(BadCredentials)


def test_a_deactivated_account_is_refused_as_an_unknown_one_is() -> None:
    refusal = given([ADA, on("user-1", UserDeactivated())]).when(LOGIN).refused(BadCredentials)
    assert str(refusal) == str(given([]).when(LOGIN).refused(BadCredentials))


def test_a_reactivated_account_logs_in() -> None:
    given([ADA, on("user-1", UserDeactivated()), on("user-1", UserReactivated())]).when(LOGIN).then(
        [on("session", OPENED)]
    )


def test_a_password_that_moved_since_it_was_verified_is_verified_anew() -> None:
    changed: list[Given] = [ADA, on("user-1", PasswordChanged("another hash"))]
    given(changed).when(LOGIN).refused(Stale)
    given(changed).when(login(password_version=2)).then([on("session", OPENED)])


def test_a_deactivated_account_is_refused_whether_or_not_its_password_moved() -> None:
    given([ADA, on("user-1", PasswordChanged("another hash")), on("user-1", UserDeactivated())]).when(LOGIN).refused(
        BadCredentials
    )


def test_the_same_password_under_stronger_parameters_is_the_version_that_it_was() -> None:
    rehashed: list[Given] = [ADA, on("user-1", PasswordRehashed("stronger hash"))]
    given(rehashed).when(LOGIN).then([on("session", OPENED)])


def test_a_password_is_rehashed_before_the_session_opens() -> None:
    book = (
        given([ADA])
        .when(login(rehashed="stronger hash"))
        .then([on("user-1", PasswordRehashed("stronger hash")), on("session", OPENED)])
    )
    assert book.documents("users")["1"].password_hash == "stronger hash"
    assert book.documents("users")["1"].password_version == 1


def test_the_session_that_the_connection_held_is_replaced() -> None:
    book = given([ADA, opened(user=1)]).when(login(replaces=2)).then([on("session-2", REPLACED), on("session", OPENED)])
    assert set(book.documents("sessions")) == {"4"}
    assert book.documents("users")["1"].open_sessions == 1


def test_the_session_replaced_may_be_another_users() -> None:
    book = (
        given([ADA, GRACE, opened(user=2)])
        .when(login(replaces=3))
        .then([on("session-3", SessionClosed(2, "replaced")), on("session", OPENED)])
    )
    assert [user.open_sessions for user in book.documents("users").values()] == [1, 0]


def test_a_session_that_ended_meanwhile_is_not_replaced() -> None:
    given([ADA, opened(user=1), on("session-2", SessionClosed(1, "logout"))]).when(login(replaces=2)).then(
        [on("session", OPENED)]
    )


def test_below_the_most_sessions_nothing_is_replaced() -> None:
    given([ADA, opened(user=1), opened(user=1)]).when(LOGIN).then([on("session", OPENED)])


def test_one_session_too_many_replaces_the_oldest() -> None:
    given([ADA, opened(user=1), opened(user=1), opened(user=1)]).when(LOGIN).then(
        [on("session-2", REPLACED), on("session", OPENED)], looking_also_at=["sessions of 1"]
    )


def test_of_many_too_many_the_oldest_go() -> None:
    book = (
        given([ADA, opened(user=1), opened(user=1), opened(user=1), opened(user=1)])
        .when(login(most_sessions=2))
        .then(
            [on(f"session-{number}", REPLACED) for number in (2, 3, 4)] + [on("session", OPENED)],
            looking_also_at=["sessions of 1"],
        )
    )
    assert book.documents("users")["1"].open_sessions == 2


def test_what_is_replaced_makes_room_for_the_new_one() -> None:
    given([ADA, opened(user=1), opened(user=1), opened(user=1)]).when(login(replaces=4)).then(
        [on("session-4", REPLACED), on("session", OPENED)]
    )


def test_replacing_and_still_too_many_ends_the_oldest_of_the_others() -> None:
    given([ADA, *[opened(user=1)] * 3]).when(login(replaces=2, most_sessions=2)).then(
        [on("session-2", REPLACED), on("session-3", REPLACED), on("session", OPENED)], looking_also_at=["sessions of 1"]
    )


def test_another_users_session_makes_no_room() -> None:
    given([ADA, GRACE, opened(user=2), *[opened(user=1)] * 3]).when(login(replaces=3)).then(
        [on("session-3", SessionClosed(2, "replaced")), on("session-4", REPLACED), on("session", OPENED)],
        looking_also_at=["sessions of 1"],
    )


def test_a_success_clears_the_throttles_that_there_are() -> None:
    failed = LoginFailed("wrong_password", 1, (ThrottleStep("account:a", 1),))
    book = (
        given([ADA, on("user-1", failed)])
        .when(login(limits=(LIMIT, OTHER, NETWORK)))
        .then([on("session", msgspec.structs.replace(OPENED, cleared=("account:a",)))])
    )
    assert book.documents("throttles") == {}


def test_a_throttle_that_refuses_by_now_lets_no_password_in() -> None:
    until = START + timedelta(seconds=1)
    failed = on("user-1", LoginFailed("wrong_password", 1, (ThrottleStep("account:a", 2, until),)))
    refusal = given([ADA, failed]).when(login(limits=(OTHER, LIMIT))).refused(Throttled)
    assert refusal.retry_after == 2
    given([ADA, failed, timedelta(seconds=1)]).when(login(limits=(LIMIT,))).then(
        [
            on(
                "session",
                msgspec.structs.replace(OPENED, expires_at=until + timedelta(hours=2), cleared=("account:a",)),
            )
        ]
    )


def failure(**changes: object) -> RecordFailure:
    return msgspec.structs.replace(
        RecordFailure("wrong_password", 1, (LIMIT, NETWORK), "192.0.2.1", "agent/1"), **changes
    )


def test_a_failure_stands_in_the_users_stream_with_what_is_known_of_the_client() -> None:
    book = (
        given([ADA])
        .when(failure())
        .then(
            [
                on(
                    "user-1",
                    LoginFailed(
                        "wrong_password", 1, (ThrottleStep("account:a", 1), ThrottleStep("address:b", 1)),
                        "192.0.2.1", "agent/1",
                    ),
                )
            ]
        )
    )  # fmt: skip
    assert book.documents("throttles") == {"account:a": Throttle(1, START), "address:b": Throttle(1, START)}


@pytest.mark.parametrize("user_id", [None, 7], ids=["nobody", "an account that never was"])
def test_a_failure_of_an_unknown_account_tells_nothing_of_the_client(user_id: int | None) -> None:
    given([ADA]).when(failure(reason="unknown_account", user_id=user_id, limits=(NETWORK,))).then(
        [on("service", LoginFailed("unknown_account", None, (ThrottleStep("address:b", 1),)))]
    )


def test_the_account_that_stands_in_for_nobody_is_read_as_one_that_fails_itself_and_is_not_told_of() -> None:
    of_nobody = failure(reason="unknown_account", user_id=None, limits=(NETWORK,), stand_in=1)
    given([ADA]).when(of_nobody).then(
        [on("service", LoginFailed("unknown_account", None, (ThrottleStep("address:b", 1),)))]
    )
    assert of_nobody.reads() == failure(limits=(NETWORK,), stand_in=1).reads() == failure(limits=(NETWORK,)).reads()


def test_a_deactivated_account_fails_in_its_own_stream() -> None:
    given([ADA, on("user-1", UserDeactivated())]).when(failure(reason="deactivated", limits=())).then(
        [on("user-1", LoginFailed("deactivated", 1, (), "192.0.2.1", "agent/1"))]
    )


def test_the_last_free_failure_closes_the_first_window() -> None:
    book = (
        given([ADA, on("user-1", LoginFailed("wrong_password", 1, (ThrottleStep("account:a", 1),)))])
        .when(failure(limits=(LIMIT,), address=None, agent=None))
        .then(
            [
                on(
                    "user-1",
                    LoginFailed("wrong_password", 1, (ThrottleStep("account:a", 2, START + timedelta(seconds=1)),)),
                )
            ]
        )
    )
    assert book.documents("throttles")["account:a"].until == START + timedelta(seconds=1)
