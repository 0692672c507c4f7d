"""Sessions after they were opened: seen, ended, expired."""

from datetime import timedelta

import pytest

from events.catalogue import CloseReason, SessionClosed, SessionSeen
from service.decisions.command import Proposed
from service.decisions.sessions import EndSession, ExpireSessions, SeeSession
from service.errors import Unauthenticated
from tests.given import A_DAY, START, Given, given, on, opened, registered

ADA = registered("ada")
GRACE = registered("grace")
AN_HOUR = timedelta(hours=1)
A_MOMENT = timedelta(microseconds=1)
SEE = SeeSession(2, AN_HOUR)
SEEN = [on("session-2", SessionSeen(1))]


def test_a_session_in_use_is_noted_once_the_interval_is_over() -> None:
    book = given([ADA, opened(user=1), AN_HOUR]).when(SEE).then(SEEN)
    assert book.documents("sessions")["2"].seen_at == START + AN_HOUR
    assert book.documents("users")["1"].last_contact == START + AN_HOUR


def test_within_the_interval_nothing_is_noted() -> None:
    given([ADA, opened(user=1), AN_HOUR - A_MOMENT]).when(SEE).then([])


def test_the_interval_begins_anew_with_each_note() -> None:
    noted: list[Given] = [ADA, opened(user=1), AN_HOUR, *SEEN]
    given([*noted, AN_HOUR - A_MOMENT]).when(SEE).then([])
    given([*noted, AN_HOUR]).when(SEE).then(SEEN)


@pytest.mark.parametrize("ended", [[], [on("session-2", SessionClosed(1, "logout"))]], ids=["expired", "logged out"])
def test_a_session_that_is_over_is_in_use_no_more(ended: list[Given]) -> None:
    given([ADA, opened(user=1), *ended, A_DAY]).when(SEE).then([])


def test_a_session_that_never_was_is_not_in_use() -> None:
    given([ADA]).when(SEE).then([])


def test_logging_out_ends_the_session() -> None:
    book = given([ADA, opened(user=1)]).when(EndSession(2, 1)).then([on("session-2", SessionClosed(1, "logout"))])
    assert book.documents("sessions") == {}
    assert book.documents("users")["1"].open_sessions == 0


@pytest.mark.parametrize("reason", ["revoked", "expired"])
def test_a_session_ends_for_the_reason_given(reason: CloseReason) -> None:
    given([ADA, opened(user=1)]).when(EndSession(2, 1, reason)).then([on("session-2", SessionClosed(1, reason))])


def test_a_session_ends_once() -> None:
    ended: list[Given] = [ADA, opened(user=1), on("session-2", SessionClosed(1, "logout"))]
    given(ended).when(EndSession(2, 1)).refused(Unauthenticated)


def test_nobody_ends_another_users_session() -> None:
    given([ADA, GRACE, opened(user=2)]).when(EndSession(3, 1)).refused(Unauthenticated)


def test_sessions_whose_time_is_over_expire() -> None:
    book = (
        given([ADA, opened(user=1, until=START + AN_HOUR), opened(user=1, until=START + AN_HOUR), AN_HOUR])
        .when(ExpireSessions((2, 3)))
        .then([on("session-2", SessionClosed(1, "expired")), on("session-3", SessionClosed(1, "expired"))])
    )
    assert book.documents("sessions") == {}


def test_a_session_named_twice_expires_once() -> None:
    given([ADA, opened(user=1), A_DAY]).when(ExpireSessions((2, 2))).then(
        [on("session-2", SessionClosed(1, "expired"))]
    )


def test_a_session_that_lives_on_is_passed_over() -> None:
    given([ADA, opened(user=1), A_DAY - A_MOMENT]).when(ExpireSessions((2,))).then([])


def test_sessions_that_ended_meanwhile_or_never_were_are_passed_over() -> None:
    given([ADA, opened(user=1), on("session-2", SessionClosed(1, "logout")), A_DAY]).when(ExpireSessions((2, 77))).then(
        []
    )


def test_none_expire_of_none() -> None:
    given([]).when(ExpireSessions(())).then([])


IDLE = 3 * AN_HOUR


@pytest.mark.parametrize(("unseen", "noted"), [(IDLE - A_MOMENT, SEEN), (IDLE, [])], ids=["just in time", "too late"])
def test_a_session_that_was_idle_for_too_long_is_in_use_no_more(unseen: timedelta, noted: list[Proposed]) -> None:
    given([ADA, opened(user=1), unseen]).when(SeeSession(2, AN_HOUR, IDLE)).then(noted)


def test_a_session_that_was_idle_for_too_long_expires() -> None:
    expired = [on("session-2", SessionClosed(1, "expired"))]
    given([ADA, opened(user=1), IDLE - A_MOMENT]).when(ExpireSessions((2,), IDLE)).then([])
    given([ADA, opened(user=1), IDLE]).when(ExpireSessions((2,), IDLE)).then(expired)


def test_being_seen_keeps_a_session_from_being_idle() -> None:
    seen: list[Given] = [ADA, opened(user=1), 2 * AN_HOUR, *SEEN, 2 * AN_HOUR]
    given(seen).when(ExpireSessions((2,), IDLE)).then([])
