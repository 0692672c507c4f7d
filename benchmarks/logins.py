"""What session checks cost while more people log in than the machine has time for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median
from time import sleep

from msgspec import Struct

from benchmarks.books import PASSWORD
from benchmarks.flood import Flood, Flooded
from benchmarks.paced import Asked, Pace
from benchmarks.processes import Child, at_work
from benchmarks.table import Measured, compared

CLIENTS = 200
CHECKS = Asked("/api/session", rate=200, connections=8)
HEALTH = Asked("/health/live", rate=50, connections=2)
LEAD = 2.0
"""Seconds of the flood before anything is measured: two hundred who come at one moment are another matter."""


class Round(Struct, frozen=True):
    """One round: milliseconds of checks and of health without logins and beside them, and what came of the logins."""

    alone: list[list[float]]
    beside: list[list[float]]
    flooded: Flooded
    resident: tuple[float, float]


def checks_beside_logins(server: Child, token: str, seconds: float, rounds: int) -> Iterator[Measured]:
    """Checks at a fixed pace without logins, and the same while 200 clients log in again and again."""
    port = server.ports["http"]
    found = [_round(server, Pace(port, seconds, [_with(CHECKS, token), HEALTH])) for _ in range(rounds)]
    for kind, what, aims in ((0, "GET /api/session", ("", "3.0")), (1, "GET /health/live", ("", "50 ms"))):
        for name, share, aim in zip(("p50", "p99"), (0.5, 0.99), aims, strict=True):
            pairs = [(_percentile(one.beside[kind], share), _percentile(one.alone[kind], share)) for one in found]
            yield compared(f"{what} beside {CLIENTS} logging in, {name}", "ms", pairs, "without logins", aim)
    came = [one.flooded for one in found]
    yield Measured(f"logins, {CLIENTS} clients", "/s", median(one.logins / one.seconds for one in came))
    yield Measured("of them refused, 503", "/s", median(one.refused / one.seconds for one in came))
    yield compared("resident memory beside them", "MiB", [one.resident for one in found], "before", "bounded")


def _round(server: Child, pace: Pace) -> Round:
    with at_work("paced", pace, list[list[float]]) as told:
        alone = told()
    before = server.resident() / 1024
    flood = Flood(pace.port, PASSWORD, CLIENTS, LEAD + pace.seconds + 0.5)
    with at_work("flood", flood, Flooded) as flooded:
        sleep(LEAD)
        with at_work("paced", pace, list[list[float]]) as told:
            beside = told()
        resident = server.resident() / 1024, before
        return Round(alone, beside, flooded(), resident)


def _with(asked: Asked, token: str) -> Asked:
    return Asked(asked.path, asked.rate, asked.connections, token)


def _percentile(seconds: Sequence[float], share: float) -> float:
    return sorted(seconds)[min(int(len(seconds) * share), len(seconds) - 1)] * 1000
