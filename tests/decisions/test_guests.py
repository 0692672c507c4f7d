"""Guests: how they come, how many may, and how they log in."""

from datetime import timedelta

import msgspec
import pytest

from events.catalogue import GuestCreated, GuestLinked, SessionClosed, SessionOpened, SessionSeen, UserDeactivated
from service.decisions.guests import CreateGuest
from service.decisions.login import LogIn
from service.decisions.sessions import EndSession, ExpireSessions, SeeSession
from service.errors import BadCredentials, Stale, TooManyGuests, Unauthenticated
from tests.given import A_DAY, START, Given, given, guest, on, opened, registered

ADA = registered("ada")
HERE = "guests:here"
COMING = CreateGuest("e" * 64, A_DAY, HERE, 2)
CAME = GuestCreated("e" * 64, START + A_DAY, HERE)
LOGIN = LogIn(1, 1, "e" * 64, timedelta(hours=2), most_sessions=3, guest=2)
OPENED = SessionOpened(1, "e" * 64, START + timedelta(hours=2))
HOUR = timedelta(hours=1)


def test_a_guest_is_a_session_of_their_own() -> None:
    book = given([]).when(COMING).then([on("session", CAME)])
    session = book.documents("sessions")["1"]
    assert (session.id, session.user_id, session.guest, session.expires_at) == (1, 1, True, START + A_DAY)
    assert book.documents("users") == {}
    assert book.documents("activity")["2026-11-21T12"].guests == 1
    assert book.documents("activity")["2026-11-21T12"].logins == 0


def test_no_more_come_from_one_address_than_may() -> None:
    here = guest(origin=HERE)
    given([here]).when(COMING).then([on("session", CAME)])
    given([here, here]).when(COMING).refused(TooManyGuests)
    given([here, guest(origin="guests:there")]).when(COMING).then([on("session", CAME)])
    given([here, guest()]).when(COMING).then([on("session", CAME)])


def test_a_guest_takes_a_place_until_their_end_is_written_down() -> None:
    here: list[Given] = [guest(origin=HERE), guest(origin=HERE)]
    given([*here, A_DAY]).when(COMING).refused(TooManyGuests)
    given([*here, on("session-1", SessionClosed(1, "expired"))]).when(COMING).then([on("session", CAME)])


def test_where_none_may_come_none_does() -> None:
    given([]).when(msgspec.structs.replace(COMING, most=0)).refused(TooManyGuests)


def test_an_address_without_a_bound_is_not_counted() -> None:
    unbounded = msgspec.structs.replace(COMING, most=None)
    given([guest(origin=HERE)] * 3).when(unbounded).then([on("session", CAME)])


def test_somebody_without_an_address_is_not_counted() -> None:
    nowhere = msgspec.structs.replace(COMING, origin=None)
    given([guest(), guest(), guest()]).when(nowhere).then([on("session", msgspec.structs.replace(CAME, origin=None))])


def test_a_guest_who_logs_in_is_linked_and_their_session_replaced() -> None:
    book = (
        given([ADA, guest(origin=HERE)])
        .when(LOGIN)
        .then(
            [
                on("session-2", GuestLinked(1)),
                on("session-2", SessionClosed(2, "replaced")),
                on("session", OPENED),
            ]
        )
    )
    assert list(book.documents("sessions")) == ["5"]
    assert book.documents("users")["1"].open_sessions == 1


@pytest.mark.parametrize(
    "meanwhile",
    [
        [on("session-2", SessionClosed(2, "expired"))],
        [on("session-2", GuestLinked(1)), on("session-2", SessionClosed(2, "replaced"))],
        [A_DAY],
    ],
    ids=["ended", "logged in already", "out of time"],
)
def test_a_guest_logs_in_once_and_only_while_they_are_there(meanwhile: list[Given]) -> None:
    given([ADA, guest(), *meanwhile]).when(LOGIN).refused(Unauthenticated)


def test_a_users_session_is_no_guest() -> None:
    given([ADA, opened(user=1)]).when(LOGIN).refused(Unauthenticated)


def test_a_login_that_is_refused_leaves_the_guest_as_they_are() -> None:
    given([ADA, guest(), on("user-1", UserDeactivated())]).when(LOGIN).refused(BadCredentials)
    given([ADA, guest()]).when(msgspec.structs.replace(LOGIN, password_version=7)).refused(Stale)


def test_a_guest_is_seen_expires_and_is_ended_as_anybody() -> None:
    given([guest(), HOUR]).when(SeeSession(1, HOUR)).then([on("session-1", SessionSeen(1))])
    given([guest(), A_DAY]).when(ExpireSessions((1,))).then([on("session-1", SessionClosed(1, "expired"))])
    given([guest()]).when(EndSession(1, 1, "revoked")).then([on("session-1", SessionClosed(1, "revoked"))])
