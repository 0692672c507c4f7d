"""SIGKILL at random moments, with fifty clients at work; `make crash` does the same for longer."""

from __future__ import annotations

from pathlib import Path

from tests.durability.crashes import crash


async def test_what_was_answered_outlives_the_process(tmp_path: Path) -> None:
    report = await crash(tmp_path, rounds=3, seconds=1.5, seed=11)

    assert report.wrong == []
    assert report.kills == 3
    # Fewer would show nothing: somebody must have got something done.
    assert report.answers > 100
