"""Whether a login tells that an account is there: by a byte of the answer, or by the time that it takes.

Starts a `gatebook serve` of its own for each door where a password is typed, and logs in badly, one login after the
other, for four reasons in turns at random: nobody has the name (twice, under two labels, which shows how much of a
difference is noise); the account is there and the password is wrong; the account is deactivated and the password right.
Answers must be equal to the byte, and the medians of the times must differ by less than 1 ms: so must the whole
interval in which, at 99 %, the difference lies.
"""

from __future__ import annotations

import argparse
import gc
import os
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct
from rich.console import Console
from rich.progress import Progress, TaskID

from service.credentials.passwords import HashingCost
from tests.attacks.evenness import EVEN, TELLS, UNSURE, Report, report_of, show
from tests.attacks.logins import DOORS, Answer, Door, Line, Login
from tests.attacks.people import IDENTIFIERS, KINDS, RIGHT, Identifier, Kind, Somebody, make_book, people
from tests.conformance.running import Running, running

SETTINGS: Final[dict[str, Any]] = {"metrics": "off", "throttle_account_failures": 10_000}
"""What is not as it is by default: nobody is to wait."""

SHOWN_EVERY: Final = 50
"""Tries after which the progress is drawn anew."""

ON_ONE_LINE: Final = 500
"""Tries over one connection; the HTTP listener closes one after a thousand requests."""

REASONS: Final[dict[Kind, str]] = {
    "unknown": "unknown_account",
    "unknown too": "unknown_account",
    "wrong password": "wrong_password",
    "deactivated": "deactivated",
}
"""What the book says of each kind."""

Round = tuple[Somebody, ...]


