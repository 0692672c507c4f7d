"""A book with a batch runner at hand, without an event loop; it can be made to fail."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

from events.log import Query
from events.recorded import Recorded
from events.sealing import open_event
from events.sqlite import SQLiteLog
from projections.projection import AnyProjection
from projections.replay import replay
from service.batch import BatchRunner, Order, Outcome, order, raised
from service.book import Book
from service.decisions.command import Command
from service.decisions.login import LogIn
from service.decisions.registration import Register, Taking
from tests.house import Clock


class Desk:
    """A book with a runner, as a service process or somebody at the command line has them."""

    def __init__(self, book: Book, clock: Clock) -> None:
        self.book = book
        self.clock = clock
        self.runner = BatchRunner(book, clock=clock)

    def run(self, *commands: Command) -> list[Outcome]:
        return self.runner.run(orders(*commands))

    def one(self, command: Command) -> tuple[Recorded, ...]:
        return raised(self.run(command)[0])

    def register(self, name: str, level: Any = 1) -> Register:
        return Register(self._taking("username", name), self._taking("nickname", name), None, f"hash {name}", level)

    def account(self, name: str, level: Any = 1) -> int:
        return self.one(self.register(name, level))[0].position

    def session(self, user: int) -> int:
        return self.one(login(user))[-1].position

    def head(self) -> int:
        return self.book.log.head().position

    def told(self, position: int) -> Recorded:
        """What stands at that position, opened with the keys of this desk."""
        return open_event(self.book.log.read(Query(after=position - 1, limit=1))[0], self.book.keyring)

    def break_(self, name: str, when: Callable[[Recorded], bool]) -> None:
        """Makes the projection of that name fail on such events, from here on."""
        self.book.projections = tuple(
            Broken(one, when) if one.name == name else one for one in self.book.projections
        )  # fmt: skip

    def mend(self) -> None:
        self.book.projections = tuple(
            one.real if isinstance(one, Broken) else one for one in self.book.projections
        )  # fmt: skip

    def assert_replays(self) -> None:
        """What is maintained is what a replay folds."""
        self.mend()
        states = self.book.read_models.states()
        folded = replay(self.book.log, self.book.projections, opener=lambda one: open_event(one, self.book.keyring))
        assert {name: folded.digest(name) for name in states} == {name: one.digest for name, one in states.items()}
        assert {state.position for state in states.values()} == {folded.position}

    def _taking(self, kind: Any, name: str) -> Taking:
        return Taking(name, name.lower(), self.book.tag(kind, name.lower()))

    def refuse_commits(self, *, allowed: int = 0) -> None:
        """From here on the store lets that many more transactions commit, and no other."""
        left = allowed

        def hook() -> bool:
            nonlocal left
            left -= 1
            return left < 0

        assert isinstance(self.book.log, SQLiteLog)
        self.book.log.connection.set_commit_hook(hook)

    def allow_commits(self) -> None:
        """The store lets every transaction commit again."""
        assert isinstance(self.book.log, SQLiteLog)
        self.book.log.connection.set_commit_hook(None)


class Broken:
    """A projection with a fault in its fold."""

    def __init__(self, real: AnyProjection, when: Callable[[Recorded], bool]) -> None:
        self.real = real
        self._when = when

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def evolve(self, key: str, doc: Any, recorded: Recorded) -> Any:
        if self._when(recorded):
            raise ZeroDivisionError("a fault in the fold")
        return self.real.evolve(key, doc, recorded)


def orders(*commands: Command) -> list[Order]:
    return [order(command, actor="operator", door="test") for command in commands]


def login(user: int, version: int | None = None) -> LogIn:
    return LogIn(user, version or user, "d" * 64, timedelta(days=1), 100)


def kinds(outcomes: Sequence[Outcome]) -> list[str]:
    """`ok` for each command that was carried out, else the name of what refused it."""
    return ["ok" if isinstance(one, tuple) else type(one).__name__ for one in outcomes]
