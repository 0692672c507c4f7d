"""Who tries to log in and is not let in, for each of the reasons that there are, and a book in which they are so."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal, get_args

from msgspec import Struct

from projections.names import NameKind
from service.batch import BatchRunner, order, raised
from service.book import Book
from service.credentials.passwords import HashingCost, Passwords
from service.decisions.administration import Deactivate
from service.decisions.command import Command
from service.decisions.registration import Register, Taking
from tests.attacks.logins import Login
from tests.house import book_in

Kind = Literal["unknown", "unknown too", "wrong password", "deactivated"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
"""Nobody has that name; nobody has that one either, so that these two cannot differ; the account is there, and the
password is another one; the account is deactivated, and the password is right."""

Identifier = Literal["username", "email"]
IDENTIFIERS: Final[tuple[Identifier, ...]] = get_args(Identifier)

RIGHT: Final = "tugging-Widow-41-lanterns"
WRONG: Final = "plover-Cistern-88-gravity"
BATCH: Final = 250


class Somebody(Struct, frozen=True):
    """A name with what is true of it; all names are of one length."""

    kind: Kind
    username: str

    @property
    def email(self) -> str:
        """The address, which the account has where there is one."""
        return f"{self.username}@example.org"

    def login(self, identifier: Identifier, device: str | None = None) -> Login:
        """The login that is refused for what is true of them."""
        typed = self.username if identifier == "username" else self.email
        return Login(typed, WRONG if self.kind == "wrong password" else RIGHT, device)


def people(rounds: int, chance: random.Random) -> list[tuple[Somebody, ...]]:
    """Rounds of one of each kind, in an order of their own each time. Their names say nothing of what they are."""
    found = []
    names = [f"u{number:08x}" for number in chance.sample(range(16**8), rounds * len(KINDS))]
    for start in range(0, len(names), len(KINDS)):
        kinds = chance.sample(KINDS, len(KINDS))
        found.append(tuple(map(Somebody, kinds, names[start : start + len(KINDS)])))
    return found


def make_book(folder: Path, everybody: Sequence[Somebody], cost: HashingCost | None = None) -> None:
    """A store in the folder, with an account for everybody who has one; `cost` is what their hashes were made at."""
    known = [one for one in everybody if one.kind in {"wrong password", "deactivated"}]
    # One hash for all of them, sealed for each: to evaluate it costs what any other does.
    password_hash = Passwords(cost).hash_now(RIGHT)
    with book_in(folder) as book:
        ids = _write(book, [_register(book, one, password_hash) for one in known])
        gone = [user_id for user_id, one in zip(ids, known, strict=True) if one.kind == "deactivated"]
        _write(book, [Deactivate(user_id) for user_id in gone])


def _register(book: Book, one: Somebody, password_hash: str) -> Register:
    def taking(kind: NameKind, name: str) -> Taking:
        return Taking(name, name, book.tag(kind, name))

    username, nickname = taking("username", one.username), taking("nickname", one.username)
    return Register(username, nickname, taking("email", one.email), password_hash, 1)


def _write(book: Book, commands: Sequence[Command]) -> list[int]:
    """Carries them out; where each stands in the book."""
    runner, positions = BatchRunner(book), []
    for start in range(0, len(commands), BATCH):
        orders = [order(one, actor="operator", door="test") for one in commands[start : start + BATCH]]
        positions += [raised(outcome)[0].position for outcome in runner.run(orders)]
    return positions
