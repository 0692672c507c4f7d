"""Terms: when each signing key signs, and when it is over, out of the rotations that the book tells of."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from msgspec import Struct

from events.recorded import EPOCH
from service.credentials.access_tokens import LONGEST_LIFETIME

AHEAD: Final = timedelta(minutes=5)
"""How long a key is told to the public before it signs: as long as verifiers commonly remember what they were told."""
SKEW: Final = timedelta(minutes=1)
"""How far the clocks of verifiers may be behind ours."""


class Rotation(Struct, frozen=True):
    """A `key.rotated` in the book."""

    position: int
    at: datetime
    at_once: bool = False


class Term(Struct, frozen=True):
    """When the key of that number signs, and when it is over: never, as long as no other follows."""

    number: int
    signs_from: datetime
    over_at: datetime | None = None

    def is_over(self, now: datetime) -> bool:
        """Whether nothing that the key signed counts any more."""
        return self.over_at is not None and self.over_at <= now


def terms_of(rotations: Iterable[Rotation]) -> list[Term]:
    """The terms of the keys that may still count, in order of the book; each rotation ends that of the key before it.

    What a rotation at once has ended is not there at all, by whatever clock.
    """
    found = [Term(0, EPOCH)]
    for rotation in rotations:
        if rotation.at_once:
            found = [Term(rotation.position, EPOCH)]
            continue
        before, signs_from = found[-1], rotation.at + AHEAD
        found[-1] = Term(before.number, before.signs_from, signs_from + LONGEST_LIFETIME + SKEW)
        found.append(Term(rotation.position, signs_from))
    return found
