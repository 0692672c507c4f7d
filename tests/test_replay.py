"""Replay: to a position and on is one replay; what was, as it was; and what the live read models say."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.catalogue import UserLevelChanged
from events.errors import FoldError, UndecodableEntryError
from events.log import Query
from events.memory import MemoryLog
from events.recorded import Recorded
from events.sealing import open_event
from projections.catalogue import SESSIONS, USERS, all_projections
from projections.names import Tagger
from projections.replay import Replay, catch_up, replay
from service.errors import BadCredentials
from service.gate.attempts import Client
from tests.entries import START, append, closed, entry_of, failed, opened, registered
from tests.house import Clock, house
from tests.strategies import recorded_events

ALL = all_projections(Tagger(bytes(32)))


def as_it_is(recorded: Recorded) -> Recorded:
    """Opens what is plain text already."""
    return recorded


def log_of(told: list[Recorded]) -> MemoryLog:
    log = MemoryLog()
    with log.transaction() as transaction:
        transaction.append([entry_of(recorded) for recorded in told])
    return log


def state_of(folded: Replay) -> tuple[int, dict[str, str]]:
    return folded.position, {projection.name: folded.digest(projection.name) for projection in folded.projections}


@pytest.fixture
def log() -> MemoryLog:
    """Six events, an hour apart."""
    log = MemoryLog()
    append(
        log,
        ("user", registered("alice")),
        ("session", opened(1)),
        ("user-1", UserLevelChanged(2)),
        ("service", failed()),
        ("session-2", closed(1)),
        ("user-1", UserLevelChanged(1)),
        step=timedelta(hours=1),
    )
    return log


@given(recorded_events(), st.lists(st.integers(0, 32), max_size=5))
def test_to_a_position_and_on_is_one_replay(told: list[Recorded], stops: list[int]) -> None:
    log = log_of(told)
    whole = replay(log, ALL, opener=as_it_is)
    folded = Replay(ALL, as_it_is)
    for stop in sorted(stops):
        catch_up(folded, log, until=stop)
        assert folded.position == min(stop, len(told))
        assert folded.documents == replay(log, ALL, until=stop, opener=as_it_is).documents
    catch_up(folded, log)
    assert folded.documents == whole.documents
    assert state_of(folded) == state_of(whole)
    assert whole.position == len(told)


def test_to_a_position_is_a_replay_of_what_stood_there(log: MemoryLog) -> None:
    for until in range(7):
        told = [recorded for recorded in log.read(Query()) if recorded.position <= until]
        expected = Replay(ALL, as_it_is)
        expected.fold(told)
        assert state_of(replay(log, ALL, until=until, opener=as_it_is)) == state_of(expected)


@pytest.mark.parametrize(
    ("after", "level", "sessions"),
    [
        (timedelta(0), 1, 0),
        (timedelta(hours=1), 1, 1),
        (timedelta(hours=2, minutes=59), 2, 1),
        (timedelta(days=9), 1, 0),
    ],
)
def test_what_was_at_a_moment(log: MemoryLog, after: timedelta, level: int, sessions: int) -> None:
    folded = replay(log, ALL, until=log.position_at(START + after))
    assert folded.documents["users"]["1"].level == level
    assert folded.documents["users"]["1"].open_sessions == len(folded.documents["sessions"]) == sessions


def test_before_the_first_event_there_was_nothing(log: MemoryLog) -> None:
    folded = replay(log, ALL, until=log.position_at(START - timedelta(microseconds=1)), opener=as_it_is)
    assert folded.position == 0
    assert not any(folded.documents.values())


def test_beyond_the_end_is_the_end(log: MemoryLog) -> None:
    assert replay(log, ALL, until=99).position == 6


def test_without_keys_what_needs_them_is_left_out(log: MemoryLog) -> None:
    assert list(replay(log, ALL).documents) == ["users", "sessions", "throttles", "activity"]
    assert list(replay(log, ALL, opener=as_it_is).documents) == ["users", "names", "sessions", "throttles", "activity"]


def test_only_what_is_opened_is_opened(log: MemoryLog) -> None:
    asked: list[int] = []

    def opener(recorded: Recorded) -> Recorded:
        asked.append(recorded.position)
        return recorded

    replay(log, ALL, opener=opener)
    assert asked == [1], "names alone looks at plain text, and only at what gives or frees a name"


def test_progress_is_told_after_every_page(monkeypatch: pytest.MonkeyPatch) -> None:
    log = MemoryLog()
    append(log, *([("service", failed())] * 2_500))
    heard: list[int] = []
    replay(log, [SESSIONS], progress=heard.append)
    assert heard == [1_000, 2_000, 2_500]


def test_what_was_appended_meanwhile_is_caught_up_with(log: MemoryLog) -> None:
    folded = replay(log, ALL, opener=as_it_is)
    append(log, ("session", opened(1)))
    catch_up(folded, log)
    assert state_of(folded) == state_of(replay(log, ALL, opener=as_it_is))
    assert folded.documents["users"]["1"].open_sessions == 1


def test_a_fold_that_fails_stops_the_replay_where_it_stands(log: MemoryLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(USERS), "keys", lambda self, recorded: ["1"] if recorded.position < 5 else 1 // 0)
    folded = Replay(ALL)
    for _ in range(2):
        with pytest.raises(FoldError, match="users failed on position 5"):
            catch_up(folded, log)
    assert folded.position == 4


def test_an_entry_that_cannot_be_read_stops_the_replay(log: MemoryLog) -> None:
    log.stored[2] = msgspec.structs.replace(log.stored[2], data=b"{}")
    with pytest.raises(UndecodableEntryError, match="position 3"):
        replay(log, ALL)


async def test_the_live_read_models_are_what_a_replay_makes_of_the_book(tmp_path: Path) -> None:
    client = Client("test", "192.0.2.1", "Lynx")
    async with house(tmp_path, clock=Clock()) as living:
        gate, clock = living.gate, living.clock
        for name in ("alice", "robert"):
            await gate.register(client, username=name, nickname=name, password="correct horse battery")
        held = [(await gate.log_in(client, "alice", "correct horse battery")).principal for _ in range(3)]
        with pytest.raises(BadCredentials):
            await gate.log_in(client, "robert", "wrong horse battery")
        clock.pass_by(hours=2)
        await gate.change_profile(client, held[0], nickname="Alma", email="al@example.com")
        await gate.log_out(client, held[1])
        book = living.book
        folded = replay(book.log, book.projections, opener=lambda recorded: open_event(recorded, book.keyring))
        states = book.read_models.states()
        assert {name: state.digest for name, state in states.items()} == state_of(folded)[1]
        assert {state.position for state in states.values()} == {folded.position} == {book.log.head().position}
        for projection in book.projections:
            rows = {row.key: book.decode(projection, row.document) for row in book.read_models.scan(projection)}
            assert rows == folded.documents[projection.name]
            assert states[projection.name].documents == len(rows)
