"""The `gatebook` command. Each command is a module of its own, imported when it is asked for."""

import sys

__all__ = ["main"]


def main() -> None:
    """The entry point of the installed script: runs the command line and ends the process with its exit code."""
    from service.cli.process import run_process

    sys.exit(run_process(sys.argv[1:]))
