"""Running one command line: arguments in, exit code out, every error as one sentence on stderr."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from io import TextIOWrapper
from pathlib import Path
from typing import Final

from service.cli.exits import Exit, NothingThereError, UsageError

__all__ = ["run", "run_process"]

_HOME: Final = Path(__file__).resolve().parent.parent.parent


def run_process(arguments: Sequence[str]) -> int:
    """Runs the command line for a process of its own, and leaves the streams so that Python ends quietly."""
    from service.ownership import ForeignPackageError, refuse_foreign_packages

    try:
        # Before anything else is imported: it might be somebody else's.
        refuse_foreign_packages()
    except ForeignPackageError as error:
        sys.stderr.write(f"gatebook: {error}\n")
        return Exit.FOREIGN
    from service.logs import configure_logs

    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a character is shown its number; nothing ends in a traceback for that.
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    # What a library or a batch has to say goes to stderr, never between the objects on stdout.
    configure_logs(log_level="warning")
    code = run(arguments)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        code = code or Exit.READER_GONE
    except OSError as error:
        code = code or _told(error, as_json="--json" in arguments)
    if code == Exit.READER_GONE:
        # Python flushes once more at its end, and would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code


def run(arguments: Sequence[str]) -> int:
    """The exit code of one command line, in this process; every exception but those that end a process is told."""
    as_json = "--json" in arguments
    try:
        from service.cli.command import invoke

        return invoke(arguments)
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except BaseExceptionGroup as group:
        return _told(_first_of(group), as_json=as_json)
    except Exception as error:  # noqa: BLE001 - told, each in its sentence
        return _told(error, as_json=as_json)


def _told(error: BaseException, *, as_json: bool) -> Exit:
    """Prints the error and returns the exit code that it ends in."""
    from service.cli.speech import print_error
    from service.credentials.tokens import without_tokens

    if isinstance(error, KeyboardInterrupt):
        return Exit.INTERRUPTED
    if isinstance(error, BrokenPipeError):
        return Exit.READER_GONE
    code, message, more = _in_words(error)
    if code is Exit.INTERNAL and sys.flags.dev_mode:
        raise error
    # Whoever pasted a token where an argument belongs is told of the argument, without the token.
    print_error(without_tokens(message), code, as_json=as_json, **more)
    return code


def _in_words(error: BaseException) -> tuple[Exit, str, dict[str, object]]:
    """The exit code, the sentence, and what more machines are told: the stable word of a refusal, and its fields."""
    from cyclopts import CycloptsError
    from cyclopts.exceptions import UnusedCliTokensError

    from events.errors import BookError, MasterKeyError, StoreError
    from service.errors import InvalidFields, Refused, Unavailable
    from service.guards.listening import ListenError
    from service.guards.tls import TLSError
    from service.settings_sources import SettingsError

    match error:
        case UnusedCliTokensError():
            return Exit.USAGE, f"That is more than the command takes: {' '.join(error.unused_tokens or ())}", {}
        case CycloptsError():
            return Exit.USAGE, " ".join(str(error).split()), {}
        case UsageError() | SettingsError() | TLSError():
            return Exit.USAGE, str(error), {}
        case StoreError() | MasterKeyError():
            return Exit.STORE, str(error), {}
        case ListenError():
            return Exit.LISTEN, str(error), {}
        case InvalidFields():
            sentences = " ".join(one.message for one in error.errors)
            return Exit.REFUSED, sentences, {"error": error.code, "fields": error.errors}
        case Unavailable():
            return Exit.REFUSED, f"{error.message} The reason: {error.reason}.", {"error": error.code}
        case Refused():
            return Exit.REFUSED, str(error), {"error": error.code}
        case NothingThereError() | BookError():
            return Exit.REFUSED, str(error), {}
        case OSError():
            return Exit.STORE, f"The system refused: {error.strerror or type(error).__name__}.", {}
        case _:
            return Exit.INTERNAL, f"A fault in gatebook itself, {_named(error)}; please report it.", {}


def _first_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first exception in a group: what a task of a nursery ended with."""
    first: BaseException = group
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return first


def _named(error: BaseException) -> str:
    """The error's type and the last place of ours that it went through: its own text may hold what was typed."""
    name = type(error).__name__
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        if path.is_relative_to(_HOME) and "site-packages" not in path.parts:
            return f"{name} at {path.relative_to(_HOME)}:{frame.lineno}"
    return name
