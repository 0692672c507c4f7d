"""The pace of one connection: what it may send at once, and how long it waits beyond that."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.guards.pacing import Pace


def test_a_seconds_worth_may_come_at_once_and_then_no_more_than_the_rate() -> None:
    pace = Pace(10)
    assert [pace.delay(5.0) for _ in range(10)] == [0.0] * 10
    # Each waits for the one before it, so that ten a second come from here on.
    now, taken = 5.0, 0
    while now < 7.0:
        now += pace.delay(now)
        taken += 1
    assert taken == pytest.approx(20, abs=1)


def test_whoever_waits_may_send_at_once_again() -> None:
    pace = Pace(10)
    for _ in range(30):
        pace.delay(0.0)
    assert pace.delay(100.0) == 0.0
    assert [pace.delay(100.0) for _ in range(9)] == [0.0] * 9
    assert pace.delay(100.0) == pytest.approx(0.1)


@given(st.integers(1, 1_000), st.lists(st.floats(0, 0.5), min_size=1, max_size=200))
def test_never_are_more_taken_than_the_rate_and_one_burst(rate: int, gaps: list[float]) -> None:
    pace = Pace(rate)
    now = 1.0
    for number, gap in enumerate(gaps):
        assert number <= rate * (now - 1.0) + rate + 1e-6
        now += pace.delay(now) + gap
