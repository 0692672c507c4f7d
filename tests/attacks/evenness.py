"""What is said of logins that were tried at one door: whether every answer was the same, and the times are alike."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from statistics import median
from typing import Final

from msgspec import Struct
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tests.attacks.logins import Answer
from tests.attacks.medians import CONFIDENCE, Difference, Verdict, differences
from tests.attacks.people import KINDS, Identifier, Kind

BOUND_MS: Final = 1.0
"""What medians may differ by, in milliseconds. A machine that is too noisy wants more tries, never a wider bound."""

EVEN, TELLS, UNUSABLE, UNSURE = range(4)
"""Exit codes; the third is argparse's own."""


class Pair(Struct, frozen=True):
    """Two kinds of tries, by how many milliseconds the median of the first is above that of the second."""

    one: Kind
    other: Kind
    difference_ms: float
    low_ms: float
    high_ms: float
    verdict: Verdict


class Report(Struct, frozen=True):
    """What came of the tries at one door. `answers` are all that were heard, with how often, by kind.

    `unusual` is what was not as it is by default.
    """

    door: str
    identifier: Identifier
    seed: int
    tries: int
    unusual: dict[str, str]
    answers: dict[Kind, dict[str, int]]
    medians_ms: dict[Kind, float]
    pairs: tuple[Pair, ...]
    load: tuple[float, float]
    """The machine's load average over a minute, before the first try and after the last."""

    @property
    def same(self) -> bool:
        """Whether every answer was the same, to the byte."""
        return len({answer for heard in self.answers.values() for answer in heard}) == 1

    @property
    def code(self) -> int:
        """The exit code: 0 where nothing tells, 1 where something does, 3 where there is too much noise to say."""
        verdicts = {pair.verdict for pair in self.pairs}
        if not self.same or "beyond" in verdicts:
            return TELLS
        return UNSURE if "unsure" in verdicts else EVEN


def report_of(
    door: str,
    identifier: Identifier,
    tried: Sequence[tuple[Kind, Answer]],
    load: tuple[float, float],
    *,
    seed: int,
    unusual: dict[str, str],
) -> Report:
    """The report on these tries, which came in rounds of one of each kind."""
    heard: dict[Kind, Counter[str]] = {kind: Counter() for kind in KINDS}
    times: dict[Kind, list[float]] = {kind: [] for kind in KINDS}
    for kind, answer in tried:
        heard[kind][answer.said.decode("latin-1")] += 1
        times[kind].append(answer.seconds * 1_000)
    chance = random.Random(seed)  # noqa: S311 - drawn again from the same seed
    found = differences(list(zip(*times.values(), strict=True)), chance)
    pairs = tuple(_pair(KINDS[one], KINDS[other], between) for (one, other), between in found.items())
    return Report(
        door, identifier, seed, len(tried), unusual,
        {kind: dict(said) for kind, said in heard.items()},
        {kind: median(taken) for kind, taken in times.items()},
        pairs, load,
    )  # fmt: skip


def _pair(one: Kind, other: Kind, found: Difference) -> Pair:
    return Pair(one, other, found.found, found.low, found.high, found.within(BOUND_MS))


def show(report: Report, console: Console) -> None:
    """The report for people."""
    console.print(
        f"[bold]{report.door}, by {report.identifier}[/]: {report.tries:,} tries, seed {report.seed},"
        f" load {report.load[0]:.2f} before and {report.load[1]:.2f} after"
        + "".join(f", {name} {value}" for name, value in report.unusual.items())
    )
    if report.same:
        [answer] = next(iter(report.answers.values()))
        console.print(f"every answer is the same {len(answer):,} bytes, but for the date", highlight=False)
    else:
        for kind, heard in report.answers.items():
            for answer, times in heard.items():
                console.print(f"[red]ANOTHER ANSWER[/]: {kind}, {times} times: {escape(repr(answer))}", highlight=False)
    console.print(", ".join(f"{kind} {taken:.2f} ms" for kind, taken in report.medians_ms.items()), highlight=False)
    table = Table("the medians of these two", "are apart", f"at {CONFIDENCE:.0%}", f"±{BOUND_MS:g} ms")
    for pair in report.pairs:
        table.add_row(
            f"{pair.one} · {pair.other}", f"{pair.difference_ms:+.2f} ms",
            f"{pair.low_ms:+.2f} … {pair.high_ms:+.2f} ms", pair.verdict,
            style={"inside": "", "beyond": "red", "unsure": "yellow"}[pair.verdict],
        )  # fmt: skip
    console.print(table)
