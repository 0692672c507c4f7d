"""What came of it: who asked what how often, what was carried out, and what was wrong."""

from __future__ import annotations

import shlex
from collections import Counter
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from tests.schema.askers import Who

MODES: Final = ("positive", "negative")
GIVEN: Final = "given"
PROBE: Final = "probe"
"""Kinds of cases: what the document allows, what it does not, what is known to be carried out, and what is sent by a
check that looks closer."""


class Asked(NamedTuple):
    """One request, without what stood in it."""

    who: Who
    operation: str
    kind: str
    status: int


class Wrong(NamedTuple):
    """What is wrong, whoever finds it how often."""

    who: Who
    phase: str
    operation: str
    check: str
    title: str

    def again(self, seed: int, examples: int) -> str:
        """The command that shows it again."""
        words = ["--seed", str(seed), "--examples", str(examples), "--as", str(self.who)]
        # What is asked one after the other needs the other operations too.
        if self.phase != "stateful":
            words += ["--operation", self.operation]
        return f'make schema ARGS="{shlex.join(words)}"'


@dataclass
class Report:
    """`wrong` is empty when everything was as it should be; each has an example of it."""

    asked: Counter[Asked] = field(default_factory=Counter)
    checks: Counter[str] = field(default_factory=Counter)
    seconds: dict[Who, float] = field(default_factory=dict)
    wrong: Counter[Wrong] = field(default_factory=Counter)
    examples: dict[Wrong, str] = field(default_factory=dict)

    def found(self, wrong: Wrong, example: str) -> None:
        """One more that is wrong."""
        self.wrong[wrong] += 1
        self.examples.setdefault(wrong, example)

    def count(self, who: Who | None = None, kind: str | None = None) -> int:
        """How many cases, of that kind where one is named."""
        return sum(
            number for case, number in self.asked.items()
            if who in {None, case.who} and kind in {None, case.kind}
        )  # fmt: skip

    def operations(self, who: Who | None = None, kind: str | None = None) -> set[str]:
        """What was asked."""
        return {case.operation for case in self.asked if who in {None, case.who} and kind in {None, case.kind}}

    @property
    def carried_out(self) -> set[str]:
        """What was carried out at least once."""
        return {case.operation for case in self.asked if case.status < 400 and case.kind != PROBE}

    def told(self, seed: int, examples: int) -> str:
        """All of it, for a person."""
        lines = [f"{'who':<14} operations  positive  negative  given  probes  seconds  wrong"]
        for who in [*self.seconds, None]:
            counts = [self.count(who, kind) for kind in (*MODES, GIVEN, PROBE)]
            seconds = sum(self.seconds.values()) if who is None else self.seconds[who]
            found = sum(1 for one in self.wrong if who in {None, one.who})
            lines.append(
                f"{who or 'all'!s:<14} {len(self.operations(who)):>10}  {counts[0]:>8,}  {counts[1]:>8,}"
                f"  {counts[2]:>5,}  {counts[3]:>6,}  {seconds:>7.1f}  {found:>5}"
            )
        statuses = Counter[int]()
        for case, number in self.asked.items():
            statuses[case.status] += number
        lines += ["answers: " + ", ".join(f"{number:,} of {status}" for status, number in sorted(statuses.items()))]
        lines += ["checks: " + ", ".join(f"{number:,} {name}" for name, number in sorted(self.checks.items()))]
        never = self.operations() - self.carried_out
        lines += [f"never carried out: {', '.join(sorted(never)) or 'none'}"]
        for wrong, times in self.wrong.items():
            lines += [
                "",
                f"WRONG: {wrong.operation} as {wrong.who}, {wrong.check} ({wrong.phase}), {times} times: {wrong.title}",
                self.examples[wrong],
                f"again: {wrong.again(seed, examples)}",
            ]
        return "\n".join(lines)