class Plan(Struct, frozen=True):
    """How often to try, after how many tries that do not count, and what is drawn at random."""

    tries: int = 2_000
    warm_up: int = 80
    each: int = 1
    seed: int = 1
    settings: dict[str, str] = {}
    kept: HashingCost | None = None
    device: bool = False

    @property
    def unusual(self) -> dict[str, str]:
        """What is not as it is by default, as the report says it."""
        kept = {} if self.kept is None else {"kept": f"{self.kept.memory},{self.kept.time}"}
        return self.settings | kept | ({"device": "shown"} if self.device else {})

    @property
    def rounds(self) -> int:
        """How many rounds are tried, warm-up and all; each is of one of each kind."""
        return self._round(self.warm_up) + self._names * self.each

    @property
    def _names(self) -> int:
        return self._round(-(-self.tries // self.each))

    def crowd(self, chance: random.Random) -> tuple[list[Round], list[Round]]:
        """The rounds that do not count and those that do, in the order of their tries."""
        warm, then = people(self._round(self.warm_up), chance), people(self._names, chance)
        return warm, [one for _ in range(self.each) for one in chance.sample(then, len(then))]

    @staticmethod
    def _round(tries: int) -> int:
        return -(-tries // len(KINDS))


def measure(door: Door, identifier: Identifier, plan: Plan, told: Callable[[], None] = lambda: None) -> Report:
    """Tries at one door; `told` hears of each try."""
    chance = random.Random(f"{plan.seed} {door.name} {identifier}")  # noqa: S311 - drawn again from the same seed
    warm, then = plan.crowd(chance)
    everybody = [one for together in (*warm, *then) for one in together]
    with tempfile.TemporaryDirectory(prefix="gatebook-enumeration-") as place:
        make_book(Path(place), [*dict.fromkeys(everybody)], plan.kept or _cost(plan.settings))
        with running(Path(place), **SETTINGS | plan.settings) as service:
            device = _device_of_somebody_else(service) if plan.device else None
            before = os.getloadavg()[0]
            answers = _tried(service, door, [one.login(identifier, device) for one in everybody], told)
            after = os.getloadavg()[0]
            _hold_reasons(service, everybody)
    tried = [(one.kind, answer) for one, answer in zip(everybody, answers, strict=True)][len(warm) * len(KINDS) :]
    return report_of(door.name, identifier, tried, (before, after), seed=plan.seed, unusual=plan.unusual)


def _tried(service: Running, door: Door, logins: Sequence[Login], told: Callable[[], None]) -> list[Answer]:
    http, ws = (address.rpartition("/")[2] for address in (service.http, service.ws))
    answers = []
    for start in range(0, len(logins), ON_ONE_LINE):
        with Line.open(door, http, ws) as line, _no_collections():
            for login in logins[start : start + ON_ONE_LINE]:
                answers.append(line.log_in(login))
                told()
    return answers


def _device_of_somebody_else(service: Running) -> str:
    """What somebody kept of a login of their own."""
    names = {"username": "mallory", "nickname": "Mallory"}
    service.ask("POST", "/api/register", names | {"password": RIGHT}).raise_for_status()
    opened = service.ask("POST", "/api/session", {"identifier": "mallory", "password": RIGHT, "device_key": ""})
    return str(opened.raise_for_status().json()["device_key"])


@contextmanager
def _no_collections() -> Iterator[None]:
    """Nothing of ours is to fall into the time of an answer."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _hold_reasons(service: Running, everybody: Sequence[Somebody]) -> None:
    """Fails where the book says of the tries anything else than what they were for."""
    said = Counter(event["reason"] for event in service.events("--type", "login.failed"))
    assert said == Counter(REASONS[one.kind] for one in everybody), said


def _cost(settings: dict[str, str]) -> HashingCost:
    """What the service's own hashes are made at."""
    default = HashingCost()
    return HashingCost(
        int(settings.get("argon2_memory_kib", default.memory)),
        int(settings.get("argon2_time", default.time)),
        int(settings.get("argon2_parallelism", default.parallelism)),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    asked = _parser().parse_args(arguments)
    plan = Plan(
        asked.tries, asked.warm_up, asked.each, asked.seed, dict(asked.set), asked.kept, asked.device
    )  # fmt: skip
    runs = [(DOORS[door], identifier) for door in asked.door for identifier in asked.identifier]
    worst, console = EVEN, Console()
    # Drawn between tries alone, never by a thread of its own beside one.
    with Progress(console=Console(stderr=True), auto_refresh=False, transient=True) as progress:
        for door, identifier in runs:
            task = progress.add_task(f"{door.name}, {identifier}", total=plan.rounds * len(KINDS))
            report = measure(door, identifier, plan, partial(_advance, progress, task, count(1)))
            progress.remove_task(task)
            worst = max(worst, report.code, key=(EVEN, UNSURE, TELLS).index)
            if asked.json:
                print(msgspec.json.encode(report).decode(), flush=True)  # noqa: T201 - a command says what it found
            else:
                show(report, console)
    return worst


def _advance(progress: Progress, task: TaskID, number: Iterator[int]) -> None:
    progress.advance(task)
    if next(number) % SHOWN_EVERY == 0:
        progress.refresh()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.attacks.enumeration",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Exit code: 0 where nothing tells, 1 where an answer or a time does, 2 where the arguments are no good,"
        "\n3 where nothing tells but the machine is too noisy to be sure: try on a calm one, or more often.",
    )
    parser.add_argument("--door", nargs="+", choices=DOORS, default=[*DOORS], help="these alone (default: all)")
    parser.add_argument(
        "--identifier", nargs="+", choices=IDENTIFIERS, default=[*IDENTIFIERS], help="what is typed (default: both)"
    )
    parser.add_argument("--tries", type=_count, default=2_000, help="at each door, of all four kinds (default: 2000)")
    parser.add_argument("--each", type=_count, default=1, help="how often each name is tried (default: 1)")
    parser.add_argument("--warm-up", type=_count, default=80, help="tries before those, on other names (default: 80)")
    parser.add_argument("--seed", type=int, default=1, help="what names and their order are drawn from (default: 1)")
    parser.add_argument(
        "--set", metavar="NAME=VALUE", type=_setting, action="append", default=[],
        help="a setting of the service, as argon2_time=3; all are as by default, but for throttles and metrics",
    )  # fmt: skip
    parser.add_argument(
        "--kept", metavar="KIB,PASSES", type=_kept, help="what the hashes of the accounts cost (default: as new ones)"
    )
    parser.add_argument("--device", action="store_true", help="show a device that another account knows with each try")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    return parser


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def _setting(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError("must be NAME=VALUE")
    return name, value


def _kept(text: str) -> HashingCost:
    memory, passes = map(_count, text.split(","))
    return HashingCost(memory, passes)


if __name__ == "__main__":
    sys.exit(main())
