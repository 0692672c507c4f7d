"""Both read-model stores keep the contract; the one in SQLite refuses what it does not keep up itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from events.errors import NewerStoreError, OlderStoreError
from events.log import EventLog
from events.memory import MemoryLog
from events.sqlite import SQLiteLog
from projections.memory import MemoryReadModels
from projections.projection import AnyProjection
from projections.sqlite import SQLiteReadModels
from projections.store import ReadModels, ReadModelState
from tests.entries import append, failed
from tests.read_model_contract import BOTH, NUMBERED, TEXTS, Cards, Opening, ReadModelContract, change


class TestMemoryReadModels(ReadModelContract):
    @pytest.fixture
    def opening(self) -> Opening:
        store = MemoryLog(), MemoryReadModels(BOTH)
        return lambda: store


def opened(path: Path, *projections: AnyProjection) -> tuple[SQLiteLog, SQLiteReadModels]:
    log = SQLiteLog(path)
    models = SQLiteReadModels(log.connection, path, projections)
    with log.transaction():
        models.create()
    return log, models


class TestSQLiteReadModels(ReadModelContract):
    @pytest.fixture
    def opening(self, tmp_path: Path) -> Opening:
        def opening() -> tuple[EventLog, ReadModels]:
            return opened(tmp_path / "gatebook.db", *BOTH)

        return opening


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gatebook.db"


@pytest.fixture
def log(path: Path) -> Iterator[SQLiteLog]:
    log, models = opened(path, *BOTH)
    with log.transaction() as transaction:
        models.within(transaction).write(TEXTS, {"a": change("one", 1)})
    yield log
    log.close()


def of_revision(revision: int) -> AnyProjection:
    changed = Cards("texts")
    changed.revision = revision
    return changed


def join(log: SQLiteLog, models: SQLiteReadModels) -> None:
    """Joins a transaction, as a writer does before anything else."""
    with log.transaction() as transaction:
        models.within(transaction)


def test_making_the_tables_again_leaves_them_as_they_are(log: SQLiteLog, path: Path) -> None:
    other, models = opened(path, *BOTH)
    assert models.get(TEXTS, "a") is not None
    other.close()


def test_a_read_model_of_an_older_revision_is_not_written_to(log: SQLiteLog, path: Path) -> None:
    models = SQLiteReadModels(log.connection, path, [of_revision(4), NUMBERED])
    assert [projection.name for projection in models.outdated()] == ["texts"]
    with pytest.raises(OlderStoreError, match="run `gatebook projections rebuild texts`"):
        join(log, models)


def test_a_read_model_that_is_missing_is_not_written_to(log: SQLiteLog, path: Path) -> None:
    models = SQLiteReadModels(log.connection, path, [*BOTH, Cards("more")])
    assert [projection.name for projection in models.outdated()] == ["more"]
    with pytest.raises(OlderStoreError, match="read model more"):
        join(log, models)


def test_a_read_model_of_a_newer_revision_is_not_written_to(log: SQLiteLog, path: Path) -> None:
    models = SQLiteReadModels(log.connection, path, [of_revision(2), NUMBERED])
    with pytest.raises(NewerStoreError, match="newer gatebook keeps up texts"):
        models.outdated()
    with pytest.raises(NewerStoreError, match="this one writes no more"):
        join(log, models)


def test_a_read_model_that_is_not_known_is_a_newer_ones(log: SQLiteLog, path: Path) -> None:
    models = SQLiteReadModels(log.connection, path, [TEXTS])
    with pytest.raises(NewerStoreError, match="keeps up numbered"):
        join(log, models)


def test_a_read_model_that_stands_behind_the_log_is_not_written_to(log: SQLiteLog, path: Path) -> None:
    models = SQLiteReadModels(log.connection, path, BOTH)
    append(log, ("service", failed()))
    assert [projection.name for projection in models.outdated()] == ["texts", "numbered"]
    with pytest.raises(OlderStoreError, match="texts"):
        join(log, models)
    with log.transaction() as transaction:
        SQLiteReadModels(log.connection, path, [])._transaction().put_states(
            {name: ReadModelState(3, 1) for name in ("texts", "numbered")}
        )
        models.within(transaction)
    assert models.outdated() == []
