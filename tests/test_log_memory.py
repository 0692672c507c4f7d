"""The log in memory keeps the contract of the log."""

from __future__ import annotations

import pytest

from events.memory import MemoryLog
from tests.log_contract import LogContract, Opening


class TestMemoryLog(LogContract):
    @pytest.fixture
    def opening(self) -> Opening:
        log = MemoryLog()
        return lambda: log
