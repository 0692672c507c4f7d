"""`gatebook sessions`: what is open, an account's or a guest's, and ending it, beside a running service too."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Final

from cyclopts import App, Parameter

from events.catalogue import SessionClosed
from projections.catalogue import SESSIONS, USERS
from service.batch import raised
from service.cli.accounts import called, carry_out, carry_out_all, found, user_object
from service.cli.exits import Exit, NothingThereError, UsageError
from service.cli.place import HERE, Place, opened, settings_of
from service.cli.speech import print_line, print_object, print_table
from service.decisions.administration import RevokeSession, RevokeSessionsOf
from service.decisions.sessions import is_over
from service.errors import NotFound
from service.inspection import prepare_keys, shown

if TYPE_CHECKING:
    from events.recorded import Recorded
    from projections.users import User
    from service.book import Book
    from service.settings import Settings

PAGE: Final = 1_000
SHOWN: Final = (
    "id", "user_id", "username", "guest", "opened_at", "seen_at", "expires_at", "door", "address", "agent",
)  # fmt: skip
NO_TOKENS: Final = (
    "A session is named by its id, the number before the bar in its token. The token itself is a secret and was not"
    " looked at: everybody on this machine can read a command line, and a shell remembers it. Take it as known to"
    " others, and end its session by that number alone."
)
_ID: Final = re.compile(r"[1-9][0-9]{0,17}")

app: Final = App(
    name="sessions",
    help="List and end sessions. A session is named by its id, which is the number before the bar in its token; the"
    " token itself never belongs on a command line. The service need not run; if it does, whoever holds a session that"
    " ends here has none from that moment on.",
    help_epilogue="Example: `gatebook sessions list --user alice`",
)


@app.command(
    name="list", help_epilogue="Examples: `gatebook sessions list` · `gatebook sessions list --user alice --json`"
)
def list_sessions(*, user: Annotated[str | None, Parameter(metavar="USER")] = None, place: Place = HERE) -> int:
    """List the open sessions, those of guests too, without those whose time is over.

    :param user: Only those of this account: its id, username or e-mail address.
    """
    settings = settings_of(place)
    with opened(settings) as book:
        print_sessions(book, settings, None if user is None else found(book, user), as_json=place.json)
    return Exit.DONE


@app.command(
    usage="Usage: gatebook sessions revoke [OPTIONS] ID...\n       gatebook sessions revoke [OPTIONS] --user USER",
    help_epilogue="Examples: `gatebook sessions revoke 42 57` · `gatebook sessions revoke --user alice`",
)
def revoke(
    *ids: Annotated[str, Parameter(name="ID")],
    user: Annotated[str | None, Parameter(metavar="USER")] = None,
    place: Place = HERE,
) -> int:
    """End sessions, by their ids or all of one account's, for the reason `revoked`.

    :param ids: The ids of sessions. Where one is not open, the others are ended all the same, and the exit code is 1.
    :param user: All sessions of this account: its id, username or e-mail address.
    """
    session_ids = _session_ids(ids)
    if bool(session_ids) == (user is not None):
        raise UsageError("Say which sessions: by their ids, or all of one account's with --user.")
    settings = settings_of(place)
    with opened(settings) as book:
        if user is not None:
            _revoke_all(book, settings, found(book, user), as_json=place.json)
        else:
            _revoke(book, settings, session_ids, as_json=place.json)
    return Exit.DONE


def print_sessions(book: Book, settings: Settings, user: User | None, *, as_json: bool) -> None:
    """The open sessions of the account, or of all accounts and guests, in the order of their keys."""
    rows = _open_sessions(book, timedelta(seconds=settings.session_idle_limit) or None, user)
    if as_json:
        for one in rows:
            print_object(one)
    else:
        print_table(SHOWN, (list(one.values()) for one in rows))


def _open_sessions(book: Book, idle_limit: timedelta | None, user: User | None) -> Iterator[dict[str, Any]]:
    now, after, models = datetime.now(UTC), "", book.read_models
    names: dict[int, object] = {}
    while True:
        if user is None:
            page = [(row.key, row.document) for row in models.scan(SESSIONS, after=after, limit=PAGE)]
        else:
            page = models.find(SESSIONS, "user", user.id, after=after, limit=PAGE)
        if not page:
            return
        after = page[-1][0]
        sessions = [book.decode(SESSIONS, document) for _, document in page]
        prepare_keys(book.keyring, sessions)
        for session in sessions:
            if is_over(session, now, idle_limit):
                continue
            if session.user_id not in names:
                names[session.user_id] = _username(book, session.user_id)
            said = shown(session, book.keyring) | {"username": names[session.user_id]}
            yield {name: said[name] for name in SHOWN}


def _username(book: Book, user_id: int) -> object:
    """The account's username, None where there is no account: a guest has none."""
    user = book.document(USERS, str(user_id))
    return None if user is None else user_object(book, user)["username"]


def _session_ids(typed: Sequence[str]) -> list[int]:
    """The ids, each once. UsageError for what is none; nothing of it is repeated, since it may be a secret."""
    if any("|" in text for text in typed):
        raise UsageError(NO_TOKENS)
    if not all(_ID.fullmatch(text) for text in typed):
        raise UsageError(
            "The id of a session is a whole number of at most 18 digits, the one before the bar in its token."
        )
    return list(dict.fromkeys(map(int, typed)))


def _revoke(book: Book, settings: Settings, session_ids: Sequence[int], *, as_json: bool) -> None:
    missing = []
    for start in range(0, len(session_ids), settings.batch_size):
        batch = session_ids[start : start + settings.batch_size]
        outcomes = carry_out_all(book, settings, [RevokeSession(session_id) for session_id in batch])
        for session_id, outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, NotFound):
                missing.append(session_id)
            else:
                _print_ended(book, raised(outcome), as_json=as_json)
    if missing:
        which = f"the id {missing[0]}" if len(missing) == 1 else f"these ids: {', '.join(map(str, missing))}"
        raise NothingThereError(f"There is no open session of {which}.")


def _revoke_all(book: Book, settings: Settings, user: User, *, as_json: bool) -> None:
    recorded = carry_out(book, settings, RevokeSessionsOf(user.id))
    _print_ended(book, recorded, as_json=as_json)
    if not recorded and not as_json:
        print_line(f"{called(book, user)} has no open session.")


def _print_ended(book: Book, recorded: Sequence[Recorded], *, as_json: bool) -> None:
    for one in recorded:
        assert isinstance(one.event, SessionClosed)  # noqa: S101 - nothing else comes of revoking
        session_id, user_id = int(one.stream.removeprefix("session-")), one.event.user_id
        guest = user_id == session_id
        if as_json:
            print_object({"id": session_id, "user_id": user_id, "guest": guest, "position": one.position})
        else:
            whose = "a guest" if guest else called(book, book.document(USERS, str(user_id)))
            print_line(f"Session {session_id} of {whose} is ended (position {one.position}).")
