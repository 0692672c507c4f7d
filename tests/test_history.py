"""One document as it was at any position, against a replay of the whole book to there."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from pathlib import Path
from random import Random
from unittest.mock import patch

import pytest

from events.errors import FoldError, SealError
from events.log import Query, pages
from events.recorded import Recorded
from events.sealing import open_event
from projections.activity import Activity, ActivityByHour
from projections.history import history_of
from projections.names import Names
from projections.replay import Replay
from service.book import memory_book
from tests.books import NOON, opened, random_events, registered, small_book, tell
from tests.house import book_in


@pytest.mark.parametrize("seed", range(3))
def test_history_is_what_a_whole_replay_gives(tmp_path: Path, seed: int) -> None:
    random = Random(seed)  # noqa: S311 - the same positions each time
    with book_in(tmp_path) as book:
        small_book(book)
        random_events(seed, book, 50)

        def opener(recorded: Recorded) -> Recorded:
            return open_event(recorded, book.keyring)

        events = [recorded for page in pages(book.log, Query()) for recorded in page]
        positions = sorted(random.sample(range(len(events) + 1), 12))
        folded = Replay(book.projections, opener)
        whole = Replay(book.projections, opener)
        whole.fold(events)
        seen: dict[str, set[str]] = {name: set(documents) for name, documents in whole.documents.items()}
        asked = 0
        for position in positions:
            folded.fold(events[folded.position : position])
            for projection in book.projections:
                documents = folded.documents[projection.name]
                seen[projection.name] |= documents.keys()
                for key in seen[projection.name]:
                    found = history_of(book.log, projection, key, until=position, opener=opener)
                    assert found == documents.get(key), (projection.name, key, position)
                    asked += found is not None
        assert asked > 200
        assert all(seen.values())


@pytest.mark.parametrize(
    "key",
    [
        "", "0", "-1", "01", "1x", "x", "٣", "9" * 18, "9" * 40, "\x00", "\ud800", "1.0", " 1", "2026-11-21T1",
        "2026-W47-6T12", "0001-01-01T00", "1969-12-31T23", "9999-12-31T23", "2026-11-21T12:00", "2026-02-30T00",
        "username:", "account:9",
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["users", "names", "sessions", "throttles", "activity"])
def test_any_text_may_be_asked_for(tmp_path: Path, name: str, key: str) -> None:
    with book_in(tmp_path) as book:
        small_book(book)
        projection = book.projection(name)
        assert projection is not None
        found = history_of(book.log, projection, key, until=100, opener=lambda one: open_event(one, book.keyring))
        assert found is None


def test_names_have_no_history_without_keys() -> None:
    book = memory_book()
    with pytest.raises(SealError, match="names folds with keys"):
        history_of(book.log, Names(book.tag), "username:", until=1)


def test_an_hour_begins_and_ends_on_the_hour(tmp_path: Path) -> None:
    second = timedelta(microseconds=1)
    with book_in(tmp_path) as book:
        hour = NOON + timedelta(hours=1)
        for at in (
            NOON,
            hour - second,
            hour,
            hour + second,
            hour + timedelta(hours=1) - second,
            hour + timedelta(hours=1),
        ):
            tell(book, at, ("user", registered(at.isoformat())))
        assert history_of(book.log, ActivityByHour(), "2026-11-21T13", until=6) == Activity("2026-11-21T13", 3)
        assert history_of(book.log, ActivityByHour(), "2026-11-21T13", until=4) == Activity("2026-11-21T13", 2)
        assert history_of(book.log, ActivityByHour(), "2026-11-21T13", until=2) is None


def test_only_what_can_touch_the_document_is_read(tmp_path: Path) -> None:
    with book_in(tmp_path) as book:
        users = tell(book, NOON, *(("user", registered(f"user{number}")) for number in range(20)))
        sessions = tell(book, NOON, *(("session", opened(user.position, NOON)) for user in users))
        tag = book.tag("username", "user3")
        later = NOON + timedelta(hours=1)
        tell(book, later, ("session", opened(1, later)))
        reading = book.log.read

        def noting(read: list[Recorded], query: Query) -> list[Recorded]:
            page = reading(query)
            read += page
            return page

        for name, key, most in (
            ("users", "3", 2),
            ("sessions", str(sessions[0].position), 1),
            ("activity", "2026-11-21T13", 1),
            ("names", tag, 20),
        ):
            read: list[Recorded] = []
            projection = book.projection(name)
            assert projection is not None
            with patch.object(book.log, "read", partial(noting, read)):
                found = history_of(
                    book.log, projection, key, until=100, opener=lambda one: open_event(one, book.keyring)
                )
            assert found is not None
            assert len(read) == most


def test_a_fold_that_fails_is_named(tmp_path: Path) -> None:
    class Failing(ActivityByHour):
        def evolve(self, key: str, doc: Activity | None, recorded: Recorded) -> Activity | None:
            raise ZeroDivisionError

    with book_in(tmp_path) as book:
        tell(book, NOON, ("user", registered("ada")))
        with pytest.raises(FoldError, match="activity failed on position 1"):
            history_of(book.log, Failing(), "2026-11-21T12", until=1)
