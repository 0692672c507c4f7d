"""Guesses by the thousand at a running service: how many are evaluated, and whether the owner still comes in.

`python -m tests.attacks.stuffing` attacks for about a minute; `make stuffing` runs it. Everybody comes through a proxy
on this machine that the service trusts, so that the attacker has as many addresses as wanted.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import cycle
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import httpx
import msgspec
import trio
from msgspec import Struct
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks.books import PASSWORD, make_book
from service.settings import Settings
from tests.conformance.running import PATIENCE, Running, running

ADDRESS: Final = ("203.0.113.66",)
NETWORK: Final = tuple(f"198.51.100.{number}" for number in range(1, 255))
ANOTHER: Final = ("192.0.2.66",)
AT_ONCE: Final = 40
SETTINGS: Final[dict[str, Any]] = {"trusted_proxies": "127.0.0.1", "metrics": "off", "max_connections_http": 400}
"""The limits are the defaults: what is shown holds without anybody having set anything."""


class Guess(Struct, frozen=True):
    """One try: whose account, with which password, from which address."""

    name: str
    password: str
    address: str


class Plan(Struct, frozen=True):
    """An attack to be made: so many guesses at a time, while the owner of that account logs in again and again.

    `bound` guesses may be evaluated at first, `per_window` more each time that a delay is over.
    """

    what: str
    owner: str
    guesses: Sequence[Guess]
    at_once: int
    bound: int
    per_window: int


class Attack(Struct, frozen=True):
    """What came of an attack. `evaluated` are the guesses that were found wrong, `bound` the most that may be.

    `owner_in` and `owner_out` are logins of the owner, from a known device, that were and were not let in meanwhile.
    """

    what: str
    tried: int
    evaluated: int
    bound: int
    let_in: int
    throttled: int
    busy: int
    owner_in: int
    owner_out: int
    seconds: float
    wrong: tuple[str, ...] = ()


class Tally:
    """The answers to an attack, by status; and whatever should not have been one."""

    def __init__(self) -> None:
        self.statuses: Counter[int] = Counter()
        self.wrong: set[str] = set()

    def take(self, answer: httpx.Response) -> None:
        """One answer more."""
        self.statuses[answer.status_code] += 1
        if answer.status_code not in {201, 401, 429, 503}:
            self.wrong.add(f"answered {answer.status_code}: {answer.text[:200]}")
        if answer.status_code in {429, 503} and int(answer.headers.get("Retry-After", 0)) < 1:
            self.wrong.add(f"{answer.status_code} without Retry-After")


class Siege:
    """An attacker before some services on one store, and the owner of an account who logs in again and again."""

    def __init__(self, services: Sequence[Running], plan: Plan, done: Callable[[], None]) -> None:
        self._services = services
        self._plan = plan
        self._done = done
        self._over = False
        self.tally = Tally()
        self.owner_in = 0
        self.owner_out = 0

    async def run(self) -> None:
        """All of the guesses, at each service in turn."""
        left = iter(self._plan.guesses)
        async with trio.open_nursery() as meanwhile:
            await meanwhile.start(self._go_on)
            async with trio.open_nursery() as nursery:
                for _, service in zip(range(self._plan.at_once), cycle(self._services), strict=False):
                    nursery.start_soon(self._guess_on, service, left)
            self._over = True

    async def _guess_on(self, service: Running, left: Iterator[Guess]) -> None:
        async with client_of(service) as client:
            for one in left:
                self.tally.take(await log_in(client, one))
                self._done()

    async def _go_on(self, task_status: trio.TaskStatus[None]) -> None:
        """From the attacker's own address, but at a device that is known from the login before."""
        one, device = Guess(self._plan.owner, PASSWORD, self._plan.guesses[0].address), None
        async with client_of(self._services[0]) as client:
            while not self._over:
                answer = await log_in(client, one, device)
                if answer.status_code == httpx.codes.CREATED:
                    self.owner_in += 1
                    device = str(answer.json()["device_key"])
                else:
                    self.owner_out += 1
                if self.owner_in + self.owner_out == 1:
                    task_status.started()


def client_of(service: Running) -> httpx.AsyncClient:
    """By another name than `running` listens to: thousands of answers are not held against the document here."""
    return httpx.AsyncClient(base_url=service.http.replace("127.0.0.1", "localhost"), trust_env=False, timeout=PATIENCE)


async def log_in(client: httpx.AsyncClient, guess: Guess, device: str | None = None) -> httpx.Response:
    """One login as a proxy hands it on."""
    form = {"identifier": guess.name, "password": guess.password} | ({} if device is None else {"device_key": device})
    return await client.post("/api/session", json=form, headers={"X-Forwarded-For": guess.address})


