"""The sentences that decisions are tested with: they must fail when they are not true."""

import pytest

from events.catalogue import UserDeactivated, UserReactivated
from service.decisions.administration import Deactivate, Reactivate
from service.decisions.command import Proposed, Reads, State
from service.errors import Conflict, NotFound
from tests.given import given, on, opened, registered


class Peek:
    """Looks at what it did not declare."""

    def reads(self) -> Reads:
        return Reads(users=(1,))

    def decide(self, state: State) -> tuple[Proposed, ...]:
        state.user(1)
        state.sessions_of(1)
        return ()


def test_other_events_than_expected_fail_with_the_whole_story() -> None:
    decided = given([registered("ada")]).when(Deactivate(1))
    with pytest.raises(AssertionError) as failure:
        decided.then([on("user-1", UserReactivated())])
    story = str(failure.value)
    assert "username='ada'" in story
    assert "when Deactivate(user_id=1" in story
    assert "-[Proposed(stream='user-1', event=UserReactivated())]" in story
    assert "+[Proposed(stream='user-1', event=UserDeactivated(reason=None))]" in story


def test_a_refusal_fails_what_expects_events() -> None:
    with pytest.raises(AssertionError, match="but it was refused: NotFound"):
        given([]).when(Reactivate(1)).then([])


def test_events_fail_what_expects_a_refusal() -> None:
    with pytest.raises(AssertionError, match=r"Conflict was expected, but it gave .*UserDeactivated"):
        given([registered("ada")]).when(Deactivate(1)).refused(Conflict)


def test_another_refusal_than_expected_fails() -> None:
    with pytest.raises(AssertionError, match="Conflict was expected, but it was NotFound"):
        given([]).when(Deactivate(1)).refused(Conflict)
    # Nor does a base class stand for what it is the base of.
    assert given([]).when(Deactivate(1)).refused(NotFound).code == "not_found"


def test_a_look_that_was_not_declared_fails() -> None:
    with pytest.raises(AssertionError, match=r"undeclared, at .'sessions of 1'"):
        given([registered("ada"), opened(user=1)]).when(Peek()).then([])
    given([registered("ada")]).when(Peek()).then([], looking_also_at=["sessions of 1"])


def test_what_was_decided_stands_in_the_book_afterwards() -> None:
    book = given([registered("ada")]).when(Deactivate(1)).then([on("user-1", UserDeactivated())])
    assert not book.documents("users")["1"].active
    assert [one.version for one in book.told] == [1, 2]
