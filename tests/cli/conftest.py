"""A store for each test, and the command over it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.gatebook import Gatebook
from tests.house import book_in


@pytest.fixture
def gatebook(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Gatebook:
    with book_in(tmp_path):
        pass
    return Gatebook(tmp_path, capsys, monkeypatch)
