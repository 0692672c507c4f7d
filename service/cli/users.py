"""`gatebook users`: making and changing accounts, on the same store as the service, which sees it at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from cyclopts import App, Parameter

from events.catalogue import ADMIN, USER, Level
from projections.catalogue import USERS
from service import inspection
from service.cli.accounts import (
    LEVELS,
    SHOWN,
    called,
    carry_out,
    found,
    hashed,
    own_names,
    print_user,
    rules_of,
    typed_password,
)
from service.cli.exits import Exit
from service.cli.place import HERE, Place, opened, settings_of
from service.cli.sessions import print_sessions
from service.cli.speech import print_object, print_table
from service.credentials.identifiers import check_registration, prepare_password
from service.decisions.administration import Deactivate, Reactivate, SetLevel, SetPassword
from service.decisions.registration import Register
from service.gate.lookups import Lookups

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.book import Book

PAGE: Final = 1_000
LEVEL_OF: Final[dict[str, Level]] = {"user": USER, "admin": ADMIN}
Named = Annotated[str, Parameter(name="USER")]
FromStdin = Annotated[bool, Parameter(name="--password-stdin", negative="", show_default=False)]

app: Final = App(
    name="users",
    help="Manage accounts. A user is named by id, username or e-mail address; where a number could be either, id:17 or"
    " name:17. The service need not run; if it does, it sees every change at once.",
    help_epilogue="Example: `printf '%s' \"$SECRET\" | gatebook users add ops --level admin --password-stdin`",
)


@app.command(
    help_epilogue="Examples: `gatebook users add alice --nickname Alice` (asks for the password) ·"
    " `gatebook users add ops --level admin --password-stdin < secret.txt`"
)
def add(
    name: str,
    /,
    *,
    level: Literal["user", "admin"] = "user",
    nickname: Annotated[str | None, Parameter(metavar="N")] = None,
    email: Annotated[str | None, Parameter(metavar="E")] = None,
    password_stdin: FromStdin = False,
    place: Place = HERE,
) -> int:
    """Make an account.

    :param name: The username.
    :param level: What the account may do.
    :param nickname: What others see; the username when nothing is said.
    :param email: An e-mail address, by which one can log in too.
    :param password_stdin: Take the password from standard input, all of it but a last line end.
    """
    settings = settings_of(place)
    with opened(settings) as book:
        password = typed_password(from_stdin=password_stdin)
        forms = check_registration(name, nickname or name, password, email, rules_of(settings))
        taking = Lookups(book).taking
        command = Register(
            username=taking("username", forms.username),
            nickname=taking("nickname", forms.nickname),
            email=taking("email", forms.email) if forms.email else None,
            password_hash=hashed(settings, forms.password),
            level=LEVEL_OF[level],
        )
        [recorded] = carry_out(book, settings, command)
        made = book.document(USERS, str(recorded.position))
        head = f"{called(book, made)} was made, with level {level}"
        print_user(book, made.id, as_json=place.json, head=head, position=recorded.position)
    return Exit.DONE


@app.command(name="list", help_epilogue="Examples: `gatebook users list` · `gatebook users list --level admin --json`")
def list_users(*, level: Literal["user", "admin"] | None = None, place: Place = HERE) -> int:
    """List the accounts.

    :param level: Only those of this level.
    """
    with opened(settings_of(place)) as book:
        rows = _users(book, None if level is None else LEVEL_OF[level])
        if place.json:
            for one in rows:
                print_object(one)
        else:
            print_table(SHOWN, (list(one.values()) for one in rows))
    return Exit.DONE


@app.command(help_epilogue="Examples: `gatebook users show 17` · `gatebook users show alice --json`")
def show(user: Named, /, *, place: Place = HERE) -> int:
    """Show an account.

    :param user: Its id, username or e-mail address.
    """
    with opened(settings_of(place)) as book:
        print_user(book, found(book, user).id, as_json=place.json)
    return Exit.DONE


@app.command(help_epilogue="Example: `gatebook users set-password alice --password-stdin < secret.txt`")
def set_password(user: Named, /, *, password_stdin: FromStdin = False, place: Place = HERE) -> int:
    """Give an account another password, and end all its sessions.

    :param user: Its id, username or e-mail address.
    :param password_stdin: Take the password from standard input, all of it but a last line end.
    """
    settings = settings_of(place)
    with opened(settings) as book:
        account = found(book, user)
        password = typed_password(from_stdin=password_stdin)
        prepared = prepare_password(password, rules_of(settings), own=own_names(book, account))
        recorded = carry_out(book, settings, SetPassword(account.id, hashed(settings, prepared)))
        head = f"{called(book, account)} has another password; sessions ended: {len(recorded) - 1}"
        print_user(book, account.id, as_json=place.json, head=head, position=recorded[-1].position)
    return Exit.DONE


@app.command(help_epilogue="Example: `gatebook users set-level alice admin`")
def set_level(user: Named, /, level: Literal["user", "admin"], *, place: Place = HERE) -> int:
    """Make an account a plain user or an admin; the last active admin stays one.

    :param user: Its id, username or e-mail address.
    :param level: What it may do from now on.
    """
    settings = settings_of(place)
    with opened(settings) as book:
        account = found(book, user)
        recorded = carry_out(book, settings, SetLevel(account.id, LEVEL_OF[level]))
        position = recorded[0].position if recorded else None
        head = f"{called(book, account)} {'now has' if recorded else 'had already'} the level {level}"
        print_user(book, account.id, as_json=place.json, head=head, position=position)
    return Exit.DONE


@app.command(help_epilogue='Example: `gatebook users deactivate alice --reason "left the company"`')
def deactivate(
    user: Named, /, *, reason: Annotated[str | None, Parameter(metavar="TEXT")] = None, place: Place = HERE
) -> int:
    """Keep an account from logging in, and end all its sessions; the last active admin stays.

    :param user: Its id, username or e-mail address.
    :param reason: Why, for the book, where it stands sealed like all that is personal.
    """
    settings = settings_of(place)
    with opened(settings) as book:
        account = found(book, user)
        recorded = carry_out(book, settings, Deactivate(account.id, reason))
        head = f"{called(book, account)} is deactivated; sessions ended: {len(recorded) - 1}"
        print_user(book, account.id, as_json=place.json, head=head, position=recorded[-1].position)
    return Exit.DONE


@app.command(help_epilogue="Example: `gatebook users reactivate alice`")
def reactivate(user: Named, /, *, place: Place = HERE) -> int:
    """Let an account log in again.

    :param user: Its id, username or e-mail address.
    """
    settings = settings_of(place)
    with opened(settings) as book:
        account = found(book, user)
        [recorded] = carry_out(book, settings, Reactivate(account.id))
        head = f"{called(book, account)} can log in again"
        print_user(book, account.id, as_json=place.json, head=head, position=recorded.position)
    return Exit.DONE


@app.command(help_epilogue="Examples: `gatebook users sessions alice` · `gatebook users sessions 17 --json`")
def sessions(user: Named, /, *, place: Place = HERE) -> int:
    """List the open sessions of an account.

    :param user: Its id, username or e-mail address.
    """
    settings = settings_of(place)
    with opened(settings) as book:
        print_sessions(book, settings, found(book, user), as_json=place.json)
    return Exit.DONE


def _users(book: Book, level: Level | None) -> Iterator[dict[str, Any]]:
    after: str | None = ""
    indexed = None if level is None else ("level", level)
    while after is not None:
        page = inspection.documents(book, USERS, index=indexed, after=after, limit=PAGE)
        for one in page.documents:
            yield {name: one.document[name] for name in SHOWN} | {"level": LEVELS[one.document["level"]]}
        after = page.next
