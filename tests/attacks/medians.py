"""Medians of what was measured in rounds, held beside each other: by how much they differ, and how sure that is."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import combinations
from statistics import median
from typing import Final, Literal

from msgspec import Struct

CONFIDENCE: Final = 0.99
RESAMPLES: Final = 2_000

Verdict = Literal["inside", "beyond", "unsure"]


class Difference(Struct, frozen=True):
    """By how much the median of one side is above that of another, with the ends of its interval."""

    found: float
    low: float
    high: float

    def within(self, bound: float) -> Verdict:
        """Whether the whole interval is within the bound, or beyond it; otherwise there is too little to say."""
        if -bound <= self.low and self.high <= bound:
            return "inside"
        return "beyond" if self.low > bound or self.high < -bound else "unsure"


def differences(rounds: Sequence[Sequence[float]], chance: random.Random) -> dict[tuple[int, int], Difference]:
    """The differences of the medians of every two sides, each with its bootstrap interval at `CONFIDENCE`.

    A round holds one value of each side, measured right after one another. Rounds are what is drawn again: a machine
    that was slow for a while was so for all sides alike, and that is no difference between them.
    """
    sides = list(zip(*rounds, strict=True))
    resamples = (chance.choices(rounds, k=len(rounds)) for _ in range(RESAMPLES))
    drawn = [[median(side) for side in zip(*resample, strict=True)] for resample in resamples]
    outside = round(RESAMPLES * (1 - CONFIDENCE) / 2)
    found = {}
    for one, other in combinations(range(len(sides)), 2):
        between = sorted(medians[one] - medians[other] for medians in drawn)
        found[one, other] = Difference(
            median(sides[one]) - median(sides[other]), between[outside], between[-1 - outside]
        )
    return found
