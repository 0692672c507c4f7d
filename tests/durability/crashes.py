"""Fifty clients at all doors, a service that is killed at random moments, and what is left of what they were told.

`python -m tests.durability.crashes --rounds 100 --seconds 5` goes on for long; `make crash` runs it.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import trio

from tests.durability.audit import audit
from tests.durability.doors import (
    AuthServerDoor,
    BusyError,
    Door,
    GoneError,
    HTTPDoor,
    ReactAuthDoor,
    RefusedError,
    RouteDoor,
)
from tests.durability.people import Person
from tests.durability.process import Service

Opening = Callable[[Service, trio.Nursery], Door]


@dataclass
class Report:
    """What came of it. `wrong` is empty when everything was as it should be."""

    kills: int = 0
    answers: int = 0
    events: int = 0
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        told = f"{self.kills} kills, {self.answers} answers, {self.events} events"
        return "\n".join([told, *(f"WRONG: {sentence}" for sentence in self.wrong)])


class Crowd:
    """The clients, and who of them waits for the service to come back."""

    def __init__(self, service: Service, number: int, seed: int) -> None:
        self._service = service
        self._up = trio.Event()
        self._waiting = 0
        self._all_wait = trio.Event()
        self._leaving = False
        self.people = [
            # One chance each, so that what one does hangs on nobody else.
            Person(f"person{seed}x{one}", random.Random(seed * 1_000 + one))  # noqa: S311 - drawn again from the same seed
            for one in range(number)
        ]

    async def live(self) -> None:
        """Everybody comes and goes until `leave`."""
        async with trio.open_nursery() as nursery:
            for number, person in enumerate(self.people):
                nursery.start_soon(self._live, person, DOORS[number % len(DOORS)])

    def service_is_up(self) -> None:
        """Everybody who waits goes on."""
        self._all_wait = trio.Event()
        self._up.set()

    async def everybody_waits(self) -> None:
        """Until nobody expects an answer any more. To be asked after the service is gone."""
        await self._all_wait.wait()

    def service_is_down(self) -> None:
        """From here on, whoever loses the connection waits."""
        self._up = trio.Event()

    def leave(self) -> None:
        """Everybody goes home at the next chance."""
        self._leaving = True
        self._up.set()

    async def _live(self, person: Person, open_door: Opening) -> None:
        while True:
            await self._wait()
            if self._leaving:
                return
            async with trio.open_nursery() as nursery:
                door = open_door(self._service, nursery)
                try:
                    await self._visit(person, door)
                finally:
                    with trio.CancelScope(shield=True):
                        await door.close()
                nursery.cancel_scope.cancel()

    async def _visit(self, person: Person, door: Door) -> None:
        up = self._up
        try:
            await _until_told(lambda: person.look(door))
            await _until_told(lambda: person.settle(door))
            while not self._leaving:
                await person.act(door)
        except GoneError:
            if up is self._up and up.is_set():
                person.wrong.append(f"{person.username} lost the connection to a living service")
        except RefusedError as refusal:
            person.wrong.append(f"{person.username}, back again, was refused with {refusal.code}")

    async def _wait(self) -> None:
        if self._up.is_set():
            return
        self._waiting += 1
        if self._waiting == len(self.people):
            self._all_wait.set()
        await self._up.wait()
        self._waiting -= 1


async def _until_told(ask: Callable[[], Awaitable[None]]) -> None:
    while True:
        try:
            await ask()
        except BusyError:
            await trio.sleep(0.05)
        else:
            return


def _account_api(service: Service, _: trio.Nursery) -> Door:
    return HTTPDoor(service)


def _auth_server(service: Service, _: trio.Nursery) -> Door:
    return AuthServerDoor(service)


DOORS: Final[tuple[Opening, ...]] = (RouteDoor, _account_api, ReactAuthDoor, _auth_server)


async def crash(
    folder: Path,
    *,
    rounds: int,
    seconds: float,
    seed: int,
    clients: int = 50,
    tell: Callable[[str], None] = lambda _: None,
) -> Report:
    """Lets the clients live, kills the service once a round at a random moment, and looks each time at what is left."""
    service, report = Service(folder), Report()
    crowd = Crowd(service, clients, seed)
    chance = random.Random(seed)  # noqa: S311 - drawn again from the same seed
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(crowd.live)
            for number in range(1, rounds + 1):
                await _start(service, crowd, report)
                await trio.sleep(seconds * chance.uniform(0.2, 1.0))
                crowd.service_is_down()
                await service.kill()
                await crowd.everybody_waits()
                report.kills += 1
                await _look(service, crowd, report, folder / f"after-{number}")
                tell(f"round {number}: {report}")
            await _start(service, crowd, report)
            crowd.leave()
        code = await service.stop()
        if code != 0:
            report.wrong.append(f"it ended with {code} when it was asked to")
        await _look(service, crowd, report, folder / "at-the-end")
    finally:
        await service.end()
    return report


async def _start(service: Service, crowd: Crowd, report: Report) -> None:
    await service.start()
    crowd.service_is_up()
    verified = await service.cli("verify")
    if verified.returncode != 0:
        report.wrong.append(f"gatebook verify: {verified.stdout.decode()}{verified.stderr.decode()}")


async def _look(service: Service, crowd: Crowd, report: Report, folder: Path) -> None:
    address = service.copy(folder)
    report.events, wrong = await trio.to_thread.run_sync(audit, address, crowd.people)
    report.wrong += wrong
    for person in crowd.people:
        report.wrong += person.wrong
        person.wrong.clear()
    report.wrong += service.errors()
    report.answers = sum(person.answers for person in crowd.people)
    # Not needed any more, and a long run makes many.
    shutil.rmtree(folder)


def main() -> int:
    """The command: 0 when nothing was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.durability.crashes", description=__doc__)
    parser.add_argument("--rounds", type=int, default=20, help="how often the service is killed (default: 20)")
    parser.add_argument("--seconds", type=float, default=3.0, help="the longest that it lives in a round (default: 3)")
    parser.add_argument("--clients", type=int, default=50, help="how many use it at the same time (default: 50)")
    parser.add_argument(
        "--seed", type=int, default=None, help="what the chances are drawn from (default: another each time)"
    )
    asked = parser.parse_args()
    seed = asked.seed if asked.seed is not None else random.SystemRandom().randrange(1_000_000)
    _tell(f"seed {seed}")
    with tempfile.TemporaryDirectory(prefix="gatebook-crashes-") as folder:
        report = trio.run(
            partial(
                crash,
                Path(folder),
                rounds=asked.rounds,
                seconds=asked.seconds,
                seed=seed,
                clients=asked.clients,
                tell=_tell,
            )
        )
    _tell(str(report))
    return 1 if report.wrong else 0


def _tell(sentence: str) -> None:
    print(sentence, flush=True)  # noqa: T201 - a command says what it found


if __name__ == "__main__":
    sys.exit(main())
