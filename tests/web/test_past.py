"""The past of a document where it cannot be told: whose fault it is, and what is said then."""

from __future__ import annotations

from pathlib import Path

import pytest

from events.sqlite import SQLiteLog
from tests.web.serving import Web, web


async def paths_into_the_past(doors: Web) -> tuple[str, str]:
    """A document whose past a reader folds, and one whose past a process of its own does."""
    await doors.register()
    tag = doors.house.book.tag("username", "alice")
    return "/admin/api/projections/users/1?at=1", f"/admin/api/projections/names/{tag}?at=1"


async def test_an_entry_that_cannot_be_decoded_is_a_fault_of_ours_and_nothing_to_wait_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with web(tmp_path) as doors:
        paths = await paths_into_the_past(doors)
        token = await doors.admin()
        for path in paths:
            assert (await doors.get(path, token)).status_code == 200
        log = doors.house.book.log
        assert isinstance(log, SQLiteLog)
        log.connection.execute("DROP TRIGGER log_is_never_updated")
        log.connection.execute("UPDATE log SET entry = ? WHERE position = 1", (b'{"secret-in-the-entry":1}',))
        for path in paths:
            capsys.readouterr()
            answer = await doors.get(path, token)
            assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal_error")
            assert "Retry-After" not in answer.headers
            said = "".join(capsys.readouterr())
            assert "look_failed" in said
            assert "position 1" in said
            assert "secret-in-the-entry" not in said + answer.text


async def test_keys_that_are_not_to_be_had_may_come_back(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        _, replayed = await paths_into_the_past(doors)
        token = await doors.admin()
        assert (await doors.get(replayed, token)).status_code == 200
        key = tmp_path / "gatebook.master-key"
        away = key.rename(tmp_path / "away")
        answer = await doors.get(replayed, token)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")
        assert str(key) not in answer.text
        away.rename(key)
        assert (await doors.get(replayed, token)).status_code == 200
