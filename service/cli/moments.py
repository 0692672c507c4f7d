"""Positions and moments as they are typed: whole numbers, and ISO 8601 with or without an offset."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from events.recorded import EPOCH
from service.cli.exits import NothingThereError, UsageError

if TYPE_CHECKING:
    from events.log import EventLog

MOST_DIGITS = 18


def parse_moment(text: str, flag: str) -> datetime:
    """The moment that the text writes, in UTC, which is assumed where it names no offset; a date alone is its midnight.

    UsageError, naming the flag, when it is none. Nothing is older than 1970.
    """
    try:
        written = datetime.fromisoformat(text)
        moment = written.replace(tzinfo=UTC) if written.tzinfo is None else written.astimezone(UTC)
    except (ValueError, OverflowError):
        raise UsageError(
            f"{flag} takes a time in ISO 8601, for example 2026-11-21 or 2026-11-21T12:00:00Z;"
            " it is UTC where it names no offset."
        ) from None
    return max(moment, EPOCH)


def position_of(text: str, flag: str, log: EventLog) -> int:
    """The position that the text names: itself, or the last one recorded at or before a moment; 0 before the first.

    UsageError when it is neither; NothingThereError for a position that the book does not have.
    """
    if not (text.isascii() and text.isdigit()):
        return log.position_at(parse_moment(text, flag))
    position, head = int(text[: MOST_DIGITS + 1]), log.head().position
    if position > head:
        raise NothingThereError(f"The book ends at position {head}.")
    return position
