"""The tree of commands. Those of other modules are imported when they are asked for, so that each starts quickly."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import Final

from cyclopts import App, Group

__all__ = ["app", "invoke"]

app: Final = App(
    name="gatebook",
    help="An authentication service that writes everything down, in a log that is only ever appended to.",
    help_epilogue="`gatebook COMMAND --help` says more, with examples. Exit codes are in docs/command-line.md.",
    help_format="plaintext",
    version=lambda: f"gatebook {version('gatebook')}",
    version_flags=("--version",),
    group_commands=Group("Commands", sort_key=0),
    result_action="return_value",
    exit_on_error=False,
    print_error=False,
    suppress_keyboard_interrupt=False,
)
app.command("service.cli.serving:serve", name="serve", help="Run the service.")
app.command("service.cli.events:events", name="events", help="Show what is in the book, or follow it.")
app.command(
    "service.cli.replaying:replay_book", name="replay", help="Show the state as it was at a position or moment."
)
app.command("service.cli.verifying:verify_book", name="verify", help="Verify the book and all that follows from it.")
app.command("service.cli.projections:app", name="projections", help="List, show and rebuild the read models.")
app.command("service.cli.users:app", name="users", help="Manage accounts.")
app.command("service.cli.sessions:app", name="sessions", help="List and end sessions.")
app.command("service.cli.keys:app", name="keys", help="List and rotate the keys that sign access tokens.")
app.command("service.cli.doctor:doctor", name="doctor", help="Say what is wrong and what to do about it.")


def invoke(arguments: Sequence[str]) -> int:
    """Runs the command that the arguments name, and returns its exit code; 0 for help."""
    code = app(list(arguments))
    return code if isinstance(code, int) else 0
