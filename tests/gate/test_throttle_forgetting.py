"""Throttles that are let go, as many at a time as the settings allow."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from projections.catalogue import THROTTLES
from service.decisions.login import RecordFailure
from service.decisions.throttling import ForgetThrottles, Limit
from tests.desk import Desk
from tests.house import Clock, book_in


def test_as_many_throttles_as_one_round_may_name_fit_into_the_book(tmp_path: Path) -> None:
    """A thousand keys in one entry would be longer than an entry may be."""
    clock = Clock()
    with book_in(tmp_path) as book:
        desk = Desk(book, clock)
        keys = tuple(f"account:{number:064x}" for number in range(1_000))
        limit = timedelta(minutes=15)
        for start in range(0, len(keys), 100):
            steps = tuple(Limit(key, 5, limit) for key in keys[start : start + 100])
            desk.one(RecordFailure("unknown_account", None, steps))
        clock.pass_by(days=2)

        [outcome] = desk.run(ForgetThrottles(keys))

        assert not isinstance(outcome, Exception), outcome
        assert book.read_models.scan(THROTTLES) == []
        desk.assert_replays()
