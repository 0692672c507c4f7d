"""How failures are counted, when they refuse, and when they are forgotten."""

from datetime import timedelta

import pytest

from events.catalogue import LoginFailed, LoginThrottled, ThrottlesForgotten, ThrottleStep
from projections.throttles import Throttle
from service.decisions.throttling import (
    FORGOTTEN_AFTER,
    HALVED_AFTER,
    ForgetThrottles,
    Limit,
    NoteThrottled,
    refusing_until,
    step,
)
from tests.given import A_DAY, START, Given, given, on

LIMIT = Limit("account:a", 5, timedelta(minutes=15))
A_SECOND = timedelta(seconds=1)
A_MOMENT = timedelta(microseconds=1)
IN_A_MINUTE = START + timedelta(minutes=1)
NOTE = NoteThrottled("account:a")


def failed(*, until: timedelta | None = None, key: str = "account:a") -> Given:
    steps = (ThrottleStep(key, 5, None if until is None else START + until),)
    return on("service", LoginFailed("unknown_account", None, steps))


@pytest.mark.parametrize(
    ("failures_before", "delay"),
    [(0, None), (1, None), (3, None), (4, 1), (5, 2), (6, 4), (7, 8), (13, 512), (14, 900), (15, 900), (10_000, 900)],
)
def test_from_the_fifth_failure_on_each_doubles_the_delay_up_to_the_longest(
    failures_before: int, delay: int | None
) -> None:
    before = Throttle(failures_before, START) if failures_before else None
    after = step(before, LIMIT, START)
    assert after.failures == failures_before + 1
    assert after.until == (None if delay is None else START + timedelta(seconds=delay))


def test_an_absurdly_long_limit_is_still_a_moment_in_time() -> None:
    after = step(Throttle(10_000, START), Limit("a", 5, timedelta(days=365_000)), START)
    assert after.until == START + timedelta(seconds=2**30)


def test_after_a_day_without_a_failure_counting_begins_anew() -> None:
    many = 2**40
    assert step(Throttle(many, START), LIMIT, START + FORGOTTEN_AFTER) == ThrottleStep("account:a", 1)
    assert step(Throttle(many, START), LIMIT, START + FORGOTTEN_AFTER - A_MOMENT).failures > 1


def test_each_quiet_hour_halves_what_was_counted() -> None:
    counts = [step(Throttle(9, START), LIMIT, START + hours * HALVED_AFTER).failures for hours in range(5)]
    assert counts == [10, 5, 3, 2, 1]
    assert step(Throttle(9, START), LIMIT, START + HALVED_AFTER - A_MOMENT).failures == 10


def test_a_clock_that_was_set_back_forgets_nothing() -> None:
    assert step(Throttle(9, START), LIMIT, START - FORGOTTEN_AFTER).failures == 10


def test_a_throttle_refuses_until_the_end_of_its_window() -> None:
    throttle = Throttle(5, START, IN_A_MINUTE)
    assert refusing_until(throttle, IN_A_MINUTE - A_MOMENT) == IN_A_MINUTE
    assert refusing_until(throttle, IN_A_MINUTE) is None
    assert refusing_until(Throttle(4, START), START) is None
    assert refusing_until(None, START) is None


def test_a_refused_attempt_is_told_of() -> None:
    book = (
        given([failed(until=timedelta(minutes=1))])
        .when(NOTE)
        .then([on("service", LoginThrottled("account:a", IN_A_MINUTE))])
    )
    assert book.documents("throttles")["account:a"].noted == IN_A_MINUTE


def test_once_a_window() -> None:
    told = [failed(until=timedelta(minutes=1)), on("service", LoginThrottled("account:a", IN_A_MINUTE))]
    given(told).when(NOTE).then([])
    later = [*told, timedelta(minutes=1), failed(until=timedelta(minutes=3))]
    given(later).when(NOTE).then([on("service", LoginThrottled("account:a", START + timedelta(minutes=3)))])


@pytest.mark.parametrize(
    "events",
    [[], [failed()], [failed(until=A_SECOND), A_SECOND]],
    ids=["nothing counted", "no window", "window over"],
)
def test_where_no_window_refuses_there_is_nothing_to_tell(events: list[Given]) -> None:
    given(events).when(NOTE).then([])


def test_throttles_without_a_failure_for_a_day_are_forgotten() -> None:
    book = (
        given([failed(key="account:a"), failed(key="address:b"), A_DAY])
        .when(ForgetThrottles(("account:a", "address:b", "account:never")))
        .then([on("service", ThrottlesForgotten(("account:a", "address:b")))])
    )
    assert book.documents("throttles") == {}


def test_one_that_failed_since_stays() -> None:
    given([failed(key="account:a"), failed(key="address:b"), A_DAY - A_MOMENT, failed(key="account:a"), A_MOMENT]).when(
        ForgetThrottles(("account:a", "address:b"))
    ).then([on("service", ThrottlesForgotten(("address:b",)))])


def test_one_that_still_refuses_stays() -> None:
    given([failed(until=A_DAY + A_SECOND), A_DAY]).when(ForgetThrottles(("account:a",))).then([])
    given([failed(until=A_DAY + A_SECOND), A_DAY, A_SECOND]).when(ForgetThrottles(("account:a",))).then(
        [on("service", ThrottlesForgotten(("account:a",)))]
    )


def test_nothing_to_forget_says_nothing() -> None:
    given([failed()]).when(ForgetThrottles(("account:a",))).then([])
    given([]).when(ForgetThrottles(())).then([])
