"""The `gatebook` command over a store in a folder, with what came of it."""

from __future__ import annotations

import getpass
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import apsw
import pytest

from events.recorded import Recorded
from projections.catalogue import USERS
from service.batch import BatchRunner, order, raised
from service.book import Book, open_book, parse_address
from service.cli.process import run
from service.decisions.command import Command
from service.decisions.login import LogIn

PASSWORD = "correct horse battery staple"
ENVIRONMENT = {
    "GATEBOOK_ARGON2_MEMORY_KIB": "8",
    "GATEBOOK_ARGON2_TIME": "1",
    "GATEBOOK_HTTP": "127.0.0.1:0",
    "GATEBOOK_WS": "127.0.0.1:0",
    "GATEBOOK_METRICS": "127.0.0.1:0",
}
"""Cheap hashes, and ports that nobody else has."""

PATIENCE = 30.0
"""Seconds after which whatever is waited for will not come."""


@dataclass(frozen=True)
class Ended:
    """A command that ended: its exit code and what it said."""

    code: int
    out: str
    err: str

    @property
    def objects(self) -> list[Any]:
        """The objects that it printed, one a line."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def error(self) -> Any:
        """The one object that it printed on stderr."""
        [line] = self.err.splitlines()
        return json.loads(line)


class _Input(io.TextIOWrapper):
    """Standard input, of a terminal or not."""

    def __init__(self, data: bytes, *, terminal: bool) -> None:
        super().__init__(io.BytesIO(data), encoding="utf-8")
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


class Gatebook:
    """The command, over the store in `folder`; called with its arguments."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.path = folder / "gatebook.db"
        self.store = f"sqlite:{self.path}"
        self._capsys = capsys
        self._monkeypatch = monkeypatch
        for name in [name for name in os.environ if name.startswith("GATEBOOK_")]:
            monkeypatch.delenv(name)
        for name, value in ENVIRONMENT.items():
            monkeypatch.setenv(name, value)
        # The logs of the tests' own process stay as they are.
        monkeypatch.setattr("service.logs.configure_logs", lambda *_: None)

    def __call__(
        self, *arguments: str, stdin: bytes = b"", typed: Sequence[str] = (), store: str | None = None
    ) -> Ended:
        """Runs a command in this process; `typed` is what a person at a terminal answers when asked for a password."""
        self._capsys.readouterr()
        with self._monkeypatch.context() as patched:
            patched.setattr(sys, "stdin", _Input(stdin, terminal=bool(typed)))
            answers = iter(typed)
            patched.setattr(getpass, "getpass", lambda _prompt: next(answers))
            code = run([*arguments, "--store", store or self.store])
        said = self._capsys.readouterr()
        return Ended(int(code), said.out, said.err)

    def add(self, name: str, *arguments: str) -> int:
        """Makes an account and gives its id."""
        made = self("users", "add", name, *arguments, "--password-stdin", "--json", stdin=PASSWORD.encode())
        assert made.code == 0, made.err
        return int(made.objects[0]["id"])

    @contextmanager
    def book(self) -> Iterator[Book]:
        """The book, for what no command does."""
        book = open_book(parse_address(self.store))
        try:
            yield book
        finally:
            book.close()

    def write(self, *commands: Command) -> tuple[Recorded, ...]:
        """Carries out what no command of the line does, in one batch."""
        with self.book() as book:
            outcomes = BatchRunner(book).run([order(command, actor="tester", door="test") for command in commands])
            return tuple(one for outcome in outcomes for one in raised(outcome))

    def log_in(self, user_id: int, agent: str | None = None, address: str | None = None) -> int:
        """Opens a session and gives its id."""
        with self.book() as book:
            version = book.document(USERS, str(user_id)).password_version
        command = LogIn(user_id, version, "ab" * 32, timedelta(days=1), 100, agent=agent, address=address)
        return self.write(command)[-1].position

    def tamper(self, *statements: str) -> None:
        """Changes the store behind the triggers' back."""
        connection = apsw.Connection(str(self.path))
        triggers = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for name, _ in triggers:
            connection.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            connection.execute(statement)
        for _, sql in triggers:
            connection.execute(str(sql))
        connection.close()

    @contextmanager
    def process(self, *arguments: str, **environ: str) -> Iterator[subprocess.Popen[str]]:
        """Runs the command in a process of its own, which is ended with the block."""
        with subprocess.Popen(
            [str(Path(sys.executable).with_name("gatebook")), *arguments],
            env=os.environ | environ,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()


def ended(process: subprocess.Popen[str], number: signal.Signals | None = None) -> Ended:
    """What came of a process, after this signal; it has to end by itself then."""
    if number is not None:
        process.send_signal(number)
    out, err = process.communicate(timeout=PATIENCE)
    return Ended(process.returncode, out, err)


def no_secret(*texts: str, besides: Sequence[str] = ()) -> None:
    """No password, hash of one or token digest stands in any of these."""
    for text in texts:
        for secret in (PASSWORD, "$argon2", "ab" * 32, *besides):
            assert secret not in text
