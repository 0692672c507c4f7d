"""Books to measure on: users with a known password, and as many events as asked for."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from events import merkle
from events.catalogue import Event, SessionClosed, SessionOpened, SessionSeen
from events.recorded import Entry, Recorded, encode, searchable
from events.sealing import seal
from projections.catalogue import USERS
from projections.rebuild import rebuild
from service.batch import BatchRunner, new_command_id, order, raised
from service.book import Book, fresh_table, open_book, parse_address
from service.credentials.passwords import Passwords
from service.credentials.tokens import digest, format_token, new_secret
from service.decisions.administration import SetLevel
from service.decisions.command import user_stream
from service.decisions.login import LogIn
from service.decisions.registration import Register, Taking

PASSWORD = "a benchmark's password"
PAGE = 5_000
DAY = timedelta(days=1)


def make_book(folder: Path, users: int, events: int = 0) -> Path:
    """A store with that many users, `user-1`, `user-2`, …, and at least that many events; the path of its file.

    Up to the users, as the service writes; beyond, entries of sessions are appended in great pages and the read models
    rebuilt from them, since a million batches would take minutes.
    """
    path = folder / "gatebook.db"
    book = open_book(parse_address(f"sqlite:{path}"), create=True)
    password_hash = Passwords().hash_now(PASSWORD)
    runner = BatchRunner(book)
    for start in range(1, users + 1, 250):
        numbers = range(start, min(start + 250, users + 1))
        runner.run([order(_register(book, n, password_hash), actor="operator", door="benchmark") for n in numbers])
    if events > book.log.head().position:
        _append(book, users, events)
        for projection in book.projections:
            rebuild(book.log, fresh_table(book, projection), keyring=book.keyring)
    book.close()
    return path


def open_sessions(path: Path, users: int, each: int) -> list[str]:
    """So many more sessions of each of the first users; their tokens, a user's behind one another."""
    book = open_book(parse_address(f"sqlite:{path}"))
    runner, tokens = BatchRunner(book), []
    for number in range(1, users + 1):
        user = book.document(USERS, str(number))
        secrets = [new_secret() for _ in range(each)]
        logins = [LogIn(number, user.password_version, digest(secret), DAY, most_sessions=each) for secret in secrets]
        outcomes = runner.run([order(login, actor=user_stream(number), door="benchmark") for login in logins])
        for secret, outcome in zip(secrets, outcomes, strict=True):
            tokens.append(format_token(raised(outcome)[-1].position, secret))
    book.close()
    return tokens


def make_admin(path: Path, user: int) -> None:
    """Lets that user do what admins may."""
    book = open_book(parse_address(f"sqlite:{path}"))
    [outcome] = BatchRunner(book).run([order(SetLevel(user, 2), actor="operator", door="benchmark")])
    raised(outcome)
    book.close()


def _register(book: Book, number: int, password_hash: str) -> Register:
    name = f"user-{number}"
    username, nickname = (Taking(name, name, book.tag(kind, name)) for kind in ("username", "nickname"))
    return Register(username, nickname, None, password_hash, 1)


def _append(book: Book, users: int, events: int) -> None:
    book.keyring.prepare(range(1, users + 1))
    while (position := book.log.head().position) < events:
        entries = list(_entries(book, users, position, datetime.now(UTC)))
        with book.log.transaction() as transaction:
            transaction.append(entries)


def _entries(book: Book, users: int, position: int, at: datetime) -> Iterator[Entry]:
    """A page of sessions: opened, seen, closed; each begins, is seen once, and is over."""
    open_until = position + PAGE
    while position < open_until:
        user = position % users + 1
        opened = SessionOpened(user, "0" * 64, at + timedelta(days=1), "192.0.2.1", "benchmark/1.0")
        story: list[Event] = [opened, SessionSeen(user), SessionClosed(user, "logout")]
        stream = f"session-{position + 1}"
        for version, event in enumerate(story, 1):
            position += 1
            plain = Recorded(position, stream, version, at, f"user-{user}", "benchmark", new_command_id(), event)
            sealed = seal(plain, book.keyring)
            data = encode(sealed)
            yield searchable(sealed, data, merkle.leaf_hash(data))
