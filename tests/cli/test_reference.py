"""docs/command-line.md says what `--help` says."""

from pathlib import Path

import pytest

from service.cli.command import app
from service.cli.exits import MEANINGS, Exit
from service.cli.reference import COMMANDS, reference
from tests.cli.gatebook import Gatebook

PAGE = Path(__file__).parents[2] / "docs" / "command-line.md"


def test_the_page_is_the_one_that_the_code_makes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert PAGE.read_text(encoding="utf-8") == reference(), (
        "run: python -m service.cli.reference > docs/command-line.md"
    )


def test_the_page_has_every_command() -> None:
    found: set[tuple[str, ...]] = {()}
    for name in ("serve", "events", "replay", "verify", "projections", "users", "sessions", "keys", "doctor"):
        below = [one for one in app[name] if not one.startswith("-")]
        found |= {(name, one) for one in below} if below else {(name,)}
    assert found == set(COMMANDS)


def test_every_exit_code_has_a_meaning() -> None:
    assert set(MEANINGS) == set(Exit)


def test_every_command_has_an_example(gatebook: Gatebook) -> None:
    for command in COMMANDS[1:]:
        said = gatebook(*command, "--help")
        assert said.code == 0
        assert "Example" in said.out, command


def test_the_version_is_told(gatebook: Gatebook, capsys: pytest.CaptureFixture[str]) -> None:
    assert gatebook("--version").out.startswith("gatebook 0.")
