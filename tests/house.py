"""A gate with everything behind it, over a real SQLite store or one in memory, inside a test's own nursery."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trio

from service.batch import BatchRunner
from service.book import Book, open_book, parse_address
from service.credentials.access_tokens import NamedIn
from service.credentials.cookies import Cookies
from service.credentials.devices import Devices
from service.credentials.identifiers import IdentifierRules, identifier_rules
from service.credentials.passwords import HashingCost, Passwords
from service.credentials.signing_keys import SigningKeys
from service.gate.access_tokens import AccessTokens
from service.gate.attempts import Attempts
from service.gate.gate import Gate, GateSettings
from service.gate.guests import Guests
from service.gate.lookups import Lookups
from service.gate.throttling import ThrottlePolicy, Throttling
from service.gate.turns import Turns
from service.writer import BatchTold, Writer

NAMED = NamedIn("https://auth.example.org", "https://api.example.org")
"""Who makes access tokens, and whom they are for."""

CHEAP = HashingCost(memory=8, time=1, parallelism=1)
"""Argon2id at its lowest: tests are about what happens around the hash."""


@dataclass
class Clock:
    """A clock that stands until it is moved."""

    now: datetime = datetime(2026, 11, 21, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        """The moment it stands at."""
        return self.now

    def pass_by(self, **duration: float) -> None:
        """Moves it on: `clock.pass_by(hours=1)`."""
        self.now += timedelta(**duration)


@dataclass
class House:
    """What a test can reach: the gate, a book to look into, the writer, the clock, and every batch that was told."""

    gate: Gate
    guests: Guests
    cookies: Cookies
    signing_keys: SigningKeys
    tokens: AccessTokens
    book: Book
    writer: Writer
    clock: Clock
    path: Path
    told: list[BatchTold] = field(default_factory=list)


@contextmanager
def book_in(folder: Path) -> Iterator[Book]:
    """A new store in the folder, or the one that is there."""
    book = open_book(parse_address(f"sqlite:{folder}/gatebook.db"), create=True)
    try:
        yield book
    finally:
        book.close()


@asynccontextmanager
async def house(
    folder: Path,
    *,
    settings: GateSettings | None = None,
    policy: ThrottlePolicy | None = None,
    rules: IdentifierRules | None = None,
    clock: Clock | None = None,
    cost: HashingCost = CHEAP,
    guests_per_address: int = 200,
    guests_in_all: int = 100_000,
) -> AsyncIterator[House]:
    """A gate over a real SQLite store, its writer and its password workers running until the block ends."""
    clock = clock or Clock()
    address = parse_address(f"sqlite:{folder}/gatebook.db")
    with book_in(folder) as book:
        told: list[BatchTold] = []
        writer = Writer(
            lambda: BatchRunner(open_book(address), clock=clock),
            batch_size=256,
            most_waiting=2_000,
            observer=told.append,
        )
        passwords = Passwords(cost=cost)
        lookups = Lookups(book, clock, (settings or GateSettings()).idle_limit)
        throttling = Throttling(book.keyring, policy or ThrottlePolicy())
        turns = Turns(longest_wait=2.0, seconds_each=lambda: passwords.seconds_each)
        attempts = Attempts(lookups, writer, throttling, turns, clock)
        guests = Guests(lookups, writer, throttling, per_address=guests_per_address, in_all=guests_in_all, clock=clock)
        gate = Gate(
            lookups, writer, passwords, attempts, Devices(book.keyring, clock),
            rules or identifier_rules(common_passwords_refused=False), settings or GateSettings(), clock,
        )  # fmt: skip
        async with trio.open_nursery() as nursery:
            await nursery.start(writer.run)
            await nursery.start(passwords.run)
            signing_keys = SigningKeys(book.log, book.keyring, clock)
            yield House(
                gate, guests, Cookies(book.keyring, clock), signing_keys,
                AccessTokens(signing_keys, lookups, NAMED, clock=clock),
                book, writer, clock, folder / "gatebook.db", told,
            )  # fmt: skip
            nursery.cancel_scope.cancel()