def besiege(services: Sequence[Running], plan: Plan, done: Callable[[], None]) -> Attack:
    """One attack, and whatever went otherwise than it should."""
    before = len(services[0].events("--type", "login.failed"))
    siege, started = Siege(services, plan, done), perf_counter()
    trio.run(siege.run)
    seconds = perf_counter() - started
    evaluated = len(services[0].events("--type", "login.failed")) - before
    # The delays are 1, 2, 4, … s: so many of them were over before the attack was.
    bound = plan.bound + plan.per_window * math.ceil(math.log2(seconds + 1))
    statuses, wrong = siege.tally.statuses, set(siege.tally.wrong)
    if evaluated > bound:
        wrong.add(f"{evaluated} guesses were evaluated, and {bound} may be")
    if statuses[401] > evaluated:
        wrong.add(f"{statuses[401]} guesses were told to be wrong, and {evaluated} stand in the book")
    if siege.owner_out:
        wrong.add(f"the owner was kept out {siege.owner_out} times")
    return Attack(
        plan.what, len(plan.guesses), evaluated, bound, statuses[201], statuses[429], statuses[503], siege.owner_in,
        siege.owner_out, round(seconds, 1), tuple(sorted(wrong)),
    )  # fmt: skip


def at_one_account(name: str, number: int, addresses: Sequence[str]) -> list[Guess]:
    """Wrong guesses at that account, from those addresses in turn."""
    return [Guess(name, f"guess {n}", address) for n, address in zip(range(number), cycle(addresses), strict=False)]


def at_each_account(numbers: Iterable[int], right: int, addresses: Sequence[str]) -> list[Guess]:
    """One guess at each account; one in so many is right."""
    return [
        Guess(f"user-{n}", f"guess {n}" if n % right else PASSWORD, address)
        for n, address in zip(numbers, cycle(addresses), strict=False)
    ]


def plans(accounts: int, guesses: int, processes: int, limits: Settings) -> list[Plan]:
    """The attacks: each from addresses, and at accounts, of its own."""
    free, most = limits.throttle_account_failures, limits.throttle_address_failures
    at_once, beyond = limits.throttle_address_in_flight * processes, processes - 1
    one, other = (at_one_account(f"user-{n}", guesses, where) for n, where in ((1, ADDRESS), (2, NETWORK)))
    each = at_each_account(range(4, accounts + 4), 100, ANOTHER)
    return [
        Plan("at once at one account, one address", "user-1", one, guesses, free + beyond, processes),
        Plan("at once at one account, one network", "user-2", other, guesses, free + beyond, processes),
        Plan("an account each, one address", "user-3", each, AT_ONCE, most + at_once, at_once),
    ]


def attacks(
    folder: Path,
    *,
    accounts: int,
    guesses: int,
    processes: int,
    done: Callable[[], None] = lambda: None,
    **settings: Any,
) -> list[Attack]:
    """What came of every attack on so many processes over one store; `settings` are those of the service."""
    make_book(folder, accounts + 3)
    limits = Settings(**{name: value for name, value in settings.items() if name.startswith("throttle_")})
    with ExitStack() as running_now:
        services = [running_now.enter_context(running(folder, **SETTINGS, **settings)) for _ in range(processes)]
        return [besiege(services, plan, done) for plan in plans(accounts, guesses, processes, limits)]


def main() -> int:
    """The command: 0 when no more was evaluated than may be, and the owner was never kept out."""
    parser = argparse.ArgumentParser(prog="python -m tests.attacks.stuffing", description=__doc__)
    parser.add_argument("--accounts", type=int, default=10_000, help="accounts tried once each (default: 10,000)")
    parser.add_argument("--guesses", type=int, default=50, help="guesses at one account at once (default: 50)")
    parser.add_argument("--processes", type=int, default=1, help="processes on the store (default: 1)")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    asked = parser.parse_args()
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory(prefix="gatebook-stuffing-") as folder, Progress(console=console) as progress:
        task = progress.add_task("guessing", total=asked.accounts + 2 * asked.guesses)
        found = attacks(
            Path(folder), accounts=asked.accounts, guesses=asked.guesses, processes=asked.processes,
            done=partial(progress.advance, task),
        )  # fmt: skip
    show(found, as_json=asked.json)
    return 1 if any(attack.wrong for attack in found) else 0


def show(found: Sequence[Attack], *, as_json: bool) -> None:
    """Prints what came of the attacks: a table for people, one JSON object a line for programs."""
    if as_json:
        for attack in found:
            print(msgspec.json.encode(attack).decode())  # noqa: T201 - a command says what it found
        return
    console = Console()
    table = Table("guesses", "tried", "found wrong", "at most", "let in", "429", "503", "owner in/out", "s")
    for one in found:
        numbers = (one.tried, one.evaluated, one.bound, one.let_in, one.throttled, one.busy)
        table.add_row(one.what, *map("{:,}".format, numbers), f"{one.owner_in}/{one.owner_out}", str(one.seconds))
    console.print(table)
    for one in found:
        for sentence in one.wrong:
            console.print(f"WRONG: {one.what}: {sentence}", style="red")


if __name__ == "__main__":
    sys.exit(main())
