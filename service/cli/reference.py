"""The page about the command line, made from what `--help` says: `python -m service.cli.reference` prints it."""

from __future__ import annotations

from io import StringIO
from typing import Final

from rich.console import Console

from service.cli.command import app
from service.cli.exits import MEANINGS

__all__ = ["COMMANDS", "reference"]

WIDTH: Final = 100
COMMANDS: Final = (
    (),
    ("serve",),
    ("events",),
    ("replay",),
    ("verify",),
    ("projections", "list"),
    ("projections", "show"),
    ("projections", "rebuild"),
    ("users", "add"),
    ("users", "list"),
    ("users", "show"),
    ("users", "set-password"),
    ("users", "set-level"),
    ("users", "deactivate"),
    ("users", "reactivate"),
    ("users", "sessions"),
    ("sessions", "list"),
    ("sessions", "revoke"),
    ("keys", "list"),
    ("keys", "rotate"),
    ("doctor",),
)

_HEADING: Final = """\
# The command line

Every command works on the store itself, whether the service runs or not; a running service sees at once what a command
wrote. `--store` says which store (`sqlite:PATH`; else `GATEBOOK_STORE`, else `sqlite:gatebook.db`), and every other
setting is taken from the environment or from the file that `--config` names, see [settings.md](settings.md).

With `--json` a command prints objects, one a line, in ASCII; its errors are objects too, on stderr:
`{"error": …, "message": …, "exit": …}`. Without it, it prints lines and tables for people, and an error is one sentence
on stderr. Nothing that a user of the service typed can move the cursor or colour the terminal: it is escaped. Colours
and progress bars are for terminals only.

Personal fields are shown opened, since whoever runs these commands holds the keys; `events --sealed` leaves them
closed, and where the keys are not at hand `events`, `replay` and `verify` work without them and say so. Password hashes
and token digests are never shown. What is done here stands in the book with the actor `operator` and the door
`command-line`.

Times are ISO 8601. One that names no offset is UTC, and a date alone is its first moment.

## Exit codes

| code | meaning |
| --- | --- |
"""
_FOOT: Final = "\nThis page is made by `python -m service.cli.reference`.\n"


def reference() -> str:
    """Return docs/command-line.md."""
    codes = "".join(f"| {code.value} | {meaning} |\n" for code, meaning in MEANINGS.items())
    parts = [f"\n## {' '.join(('gatebook', *command))}\n\n```text\n{help_of(command)}```\n" for command in COMMANDS]
    return "".join([_HEADING, codes, _FOOT, *parts])


def help_of(command: tuple[str, ...]) -> str:
    """What `--help` says about a command, as it stands on a terminal of a hundred columns."""
    written = StringIO()
    console = Console(file=written, width=WIDTH, force_terminal=False, no_color=True, markup=False, highlight=False)
    app([*command, "--help"], console=console)
    return "".join(f"{line.rstrip()}\n" for line in written.getvalue().splitlines())


if __name__ == "__main__":
    print(reference(), end="")  # noqa: T201  # printing the page is what it is run for
