"""The registry in a whole service: it hears of what a newer gatebook ends in a way that this one cannot read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from structlog.testing import capture_logs

from events import merkle
from events.catalogue import SessionClosed
from events.errors import UndecodableEntryError
from events.recorded import Entry
from projections.catalogue import SESSIONS
from projections.store import Change
from tests.desk import Desk
from tests.entries import entry_of, record
from tests.guards.edge import PATIENCE
from tests.house import Clock, book_in
from tests.sockets.test_registry import Client
from tests.whole import whole


@pytest.fixture(autouse=True)
def logged() -> Iterator[list[Any]]:
    """What was logged."""
    with capture_logs() as lines:
        yield lines


def of_the_future(entry: Entry) -> Entry:
    """The entry with an event that none of ours is."""
    data = entry.data.replace(b'"session.closed"', b'"session.merged"')
    return msgspec.structs.replace(entry, type="session.merged", data=data, leaf=merkle.leaf_hash(data))


def end_as_a_newer_gatebook(desk: Desk, session_id: int) -> None:
    """A newer gatebook's fold lets the session go, for an event of a type that this one has never heard of."""
    book, stream = desk.book, f"session-{session_id}"
    with book.log.transaction() as transaction:
        models = book.read_models.within(transaction)
        [recorded] = record([(stream, SessionClosed(1, "logout"))], after=desk.head(), versions={stream: 1})
        transaction.append([of_the_future(entry_of(recorded))])
        models.write(SESSIONS, {str(session_id): Change(book.read_models.get(SESSIONS, str(session_id)), None)})


async def test_what_a_newer_gatebook_ends_in_its_own_way_is_heard_of(tmp_path: Path, logged: list[Any]) -> None:
    async with whole(tmp_path) as (parts, _):
        with book_in(tmp_path) as book:
            desk = Desk(book, Clock(parts.clock()))
            user = desk.account("alice")
            ends, lives = Client(), Client()
            sessions = [desk.session(user), desk.session(user)]
            for session_id, client in zip(sessions, (ends, lives), strict=True):
                parts.registry.hold(session_id, client)
            end_as_a_newer_gatebook(desk, sessions[0])
            with pytest.raises(UndecodableEntryError):
                desk.told(desk.head())
            with trio.fail_after(PATIENCE):
                await ends.heard.wait()

        assert (ends.dropped, lives.dropped) == ([sessions[0]], [])
        assert parts.registry.holds(sessions[1], lives)
    assert [line["event"] for line in logged if line["log_level"] == "error"] == ["entry_not_counted"]
