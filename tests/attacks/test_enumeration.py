"""Nobody can tell at a login whether an account is there: not by a byte, and not by what it costs.

`make enumeration` measures the time as well; here nothing is held against a clock.
"""

from __future__ import annotations

import io
import json
import random
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

import pytest
import trio
from argon2 import PasswordHasher
from msgspec.structs import replace
from rich.console import Console

from service.batch import Outcome, utc_now
from service.decisions.login import RecordFailure
from service.parts import Parts
from service.writer import BatchTold
from tests.attacks.enumeration import main
from tests.attacks.evenness import EVEN, TELLS, UNSURE, Pair, Report, show
from tests.attacks.logins import DOORS, Door, Line, Login
from tests.attacks.medians import Difference, Verdict, differences
from tests.attacks.people import IDENTIFIERS, KINDS, RIGHT, Identifier, Somebody, make_book, people
from tests.house import CHEAP, Clock
from tests.whole import whole

FREE: Final = 3
"""Failures before one has to wait."""

NOBODYS: Final = ("abc", "x" * 33, "\x00nul", "a b c d", "@", "a@b@c", "x" * 300 + "@example.org", "\u202eabcd")
"""What can be typed, and can be nobody's name."""


class Work(NamedTuple):
    """What was done for one login: passwords evaluated, and what became of each command that records a failure."""

    evaluated: int
    recorded: list[Outcome]


class Watch:
    """Counts what a service in this process does."""

    def __init__(self, parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
        self._evaluated = 0
        self._recorded: list[Outcome] = []
        verify, observe = PasswordHasher.verify, parts.writer._observer

        def seen(hasher: PasswordHasher, encoded: str, password: str) -> bool:
            self._evaluated += 1
            return verify(hasher, encoded, password)

        def told(batch: BatchTold) -> None:
            for one, outcome in zip(batch.orders, batch.outcomes, strict=True):
                if isinstance(one.command, RecordFailure):
                    self._recorded.append(outcome)
            observe(batch)

        monkeypatch.setattr(PasswordHasher, "verify", seen)
        monkeypatch.setattr(PasswordHasher, "hash", lambda *_: pytest.fail("nothing is to be hashed anew"))
        monkeypatch.setattr(parts.writer, "_observer", told)

    def work(self) -> Work:
        """What was done since this was asked last."""
        done = Work(self._evaluated, self._recorded)
        self._evaluated, self._recorded = 0, []
        return done


class Visit:
    """Somebody at a door, who counts what each login costs."""

    def __init__(self, line: Line, watch: Watch, clock: Clock, identifier: Identifier) -> None:
        self._line = line
        self._watch = watch
        self.clock = clock
        self._identifier: Identifier = identifier

    def evaluated(self, login: Login | Somebody) -> bytes:
        """The answer to a login that is refused for what it is; fails where it cost more or less than it must."""
        said = self._said(login)
        evaluated, recorded = self._watch.work()
        assert evaluated == 1, login
        [outcome] = recorded
        assert isinstance(outcome, tuple)
        assert len(outcome) == 1
        assert b"retry" not in said.lower()
        return said

    def refused(self, login: Login | Somebody) -> bytes:
        """The answer to one that is refused unseen."""
        said = self._said(login)
        assert self._watch.work() == Work(0, [])
        assert b"retry" in said.lower()
        return said

    def _said(self, login: Login | Somebody) -> bytes:
        return self._line.log_in(login.login(self._identifier) if isinstance(login, Somebody) else login).said


def throttled(visit: Visit, crowd: tuple[Somebody, ...]) -> list[set[bytes]]:
    """The answers to all of them, step by step: until they have to wait, while they do, and beyond, several times."""
    steps = [{visit.evaluated(one) for one in crowd} for _ in range(FREE)]
    for seconds in (1, 2, 4, 8):
        for waited in (0, seconds / 2):
            visit.clock.pass_by(seconds=waited)
            steps.append({visit.refused(one) for one in crowd})
        visit.clock.pass_by(seconds=seconds / 2)
        steps.append({visit.evaluated(one) for one in crowd})
    return steps


@pytest.mark.parametrize("identifier", IDENTIFIERS)
@pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)
async def test_every_answer_is_the_same_and_costs_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, door: Door, identifier: Identifier
) -> None:
    """ASVS 5.0: 6.3.8; CWE-204, CWE-208. Until one has to wait, and while one has to, for as many seconds."""
    [crowd] = people(1, random.Random(7))  # noqa: S311 - the same ones each time
    make_book(tmp_path, crowd, CHEAP)
    clock = Clock(utc_now())
    async with whole(tmp_path, clock=clock, throttle_account_failures=FREE) as (parts, listening):
        watch = Watch(parts, monkeypatch)

        def visit() -> tuple[list[set[bytes]], set[bytes]]:
            with Line.open(door, listening.http, listening.ws) as line:
                visiting = Visit(line, watch, clock, identifier)
                steps = throttled(visiting, crowd)
                return steps, {visiting.evaluated(Login(name, RIGHT)) for name in NOBODYS}

        steps, nobodys = await trio.to_thread.run_sync(visit)
    assert [len(answers) for answers in steps] == [1] * len(steps)
    # How long one has to wait is told, and the same for all; otherwise it is the one answer to everything.
    said = [answer for answers in steps for answer in answers]
    assert len(set(said[FREE::3])) == len(set(said[FREE + 1 :: 3])) == 4
    assert {*said[:FREE], *said[FREE + 2 :: 3]} == nobodys
    assert len(nobodys) == 1


