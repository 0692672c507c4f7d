"""The exit codes of the command line: what each says, and which error ends in which."""

from __future__ import annotations

from enum import IntEnum
from typing import Final


class Exit(IntEnum):
    """How a command ended."""

    DONE = 0
    REFUSED = 1
    USAGE = 2
    STORE = 3
    LISTEN = 4
    FOREIGN = 5
    INTERNAL = 70
    INTERRUPTED = 130
    READER_GONE = 141


MEANINGS: Final[dict[Exit, str]] = {
    Exit.DONE: "done; `events --follow` and `serve` also end so when they are asked to stop",
    Exit.REFUSED: "refused (a name is taken, the last admin, no such thing), or `verify` or `doctor` found a fault",
    Exit.USAGE: "the command line or the settings are wrong; nothing was opened",
    Exit.STORE: "the store or its keys cannot be opened, read or written",
    Exit.LISTEN: "an address cannot be listened on: the port is in use, or not allowed",
    Exit.FOREIGN: "another installed distribution owns one of gatebook's package names",
    Exit.INTERNAL: "a fault in gatebook itself; `python -X dev -m service.cli …` shows where",
    Exit.INTERRUPTED: "interrupted (Ctrl-C)",
    Exit.READER_GONE: "whoever read the output has gone, as when it is piped into `head`; it is not whole",
}


class UsageError(Exception):
    """The command line asks for something that does not go together. Its text is one sentence for whoever typed it."""


class NothingThereError(Exception):
    """What was asked for is not in the book: no such user, document or position. Its text is one sentence."""
