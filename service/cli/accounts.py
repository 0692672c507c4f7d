"""Accounts as the command line finds, shows and changes them."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from events.errors import SealError
from projections.catalogue import USERS
from service.batch import BatchRunner, order, raised
from service.cli.exits import NothingThereError, UsageError
from service.cli.speech import cell, print_line, print_object
from service.credentials.identifiers import Prepared, identifier_rules, prepare_identifier
from service.credentials.passwords import HashingCost, Passwords
from service.gate.lookups import Lookups
from service.inspection import shown

if TYPE_CHECKING:
    from events.recorded import Recorded
    from projections.users import User
    from service.batch import Outcome
    from service.book import Book
    from service.credentials.identifiers import IdentifierRules
    from service.decisions.command import Command
    from service.settings import Settings

ACTOR: Final = "operator"
DOOR: Final = "command-line"
LONGEST_PASSWORD_BYTES: Final = 65_536
LEVELS: Final = {0: "guest", 1: "user", 2: "admin"}
SHOWN: Final = ("id", "username", "nickname", "email", "level", "active", "open_sessions", "created_at", "last_contact")


def carry_out(book: Book, settings: Settings, command: Command) -> tuple[Recorded, ...]:
    """The command's recorded events, durable; raises what refused it. The service, if it runs, sees them at once."""
    [outcome] = carry_out_all(book, settings, [command])
    return raised(outcome)


def carry_out_all(book: Book, settings: Settings, commands: Sequence[Command]) -> list[Outcome]:
    """What became of each command, all of them in one transaction; one that is refused does not keep the others."""
    runner = BatchRunner(book, skew=timedelta(seconds=settings.clock_skew_seconds))
    return runner.run([order(command, actor=ACTOR, door=DOOR) for command in commands])


def found(book: Book, text: str) -> User:
    """The account that is named: by id, username or e-mail address; `id:17` and `name:17` where both could be meant.

    NothingThereError when there is none; UsageError when a number is the id of one account and the name of another.
    """
    kind, colon, rest = text.partition(":")
    if colon and kind in {"id", "name"}:
        user = _by_id(book, rest) if kind == "id" else _by_name(book, rest)
    else:
        user, named = _by_id(book, text), _by_name(book, text)
        if user is not None and named is not None and user.id != named.id:
            raise UsageError("That is the id of one user and the name of another: write id:… or name:….")
        user = user or named
    if user is None:
        raise NothingThereError("There is no user of that id, username or e-mail address.")
    return user


def user_object(book: Book, user: User) -> dict[str, Any]:
    """The account as one object, opened, without its password hash."""
    said = shown(user, book.keyring)
    return {name: said[name] for name in SHOWN} | {"level": LEVELS[user.level]}


def print_user(
    book: Book, user_id: int, *, as_json: bool, head: str | None = None, position: int | None = None
) -> None:
    """The account as it is now. `head` is a sentence for people; `position` is where the last change stands."""
    user = book.document(USERS, str(user_id))
    said = user_object(book, user)
    if as_json:
        print_object(said if position is None else {**said, "position": position})
        return
    if head is not None:
        print_line(f"{head}." if position is None else f"{head} (position {position}).")
        return
    for name, value in said.items():
        print_line(f"{name:<13} {cell(value)}".rstrip())


def called(book: Book, user: User) -> str:
    """The account in a sentence: its username and id."""
    return f"{cell(user_object(book, user)['username'])} (user {user.id})"


def rules_of(settings: Settings) -> IdentifierRules:
    """What the settings say about names and passwords."""
    return identifier_rules(settings.reserved_names, common_passwords_refused=settings.common_passwords_refused)


def own_names(book: Book, user: User) -> Sequence[Prepared]:
    """The person's names and address, none of which is a password; those that cannot be opened are passed over."""
    said = shown(user, book.keyring)
    pairs = (("username", "username"), ("nickname", "nickname_prepared"), ("email", "email_prepared"))
    opened = [(said[typed], said[compared]) for typed, compared in pairs]
    return [
        Prepared(typed, compared) for typed, compared in opened if isinstance(typed, str) and isinstance(compared, str)
    ]


def hashed(settings: Settings, password: str) -> str:
    """The encoded hash of a prepared password, at the cost that the settings say."""
    cost = HashingCost(settings.argon2_memory_kib, settings.argon2_time, settings.argon2_parallelism)
    return Passwords(cost, workers=1).hash_now(password)


def typed_password(*, from_stdin: bool) -> str:
    """The password: all of standard input but one last line end, or typed twice, unseen, on a terminal.

    UsageError when neither is there, when the two differ, or when it is no text.
    """
    if not sys.stdin.isatty():
        if not from_stdin:
            raise UsageError(
                "A password is needed: give --password-stdin, or run this on a terminal to be asked for it."
            )
        return _from_stdin()
    try:
        password, again = getpass.getpass("Password: "), getpass.getpass("Once more: ")
    except EOFError:
        raise UsageError("No password was typed.") from None
    if password != again:
        raise UsageError("The two are not the same; nothing was changed.")
    return password


def _from_stdin() -> str:
    data = sys.stdin.buffer.read(LONGEST_PASSWORD_BYTES + 1)
    if len(data) > LONGEST_PASSWORD_BYTES:
        raise UsageError(f"The password on standard input is longer than {LONGEST_PASSWORD_BYTES:,} bytes.")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise UsageError("The password on standard input is not UTF-8.") from None
    return text.removesuffix("\n").removesuffix("\r")


def _by_id(book: Book, text: str) -> User | None:
    known: User | None = book.document(USERS, text) if not text.startswith("0") else None
    return known


def _by_name(book: Book, text: str) -> User | None:
    identifier = prepare_identifier(text)
    if identifier is None:
        return None
    lookups = Lookups(book)
    return lookups.account(lookups.tag(identifier.kind, identifier.compared))


def opens(book: Book, user: User) -> SealError | None:
    """Why the account's username cannot be opened, None when it can."""
    from events.sealing import open_value

    try:
        open_value(user.username, book.keyring)
    except SealError as error:
        return error
    return None
