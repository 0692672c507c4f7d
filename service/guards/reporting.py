"""How the guards tell what happened to a connection: hooks for metrics, and errors told without what a client sent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePath


def _unheard(_: object) -> None:
    """The hook of those who do not listen."""


@dataclass(frozen=True, kw_only=True)
class Hooks:
    """Called by a guard as things happen, for metrics. A hook is quick, synchronous, and does not raise."""

    failed: Callable[[BaseException], None] = _unheard
    """A connection, handler or application ended by an error; the error may quote a client, so do not log it whole."""
    refused: Callable[[str], None] = _unheard
    """A client was refused at the edge; the word says why (`full`, `malformed`, `too_large`, `silent`, …)."""
    slowed: Callable[[], None] = lambda: None
    """A client sends faster than it may, and is read more slowly; called for each message that had to wait."""
    unforwarded: Callable[[str], None] = _unheard
    """A trusted proxy did not say understandably who asks; the word says why (`malformed`, `hidden`, `too_long`)."""
    connections: Callable[[int], None] = _unheard
    """The number of connections now open, after each change."""


def describe(error: BaseException) -> str:
    """Kind and place of an error, for one log line.

    Never its message: a UnicodeDecodeError, for one, quotes the header it met, which may be somebody's token.
    """
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    where = "" if place is None else f" at {PurePath(place.tb_frame.f_code.co_filename).name}:{place.tb_lineno}"
    return f"{type(error).__qualname__}{where}"
