"""Parameters: what may stand in a path or a query, each declared once, for reading it and for telling of it.

A query holds known parameters alone, each once and each within its bounds; anything else is malformed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal, Protocol, TypeVar

from msgspec import Meta, Struct
from werkzeug.datastructures import MultiDict

from events.recorded import EPOCH
from service.errors import Malformed

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

LARGEST: Final = 2**63 - 1
# ISO 8601 has more forms, which are read too; these are those that everybody has.
_MOMENT: Final[Any] = Annotated[str, Meta(extra_json_schema={"anyOf": [{"format": "date-time"}, {"format": "date"}]})]
_WHOLE: Final = re.compile(r"0|[1-9][0-9]{0,18}")


class Parameter(Protocol[T_co]):
    """One parameter, of a type, with its bounds."""

    @property
    def name(self) -> str:
        """How it is called in the address."""

    @property
    def about(self) -> str:
        """What it is for, as a sentence."""

    @property
    def rule(self) -> str:
        """What it must be, to end the sentence `The parameter … is …`."""

    @property
    def kind(self) -> Any:  # noqa: ANN401 - a type expression, which has no type of its own
        """The type whose JSON schema says the same."""

    def read(self, text: str) -> T_co | None:
        """What the text says, None where it breaks the rule."""


class Whole(Struct, frozen=True):
    """A whole number within bounds, in digits, without a sign or a leading zero."""

    name: str
    about: str
    least: int = 0
    most: int = LARGEST

    @property
    def rule(self) -> str:
        """See Parameter."""
        return f"a whole number from {self.least} to {self.most}"

    @property
    def kind(self) -> Any:  # noqa: ANN401 - see Parameter
        """See Parameter."""
        return Annotated[int, Meta(ge=self.least, le=self.most)]

    def read(self, text: str) -> int | None:
        """See Parameter."""
        number = whole(text)
        return number if number is not None and self.least <= number <= self.most else None


class Moment(Struct, frozen=True):
    """A moment in ISO 8601; without an offset it is UTC, and nothing is older than 1970."""

    name: str
    about: str
    rule: str = "a time in ISO 8601, for example 2026-11-21T12:00:00Z"

    @property
    def kind(self) -> Any:  # noqa: ANN401 - see Parameter
        """See Parameter."""
        return _MOMENT

    def read(self, text: str) -> datetime | None:
        """See Parameter."""
        try:
            written = datetime.fromisoformat(text)
            zoned = written.replace(tzinfo=UTC) if written.tzinfo is None else written.astimezone(UTC)
        except (ValueError, OverflowError):
            return None
        return max(zoned, EPOCH)


class PositionOrMoment(Struct, frozen=True):
    """A position of the book, or a moment: digits alone are a position."""

    name: str
    about: str
    rule: str = "a position or a time in ISO 8601"

    @property
    def kind(self) -> Any:  # noqa: ANN401 - see Parameter
        """See Parameter."""
        return Whole(self.name, self.about).kind | _MOMENT

    def read(self, text: str) -> int | datetime | None:
        """See Parameter."""
        return whole(text) if text.isdigit() else Moment(self.name, self.about).read(text)


class Choice(Struct, frozen=True):
    """One of some words."""

    name: str
    about: str
    words: tuple[str, ...]

    @property
    def rule(self) -> str:
        """See Parameter."""
        return f"one of {', '.join(self.words)}"

    @property
    def kind(self) -> Any:  # noqa: ANN401 - see Parameter
        """See Parameter."""
        words: Any = self.words
        return Literal[words]

    def read(self, text: str) -> str | None:
        """See Parameter."""
        return text if text in self.words else None


class Text(Struct, frozen=True):
    """A text that matches a pattern from end to end."""

    name: str
    about: str
    pattern: str
    rule: str

    @property
    def kind(self) -> Any:  # noqa: ANN401 - see Parameter
        """See Parameter."""
        return Annotated[str, Meta(pattern=f"^(?:{self.pattern})$")]

    def read(self, text: str) -> str | None:
        """See Parameter."""
        return text if re.fullmatch(self.pattern, text) is not None else None


class AnyText(Struct, frozen=True):
    """A text that may be anything: one that says nothing to us is passed over."""

    name: str
    about: str
    rule: str = "any text"

    @property
    def kind(self) -> Any:  # noqa: ANN401 - see Parameter
        """See Parameter."""
        return str

    def read(self, text: str) -> str:
        """See Parameter."""
        return text


class Parameters:
    """The parameters of one request's query; Malformed where one is unknown or given twice."""

    def __init__(self, given: MultiDict[str, str], known: Sequence[Parameter[object]]) -> None:
        names = [parameter.name for parameter in known]
        if any(name not in names for name in given):
            raise Malformed(f"This address takes the parameters {', '.join(names)}." if names else "No parameter here.")
        if any(len(given.getlist(name)) > 1 for name in given):
            raise Malformed("A parameter is given once.")
        self._given = given

    def value(self, parameter: Parameter[T]) -> T | None:
        """What the query says of the parameter, None where it says nothing; Malformed where it breaks the rule."""
        text = self._given.get(parameter.name)
        if text is None:
            return None
        found = parameter.read(text)
        if found is None:
            raise Malformed(f"The parameter {parameter.name} is {parameter.rule}.")
        return found


def whole(text: str) -> int | None:
    """The whole number that the text writes, None where it writes none that a book could hold."""
    if _WHOLE.fullmatch(text) is None:
        return None
    number = int(text)
    return number if number <= LARGEST else None