CHEAPLY: Final = ("--set", f"argon2_memory_kib={CHEAP.memory}", "--set", f"argon2_time={CHEAP.time}")


def test_the_command_tries_so_often_and_says_what_it_saw(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ("--door", "account", "route-v2", "--identifier", "email", "--tries", "40", "--each", "2", "--device")
    code = main([*asked, *CHEAPLY, "--warm-up", "4", "--seed", "3", "--json"])
    reports = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(one["door"], one["identifier"], one["tries"], one["seed"]) for one in reports] == [
        ("account", "email", 40, 3),
        ("route-v2", "email", 40, 3),
    ]
    for one in reports:
        # Ten of each kind, and all of them heard the same.
        assert {kind: list(heard.values()) for kind, heard in one["answers"].items()} == {kind: [10] for kind in KINDS}
        assert len({answer for heard in one["answers"].values() for answer in heard}) == 1
        assert len(one["pairs"]) == 6
        assert all(pair["low_ms"] <= pair["difference_ms"] <= pair["high_ms"] for pair in one["pairs"])
    # How long they took is for a calm machine to say, and no test's business.
    assert code in {EVEN, TELLS, UNSURE}


@pytest.mark.parametrize(
    "arguments", [["--tries", "0"], ["--door", "cellar"], ["--set", "argon2_time"], ["--kept", "8"], ["--each", "x"]]
)
def test_arguments_that_are_no_good(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage: python -m tests.attacks.enumeration" in capsys.readouterr().err


def report(*verdicts: Verdict, answers: tuple[str, ...] = ("no", "no", "no", "no")) -> Report:
    pairs = tuple(Pair("unknown", "deactivated", 0.5, 0.1, 0.9, verdict) for verdict in verdicts)
    heard = {kind: {answer: 5} for kind, answer in zip(KINDS, answers, strict=True)}
    return Report("account", "email", 1, 20, {}, heard, dict.fromkeys(KINDS, 20.0), pairs, (0.1, 0.2))


@pytest.mark.parametrize(
    ("made", "code", "shown"),
    [
        (report("inside", "inside"), EVEN, "every answer is the same 2 bytes"),
        (report("inside", "unsure"), UNSURE, "unsure"),
        (report("unsure", "beyond"), TELLS, "beyond"),
        (report("inside", answers=("no", "no", "no", "[no]")), TELLS, "ANOTHER ANSWER: deactivated, 5 times: '[no]'"),
    ],
)
def test_what_is_said_of_what_was_seen(made: Report, code: int, shown: str) -> None:
    said = io.StringIO()
    show(made, Console(file=said, width=100))
    assert made.code == code
    assert shown in said.getvalue()


def test_one_kind_that_hears_two_answers_is_told_from_another_as_well() -> None:
    made = report("inside")
    assert not replace(made, answers=made.answers | {"wrong password": {"no": 4, "nO": 1}}).same


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (-1.0, 1.0, "inside"),
        (0.2, 0.4, "inside"),
        (-1.01, 0.3, "unsure"),
        (0.3, 1.01, "unsure"),
        (-3.0, 3.0, "unsure"),
        (1.01, 1.2, "beyond"),
        (-9.0, -1.01, "beyond"),
    ],
)
def test_the_whole_interval_is_held_against_the_bound(low: float, high: float, verdict: Verdict) -> None:
    assert Difference((low + high) / 2, low, high).within(1.0) == verdict


def rounds(number: int, *sides: Callable[[random.Random], float], seed: int = 1) -> list[tuple[float, ...]]:
    """Rounds of values that are drawn, on a machine that is slow for a while, again and again."""
    chance = random.Random(seed)  # noqa: S311 - drawn again from the same seed
    slow = [30.0 if place // 20 % 3 == 0 else 0.0 for place in range(number)]
    return [tuple(side(chance) + extra for side in sides) for extra in slow]


def around(middle: float) -> Callable[[random.Random], float]:
    return lambda chance: chance.gauss(middle, 1.0)


def test_a_difference_is_found_with_its_interval_however_slow_the_machine_is_for_a_while() -> None:
    found = differences(rounds(400, around(20.0), around(20.0), around(22.0)), random.Random(1))  # noqa: S311 - drawn again from the same seed
    assert found[0, 1].within(1.0) == "inside"
    assert found[0, 2].within(1.0) == found[1, 2].within(1.0) == "beyond"
    assert all(one.low < one.found < one.high for one in found.values())


def test_the_interval_holds_the_difference_as_often_as_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.attacks.medians.RESAMPLES", 400)
    held = 0
    for seed in range(100):
        [found] = differences(rounds(60, around(5.0), around(4.5), seed=seed), random.Random(seed)).values()  # noqa: S311 - drawn again from the same seed
        held += found.low <= 0.5 <= found.high
    # Of a hundred at 99 %, all but a few.
    assert 96 <= held <= 100


def test_of_one_side_it_is_the_interval_that_order_gives() -> None:
    """The median of 101 values lies, at 99 %, between the 38th and the 64th (binomial, a half)."""
    values = sorted(random.Random(4).uniform(0, 100) for _ in range(101))  # noqa: S311 - drawn again from the same seed
    [found] = differences([(value, 0.0) for value in values], random.Random(4)).values()  # noqa: S311 - drawn again from the same seed
    assert found.found == median(values)
    assert values[35] <= found.low <= values[40]
    assert values[60] <= found.high <= values[65]
