"""Sessions after they were opened: seen, ended, expired."""

from datetime import timedelta

import pytest

from events.catalogue import CloseReason, SessionClosed, SessionSeen, UserDeactivated
from service.decisions.command import Command, Proposed
from service.decisions.sessions import EndOtherSessions, EndOwnSession, EndSession, ExpireSessions, SeeSession
from service.errors import NotFound, Unauthenticated
from tests.given import A_DAY, START, Given, given, guest, on, opened, registered

ADA = registered("ada")
GRACE = registered("grace")
AN_HOUR = timedelta(hours=1)
A_MOMENT = timedelta(microseconds=1)
IDLE = 3 * AN_HOUR
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


# Ending one's own sessions, from one of them

MINE: list[Given] = [ADA, GRACE, opened(user=1), opened(user=1), opened(user=2), opened(user=1)]
"""Ada has the sessions 3, 4 and 6, Grace has 5."""


def revoked(session_id: int, user_id: int = 1) -> Proposed:
    return on(f"session-{session_id}", SessionClosed(user_id, "revoked"))


def test_another_session_of_mine_ends_and_no_other() -> None:
    book = given(MINE).when(EndOwnSession(6, 1, asking=3)).then([revoked(6)])
    assert set(book.documents("sessions")) == {"3", "4", "5"}
    assert book.documents("users")["1"].open_sessions == 2


@pytest.mark.parametrize(
    ("session_id", "before"),
    [(5, []), (7, []), (1, []), (4, [on("session-4", SessionClosed(1, "logout"))])],
    ids=["somebody else's", "nobody's", "not a session", "over"],
)
def test_what_is_no_session_of_mine_is_not_there(session_id: int, before: list[Given]) -> None:
    refusals = {
        str(given([*MINE, *before]).when(EndOwnSession(number, 1, asking=3)).refused(NotFound))
        for number in (session_id, 99)
    }
    assert len(refusals) == 1


def test_a_guests_session_is_not_mine_whatever_its_number() -> None:
    given([ADA, opened(user=1), guest()]).when(EndOwnSession(3, 1, asking=2)).refused(NotFound)
    given([guest(), guest()]).when(EndOwnSession(2, 1, asking=1)).refused(Unauthenticated)


def test_all_other_sessions_of_mine_end_oldest_first() -> None:
    book = given(MINE).when(EndOtherSessions(1, asking=4)).then([revoked(3), revoked(6)])
    assert set(book.documents("sessions")) == {"4", "5"}
    assert book.documents("users")["1"].open_sessions == 1


def test_where_there_is_no_other_none_ends() -> None:
    given([ADA, GRACE, opened(user=1), opened(user=2)]).when(EndOtherSessions(1, asking=3)).then([])


@pytest.mark.parametrize("limit", [None, IDLE], ids=["lifetime", "idle"])
def test_what_is_over_by_the_clock_is_not_ended_again(limit: timedelta | None) -> None:
    begun = opened(user=1, until=START + IDLE) if limit is None else opened(user=1)
    mine: list[Given] = [ADA, begun, IDLE - A_MOMENT, opened(user=1), opened(user=1)]
    given(mine).when(EndOtherSessions(1, 3, limit)).then([revoked(2), revoked(4)])
    given([*mine, A_MOMENT]).when(EndOtherSessions(1, 3, limit)).then([revoked(4)])
    given(mine).when(EndOwnSession(2, 1, 3, limit)).then([revoked(2)])
    given([*mine, A_MOMENT]).when(EndOwnSession(2, 1, 3, limit)).refused(NotFound)


@pytest.mark.parametrize(
    "over",
    [
        [on("session-3", SessionClosed(1, "revoked"))],
        [A_DAY],
        [on("user-1", UserDeactivated())],
    ],
    ids=["ended", "expired", "deactivated"],
)
@pytest.mark.parametrize("command", [EndOwnSession(6, 1, 3), EndOtherSessions(1, 3)], ids=["one", "all others"])
def test_whoever_was_put_out_ends_nothing(command: Command, over: list[Given]) -> None:
    given([*MINE, *over]).when(command).refused(Unauthenticated)


@pytest.mark.parametrize("command", [EndOwnSession(6, 1, 5), EndOtherSessions(1, 5)], ids=["one", "all others"])
def test_nobody_ends_sessions_of_another_from_their_own(command: Command) -> None:
    given(MINE).when(command).refused(Unauthenticated)


# Expiring


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
