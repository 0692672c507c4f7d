"""What an operator or an admin does to accounts, sessions and read models, and the note that somebody looked."""

import pytest

from events.catalogue import (
    AuditRead,
    Level,
    PasswordChanged,
    ProjectionRebuildAsked,
    SessionClosed,
    UserDeactivated,
    UserLevelChanged,
    UserReactivated,
)
from service.decisions.administration import (
    AskRebuild,
    Deactivate,
    NoteAuditRead,
    Reactivate,
    RevokeSession,
    RevokeSessionsOf,
    SetLevel,
    SetPassword,
)
from service.decisions.command import Command
from service.errors import Conflict, LastAdmin, NotFound
from tests.given import Given, given, guest, on, opened, registered

ADA = registered("ada")
ROOT = registered("root", level=2)
GONE = UserDeactivated()


@pytest.mark.parametrize(
    "command",
    [SetLevel(1, 2), Deactivate(1), Reactivate(1), SetPassword(1, "hash"), RevokeSessionsOf(1)],
    ids=lambda one: type(one).__name__,
)
def test_there_is_no_user_of_that_id(command: Command) -> None:
    given([]).when(command).refused(NotFound)


def test_a_user_becomes_an_admin() -> None:
    book = given([ADA]).when(SetLevel(1, 2)).then([on("user-1", UserLevelChanged(2))])
    assert [admin.id for admin in book.active_admins()] == [1]


def test_an_admin_becomes_a_user_while_there_is_another() -> None:
    given([ROOT, registered("boss", level=2)]).when(SetLevel(1, 1)).then([on("user-1", UserLevelChanged(1))])


@pytest.mark.parametrize("level", [1, 2])
def test_the_level_that_it_is_already_is_nothing_new(level: Level) -> None:
    given([registered("ada", level=level)]).when(SetLevel(1, level)).then([])


def test_the_last_active_admin_stays_an_admin() -> None:
    given([ROOT, ADA]).when(SetLevel(1, 1)).refused(LastAdmin)


def test_a_deactivated_admin_is_no_other_admin() -> None:
    given([ROOT, registered("boss", level=2), on("user-2", GONE)]).when(SetLevel(1, 1)).refused(LastAdmin)


def test_a_deactivated_admin_may_be_demoted() -> None:
    given([ROOT, registered("boss", level=2), on("user-2", GONE)]).when(SetLevel(2, 1)).then(
        [on("user-2", UserLevelChanged(1))]
    )


def test_deactivating_ends_every_session_oldest_first() -> None:
    book = (
        given([ADA, opened(user=1), registered("grace"), opened(user=3), opened(user=1)])
        .when(Deactivate(1, "left the house"))
        .then(
            [
                on("user-1", UserDeactivated("left the house")),
                on("session-2", SessionClosed(1, "deactivated")),
                on("session-5", SessionClosed(1, "deactivated")),
            ]
        )
    )
    assert set(book.documents("sessions")) == {"4"}
    assert book.documents("users")["1"].open_sessions == 0


def test_a_user_is_deactivated_once() -> None:
    given([ADA, on("user-1", GONE)]).when(Deactivate(1)).refused(Conflict)


def test_the_last_active_admin_is_not_deactivated() -> None:
    given([ROOT, ADA]).when(Deactivate(1)).refused(LastAdmin)
    given([ROOT, registered("boss", level=2)]).when(Deactivate(1)).then([on("user-1", GONE)])


def test_a_deactivated_last_admin_is_deactivated_already() -> None:
    given([ROOT, registered("boss", level=2), on("user-1", GONE)]).when(Deactivate(1)).refused(Conflict)


def test_reactivating_lets_the_user_in_again() -> None:
    book = given([ADA, on("user-1", GONE)]).when(Reactivate(1)).then([on("user-1", UserReactivated())])
    assert book.documents("users")["1"].active


def test_an_active_user_is_not_reactivated() -> None:
    given([ADA]).when(Reactivate(1)).refused(Conflict)


def test_another_password_ends_every_session() -> None:
    book = (
        given([ADA, opened(user=1), opened(user=1)])
        .when(SetPassword(1, "new hash"))
        .then(
            [
                on("user-1", PasswordChanged("new hash")),
                on("session-2", SessionClosed(1, "password_changed")),
                on("session-3", SessionClosed(1, "password_changed")),
            ]
        )
    )
    assert book.documents("users")["1"].password_version == 4


def test_a_deactivated_user_may_be_given_another_password() -> None:
    given([ADA, on("user-1", GONE)]).when(SetPassword(1, "new hash")).then([on("user-1", PasswordChanged("new hash"))])


def test_a_session_is_ended_whosever_it_is_and_no_other() -> None:
    book = (
        given([ADA, opened(user=1), opened(user=1)])
        .when(RevokeSession(2))
        .then([on("session-2", SessionClosed(1, "revoked"))])
    )
    assert set(book.documents("sessions")) == {"3"}
    assert book.documents("users")["1"].open_sessions == 1


def test_a_guest_s_session_is_ended_too() -> None:
    book = given([guest()]).when(RevokeSession(1)).then([on("session-1", SessionClosed(1, "revoked"))])
    assert book.documents("sessions") == {}


@pytest.mark.parametrize(
    ("events", "session_id"),
    [([], 1), ([ADA], 1), ([ADA, opened(user=1), on("session-2", SessionClosed(1, "logout"))], 2)],
    ids=["nothing", "a user", "a session that is over"],
)
def test_what_is_no_open_session_is_not_ended(events: list[Given], session_id: int) -> None:
    given(events).when(RevokeSession(session_id)).refused(NotFound)


def test_all_sessions_of_a_user_end_and_nobody_elses() -> None:
    book = (
        given([ADA, ROOT, opened(user=1), opened(user=2), opened(user=1)])
        .when(RevokeSessionsOf(1))
        .then([on("session-3", SessionClosed(1, "revoked")), on("session-5", SessionClosed(1, "revoked"))])
    )
    assert set(book.documents("sessions")) == {"4"}
    assert book.documents("users")["1"].open_sessions == 0


def test_of_a_user_without_sessions_none_end() -> None:
    given([ADA]).when(RevokeSessionsOf(1)).then([])


def test_a_look_is_noted_each_time() -> None:
    looked = [on("service", AuditRead("users/17"))]
    given(looked).when(NoteAuditRead("users/17")).then(looked)


def test_that_a_rebuild_was_asked_for_is_noted_each_time() -> None:
    asked = [on("service", ProjectionRebuildAsked("users"))]
    given(asked).when(AskRebuild("users")).then(asked)
