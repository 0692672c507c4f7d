"""Query parameters: each known, each once, each of its type; anything else is malformed."""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import UTC, datetime
from typing import Final

from werkzeug.datastructures import MultiDict

from events.recorded import EPOCH
from service.errors import Malformed

LARGEST: Final = 2**63 - 1
_WHOLE: Final = re.compile(r"0|[1-9][0-9]{0,18}")


class Parameters:
    """The parameters of one request; Malformed where one is unknown or given twice."""

    def __init__(self, given: MultiDict[str, str], known: Collection[str]) -> None:
        if any(name not in known for name in given):
            raise Malformed(f"This address takes the parameters {', '.join(known)}." if known else "No parameter here.")
        if any(len(given.getlist(name)) > 1 for name in given):
            raise Malformed("A parameter is given once.")
        self._given = given

    def text(self, name: str) -> str | None:
        """The parameter as it is."""
        return self._given.get(name)

    def whole(self, name: str, least: int = 0, most: int = LARGEST) -> int | None:
        """The parameter as a whole number within bounds."""
        text = self._given.get(name)
        if text is None:
            return None
        number = whole(text)
        if number is None or not least <= number <= most:
            raise Malformed(f"The parameter {name} is a whole number from {least} to {most}.")
        return number

    def moment(self, name: str) -> datetime | None:
        """The parameter as a moment in ISO 8601; without an offset it is UTC."""
        text = self._given.get(name)
        return None if text is None else moment(name, text)

    def choice(self, name: str, choices: tuple[str, ...]) -> str | None:
        """The parameter as one of some words."""
        text = self._given.get(name)
        if text is not None and text not in choices:
            raise Malformed(f"The parameter {name} is one of {', '.join(choices)}.")
        return text


def whole(text: str) -> int | None:
    """The whole number that the text writes, None where it writes none that a book could hold."""
    if _WHOLE.fullmatch(text) is None:
        return None
    number = int(text)
    return number if number <= LARGEST else None


def moment(name: str, text: str) -> datetime:
    """The moment that the text writes, in UTC; nothing is older than 1970."""
    try:
        written = datetime.fromisoformat(text)
        zoned = written.replace(tzinfo=UTC) if written.tzinfo is None else written.astimezone(UTC)
    except (ValueError, OverflowError):
        raise Malformed(f"The parameter {name} is a time in ISO 8601, for example 2026-11-21T12:00:00Z.") from None
    return max(zoned, EPOCH)
