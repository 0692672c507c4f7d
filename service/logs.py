"""Log lines on stderr: for people or as JSON, one line each whatever was typed, and without secrets."""

import json
import logging
import math
import re
import sys
import traceback
from collections.abc import Mapping, MutableMapping
from typing import Any, Final, Literal, TextIO

import structlog
from msgspec import Struct
from structlog.stdlib import ProcessorFormatter

__all__ = ["configure_logs", "hide_secrets", "one_line"]

LONGEST_VALUE: Final = 2_000
LONGEST_TRACEBACK: Final = 16_000
MOST_ITEMS: Final = 50
DEEPEST: Final = 4

HIDDEN: Final = "<hidden>"
_SECRET_KEY: Final = re.compile(
    r"passw|secret|token|authori[sz]ation|cookie|credential|session_?key|master_?key|api_?key|\bpwd\b", re.IGNORECASE
)
# A session token, also as it stands in an address or in JSON; and what follows the word Bearer.
_SECRET_TEXT: Final = re.compile(
    r"[1-9][0-9]{0,18}(?:\||%7c|\\u007c)[a-z0-9]{40}|(?<=\bbearer )[^\s'\"]+", re.IGNORECASE | re.ASCII
)

_LEVEL_COLOURS: Final = {"warning": "33", "error": "31", "critical": "31;1"}

_EventDict = MutableMapping[str, Any]


def configure_logs(
    log_format: Literal["auto", "console", "json"] = "auto",
    log_level: Literal["debug", "info", "warning", "error"] = "info",
    stream: TextIO | None = None,
) -> None:
    """Send every log line of this process to `stream` (default: stderr), those of the libraries included.

    `auto` writes for people when a terminal is at the other end, JSON otherwise. Libraries are never heard below info:
    what some of them say there quotes headers. Calling it again replaces what was configured.
    """
    stream = stream or sys.stderr
    watched = stream.isatty()
    console = log_format == "console" or (log_format == "auto" and watched)
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    render = _Console(colours=watched) if console else _as_json
    handler = _Handler(stream)
    handler.setFormatter(
        _Formatter(
            foreign_pre_chain=shared,
            processors=[ProcessorFormatter.remove_processors_meta, _format_exception, hide_secrets, render],
        )
    )
    ours = logging.getLevelNamesMapping()[log_level.upper()]
    logging.basicConfig(handlers=[handler], level=max(ours, logging.INFO), force=True)
    logging.getLogger("gatebook").setLevel(ours)
    for name in ("hypercorn.access", "hypercorn.error", "quart.app", "quart.serving"):
        # They like to bring a handler of their own, which would write past this one.
        library = logging.getLogger(name)
        library.handlers.clear()
        library.propagate = True
    logging.captureWarnings(capture=True)


def one_line(text: str) -> str:
    """Return the text with everything escaped that ends a line, moves a cursor, turns a direction or cannot be seen."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )


def hide_secrets(_logger: object, _method: str, event: _EventDict) -> _EventDict:
    """Replace what stands under the name of a secret, or looks like a session token; bound every value in size.

    A structlog processor: what it returns holds texts, numbers, truths, None, lists and dicts only.
    """
    return {name: _safe(name, value, 0) for name, value in event.items()}


def _safe(name: str, value: object, depth: int) -> object:
    if isinstance(value, Struct):
        value = {field: getattr(value, field) for field in value.__struct_fields__}
    if _SECRET_KEY.search(name) and value is not None and not isinstance(value, bool):
        return HIDDEN
    if value is None or isinstance(value, bool) or (isinstance(value, int) and -(2**63) <= value < 2**64):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if depth < DEEPEST and isinstance(value, Mapping):
        items = list(value.items())[:MOST_ITEMS]
        return {_text(key): _safe(_text(key), item, depth + 1) for key, item in items}
    if depth < DEEPEST and isinstance(value, list | tuple | set | frozenset):
        return [_safe("", item, depth + 1) for item in list(value)[:MOST_ITEMS]]
    return _text(value, LONGEST_TRACEBACK if name == "exception" and depth == 0 else LONGEST_VALUE)


def _text(value: object, longest: int = LONGEST_VALUE) -> str:
    try:
        text = value if isinstance(value, str) else repr(value)
    except Exception:  # noqa: BLE001  # whatever a repr does, the line is written
        text = f"<{type(value).__name__} without a repr>"
    if len(text) > longest:
        # Before the search, so that its cost is bounded; a token that is cut through is no token any more.
        text = f"{text[:longest]}… ({len(text):,} characters)"
    return _SECRET_TEXT.sub(HIDDEN, text)


def _format_exception(_logger: object, _method: str, event: _EventDict) -> _EventDict:
    """Turn exc_info into a traceback without local variables: those hold passwords."""
    given = event.pop("exc_info", None)
    if isinstance(given, BaseException):
        error: BaseException | None = given
    elif isinstance(given, tuple):
        error = given[1]
    else:
        error = sys.exception() if given else None
    if error is not None:
        event["exception"] = "".join(traceback.format_exception(error)).rstrip("\n")
    return event


def _as_json(_logger: object, _method: str, event: _EventDict) -> str:
    first = {name: event.pop(name) for name in ("timestamp", "level", "logger", "event") if name in event}
    # ASCII alone escapes what could move a cursor, but for DEL, which can only stand inside a string.
    return json.dumps(first | dict(event), ensure_ascii=True).replace("\x7f", "\\u007f")


class _Console:
    """Writes a line for people: time, level, event, what belongs to it; a traceback below, set in."""

    def __init__(self, *, colours: bool) -> None:
        self._colours = colours

    def __call__(self, _logger: object, _method: str, event: _EventDict) -> str:
        level = str(event.pop("level", "info"))
        shown = f"{level:<8}"
        if self._colours and level in _LEVEL_COLOURS:
            shown = f"\x1b[{_LEVEL_COLOURS[level]}m{shown}\x1b[0m"
        below = event.pop("exception", None)
        head = [str(event.pop("timestamp", "")), shown, one_line(str(event.pop("event", "")))]
        details = [f"{one_line(name)}={_quoted(value)}" for name, value in event.items()]
        # Set in, so that no line of it can pass for a line of the log.
        lines = [] if below is None else [f"    | {one_line(line)}" for line in str(below).split("\n")]
        return "\n".join([" ".join([*head, *details]), *lines])


def _quoted(value: object) -> str:
    text = one_line(value if isinstance(value, str) else json.dumps(value))
    return json.dumps(text, ensure_ascii=False) if not text or set(text) & {" ", "=", '"'} else text


class _Formatter(ProcessorFormatter):
    def format(self, record: logging.LogRecord) -> str:
        try:
            return super().format(record)
        except Exception as fault:  # noqa: BLE001  # a line that cannot be formatted must not end a request
            # Only what the program itself wrote: not the arguments, which nobody has looked at.
            at, why = f"{record.module}:{record.lineno}", type(fault).__name__
            return json.dumps({"event": "log_line_lost", "at": at, "why": why})


class _Handler(logging.StreamHandler[TextIO]):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # logging's name
        """Do nothing: logging's own way prints the raw arguments, and nobody reads a stream that cannot be written."""
