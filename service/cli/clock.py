"""The clock held against the book: whether there are entries of the future, and what to do then."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final, Literal

from events.log import EventLog
from events.recorded import from_microseconds

__all__ = ["check_clock"]

LARGEST_SKEW: Final = 3_600
"""Seconds: the most that the setting `clock_skew_seconds` takes."""


def check_clock(log: EventLog, now: datetime, skew: timedelta) -> tuple[Literal["ok", "warn", "fail"], str, str]:
    """How the clock stands to the last entry, what is found, and what to do."""
    last = from_microseconds(log.head().at)
    ahead = last - now
    if ahead > skew:
        first = log.position_at(now) + 1
        said = (
            f"it says {_to_the_second(now)}, and the book has entries of the future, from position {first} on, the last"
            f" of {_to_the_second(last)}; every write is refused until {_to_the_second(last - skew)}, which is"
            f" {_spoken(ahead - skew)} from now"
        )
        return "fail", said, _advice(ahead)
    if ahead > timedelta(0):
        return "warn", f"{ahead.total_seconds():.1f} s behind the last entry", "look after time synchronisation"
    return "ok", "not behind the book", ""


def _advice(ahead: timedelta) -> str:
    """What to do about entries of the future: which clock is wrong, only whoever reads this can know."""
    least = int(ahead.total_seconds()) + 1
    wait = f"start with --clock-skew-seconds {least} until it is over" if least <= LARGEST_SKEW else "wait for it"
    return (
        "if the clock is wrong, set it right, and writes go on at once; if it is right, it was ahead when those entries"
        f" were written: {wait}, or restore a backup from before them"
    )


def _to_the_second(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")


def _spoken(span: timedelta) -> str:
    """About how long, in the largest unit of which there are two."""
    seconds = max(1, round(span.total_seconds()))
    for unit, length in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length:,} {unit}"
    return f"{seconds} s"
