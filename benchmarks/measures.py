"""The measurements, one function each. Every round measures us and what stands beside us one after the other."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.client import HTTPResponse
from pathlib import Path
from time import perf_counter
from typing import cast
from urllib.request import Request, urlopen

import apsw
import msgspec
import trio
from argon2 import PasswordHasher

from benchmarks import endings, logins
from benchmarks.books import PASSWORD, make_book
from benchmarks.commands import submit_for
from benchmarks.load import Plan
from benchmarks.processes import load, loading, running
from benchmarks.table import Measured, compared
from events.log import Query, pages
from events.recorded import Recorded
from projections.replay import replay
from service.app import SWITCH_SECONDS
from service.batch import BatchRunner
from service.book import open_book, parse_address
from service.credentials.passwords import usable_cores
from service.writer import Writer

USERS = 1_000
REPLAYED = 100_000
CLIENTS = 6


class Bench:
    """A place for stores, the length of a round, and how many there are."""

    def __init__(self, folder: Path, seconds: float, rounds: int) -> None:
        self.folder = folder
        self.seconds = seconds
        self.rounds = rounds
        self.store = make_book(self._place("service"), USERS)

    def commands(self) -> Iterator[Measured]:
        """Commands a second at 1 and 50 callers, beside commits of one row each in a bare SQLite file."""
        for callers, aim in ((1, "0.3 of the commits"), (50, "8,000/s")):
            pairs = [
                (trio.run(self._commands, callers), _one_row_commits(self._place("raw"), self.seconds))
                for _ in range(self.rounds)
            ]
            yield compared(f"commands, {callers} callers", "/s", pairs, "one-row commits of SQLite", aim)

    def commands_under_load(self) -> Iterator[Measured]:
        """The same at 50 callers inside the service's process while session checks saturate it, and what that costs.

        The callers wait for answers in the event loop that the checks saturate: each takes a turn of it or two.
        """
        commands, checks = [], []
        with running("gatebook", str(self.store)) as server:
            plan = self._checks(server.ports["http"], self.seconds)
            for _ in range(self.rounds):
                alone = load(plan)
                with loading(plan) as loaded:
                    rate = server.ask(f"commands 50 {self.seconds}")["rate"]
                    beside = loaded()
                commands.append(rate)
                checks.append((beside.rate, alone.rate))
        yield Measured("commands, 50 callers, checks saturated", "/s", _median(commands), aim="2,500/s")
        yield compared("GET /api/session beside 50 callers", "/s", checks, "the same alone", "0.5")

    def replayed(self) -> Iterator[Measured]:
        """Events folded a second into all read models that fold without keys, beside a bare SELECT and decode."""
        path = make_book(self._place("replayed"), USERS, REPLAYED)
        book = open_book(parse_address(f"sqlite:{path}"))
        events = book.log.head().position
        decoder = msgspec.json.Decoder(Recorded)

        connection = apsw.Connection(str(path))

        def bare() -> None:
            for _, entry in connection.execute("SELECT position, entry FROM log ORDER BY position"):
                decoder.decode(cast("bytes", entry))

        def read() -> None:
            for _ in pages(book.log, Query()):
                pass

        pairs = [
            (events / _timed(lambda: replay(book.log, book.projections)), events / _timed(bare), events / _timed(read))
            for _ in range(self.rounds)
        ]
        book.close()
        connection.close()
        folded = [(ours, select) for ours, select, _ in pairs]
        yield compared("replayed events", "/s", folded, "bare SELECT and decode", "250,000/s")
        yield Measured("events read in pages", "/s", _median([pages_read for *_, pages_read in pairs]))

    def logins(self) -> Iterator[Measured]:
        """Logins a second through the whole service, beside raw Argon2id hashes on all cores at once."""
        with running("gatebook", str(self.store)) as server:
            pairs = [
                (_logins(server.ports["http"], self.seconds), _raw_hashes(self.seconds)) for _ in range(self.rounds)
            ]
        yield compared(f"logins, {CLIENTS} clients", "/s", pairs, "raw Argon2id on all cores", "0.85")

    def checks(self) -> Iterator[Measured]:
        """Session checks a second, beside a constant from a bare Quart-Trio application on plain Hypercorn."""
        with running("gatebook", str(self.store)) as ours, running("hello") as theirs:
            check = self._checks(ours.ports["http"], self.seconds)
            hello = Plan("http", theirs.ports["http"], "/hello", self.seconds)
            pairs = [(load(check).rate, load(hello).rate) for _ in range(self.rounds)]
        yield compared("GET /api/session, 50 connections", "/s", pairs, "bare Quart-Trio hello", "0.8")

    def checks_beside_logins(self) -> Iterator[Measured]:
        """See `benchmarks.logins`."""
        with running("gatebook", str(self.store)) as server:
            token = _log_in(server.ports["http"])
            yield from logins.checks_beside_logins(server, token, self.seconds, self.rounds)

    def authentications(self) -> Iterator[Measured]:
        """Round trips of `auth.authenticate`, beside a bare trio-websocket echo of as many bytes."""
        with running("gatebook", str(self.store)) as ours, running("echo") as theirs:
            token = _log_in(ours.ports["http"])
            message = json.dumps({"route": "auth.authenticate", "receipt": 1, "data": {"session_key": token}})
            asked = partial(Plan, "ws", seconds=self.seconds, message=message)
            check = asked(port=ours.ports["ws"], path="/auth/v2", expect='"nickname"')
            echo = asked(port=theirs.ports["ws"], path="/", expect="session_key")
            pairs = [(load(check).rate, load(echo).rate) for _ in range(self.rounds)]
        yield compared("auth.authenticate, 50 connections", "/s", pairs, "bare trio-websocket echo", "0.6")

    def growth(self) -> Iterator[Measured]:
        """Start-up to the first answer, and resident memory then, with a thousand events and with a million."""
        stores = [make_book(self._place(f"events-{events}"), 100, events) for events in (1_000, 1_000_000)]
        started: list[tuple[float, float]] = []
        resident: list[tuple[float, float]] = []
        for _ in range(self.rounds):
            few, many = (_start_up(store) for store in stores)
            started.append((many[0], few[0]))
            resident.append((many[1], few[1]))
        yield compared("start-up, 1,000,000 events", "s", started, "with 1,000 events", "no growth: 1.0")
        yield compared("resident memory, 1,000,000 events", "MiB", resident, "with 1,000 events", "no growth: 1.0")

    def revocations(self) -> Iterator[Measured]:
        """See `benchmarks.endings`."""
        return endings.revocations(self._place)

    def open_sockets(self) -> Iterator[Measured]:
        """See `benchmarks.endings`."""
        return endings.open_sockets(self._place)

    async def _commands(self, callers: int) -> float:
        address = parse_address(f"sqlite:{self.store}")
        writer = Writer(
            lambda: BatchRunner(open_book(address)), batch_size=256, most_waiting=1_000, observer=lambda _: None
        )
        book = open_book(address)
        # As the service does: the callers' event loop and the writer's thread take turns.
        sys.setswitchinterval(SWITCH_SECONDS)
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(writer.run)
                rate = await submit_for(writer, book, callers, self.seconds)
                nursery.cancel_scope.cancel()
        finally:
            book.close()
        return rate

    def _checks(self, port: int, seconds: float) -> Plan:
        return Plan("http", port, "/api/session", seconds, token=_log_in(port))

    def _place(self, name: str) -> Path:
        place = self.folder / name
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        return place


def _log_in(port: int, user: int = 1) -> str:
    body = json.dumps({"identifier": f"user-{user}", "password": PASSWORD})
    with _post(port, body) as answer:
        token: str = json.load(answer)["token"]
    return token


def _post(port: int, body: str) -> HTTPResponse:
    headers = {"Content-Type": "application/json"}
    asked = Request(f"http://127.0.0.1:{port}/api/session", body.encode(), headers)
    return cast("HTTPResponse", urlopen(asked, timeout=30))  # noqa: S310 - loopback, and a scheme of our own


def _logins(port: int, seconds: float) -> float:
    """A few clients more than there are cores, each with a user of its own, so that a hash is always waiting."""
    return _in_threads(CLIENTS, seconds, lambda number: _log_in(port, number + 2))


def _raw_hashes(seconds: float) -> float:
    hasher = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)
    encoded = hasher.hash(PASSWORD)
    return _in_threads(usable_cores(), seconds, lambda _: hasher.verify(encoded, PASSWORD))


def _in_threads(threads: int, seconds: float, work: Callable[[int], object]) -> float:
    done = [0] * threads
    started = perf_counter()

    def run(number: int) -> None:
        while perf_counter() - started < seconds:
            work(number)
            done[number] += 1

    running = [threading.Thread(target=run, args=(number,)) for number in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return sum(done) / (perf_counter() - started)


def _one_row_commits(folder: Path, seconds: float) -> float:
    """What stands beside the commands: WAL, synchronous=FULL, one row of 200 bytes and one commit at a time."""
    connection = apsw.Connection(str(folder / "raw.db"))
    connection.pragma("journal_mode", "wal")
    connection.pragma("synchronous", "full")
    connection.execute("CREATE TABLE entry (position INTEGER PRIMARY KEY, entry BLOB)")
    done, started = 0, perf_counter()
    while perf_counter() - started < seconds:
        connection.execute("INSERT INTO entry (entry) VALUES (?)", (bytes(200),))
        done += 1
    took = perf_counter() - started
    connection.close()
    return done / took


def _start_up(store: Path) -> tuple[float, float]:
    """Seconds to the first answer, and MiB resident then."""
    started = perf_counter()
    with running("gatebook", str(store)) as server:
        _log_in(server.ports["http"])
        took = perf_counter() - started
        resident = server.resident()
    return took, resident / 1024


def _timed(work: Callable[[], object]) -> float:
    started = perf_counter()
    work()
    return perf_counter() - started


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


@contextmanager
def bench(seconds: float, rounds: int) -> Iterator[Bench]:
    """A bench whose stores are gone afterwards. They lie in this folder, on a disk that really syncs, not in /tmp."""
    folder = Path(tempfile.mkdtemp(prefix=".bench-", dir=Path.cwd()))
    try:
        yield Bench(folder, seconds, rounds)
    finally:
        shutil.rmtree(folder)
