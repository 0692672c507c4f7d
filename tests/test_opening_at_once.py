"""Opening a store while somebody else is making it."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest

from events.errors import StoreBusyError
from events.sqlite import STORE
from events.sqlite_files import connect


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gatebook.db"


def test_a_store_that_another_is_just_making_is_waited_for(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite's own waiting does not cover the change to a write-ahead log: it gives up at once."""
    maker = apsw.Connection(str(path))
    maker.execute("BEGIN IMMEDIATE")
    monkeypatch.setattr("events.sqlite_files.sleep", lambda _: maker.execute("ROLLBACK"), raising=False)

    connection = connect(path, STORE, create=True)

    assert connection.pragma("journal_mode") == "wal"
    connection.close()
    maker.close()


def test_but_not_for_ever(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    maker = apsw.Connection(str(path))
    maker.execute("BEGIN IMMEDIATE")
    monkeypatch.setattr("events.sqlite_files.BUSY_TIMEOUT_MS", 1)

    with pytest.raises(StoreBusyError):
        connect(path, STORE, create=True)

    maker.close()
