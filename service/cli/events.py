"""`gatebook events`: what is in the book, entry by entry, and what is appended while one looks."""

from __future__ import annotations

import difflib
import signal
import sys
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
from cyclopts import App, Parameter

from events.catalogue import BY_WIRE_NAME
from events.errors import SealError
from events.log import Query
from events.recorded import Recorded
from service.cli.exits import Exit, UsageError
from service.cli.moments import parse_moment
from service.cli.place import HERE, Place, readable, settings_of
from service.cli.speech import cell, console_for, flowing, print_object
from service.inspection import decoded, event_object, prepare_keys
from service.shown import REDACTED

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    from service.cli.place import Readable
    from service.inspection import Object
    from service.settings import Settings

EXAMPLES: Final = """\
Examples: `gatebook events --type session.opened --since 2026-11-21` · `gatebook events --user 17 --json` ·
`gatebook events --follow --after 1200`

Times are ISO 8601, UTC where they name no offset; a date alone is its first moment. Personal fields are opened with
the keys beside the store, since whoever runs this command holds them; --sealed leaves them closed. Password hashes and
token digests are never shown. --follow ends with Ctrl-C or SIGTERM, and then with exit code 0."""

LARGEST: Final = 2**63 - 1
_ENVELOPE: Final = ("position", "stream", "version", "at", "actor", "door", "command_id", "type")
_COLOURS: Final = {"login": "yellow", "user": "green", "session": "cyan", "audit": "magenta"}


def _events(
    *,
    follow: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    after: Annotated[int, Parameter(metavar="N")] = 0,
    since: Annotated[str | None, Parameter(metavar="T")] = None,
    until: Annotated[str | None, Parameter(metavar="T")] = None,
    user: Annotated[int | None, Parameter(metavar="ID")] = None,
    type_: Annotated[str | None, Parameter(name="--type", metavar="NAME")] = None,
    stream: Annotated[str | None, Parameter(metavar="NAME")] = None,
    sealed: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    place: Place = HERE,
) -> int:
    """Show what is in the book, or follow it.

    :param follow: Go on with what is appended, by whatever process.
    :param after: Only what stands behind this position.
    :param since: Only what was recorded at this time or later.
    :param until: Only what was recorded up to this time, it included.
    :param user: Only what is about this user.
    :param type_: Only events of this type; docs/events.md lists them.
    :param stream: Only this stream, for example session-42.
    :param sealed: Leave personal fields sealed.
    """
    if type_ is not None and type_ not in BY_WIRE_NAME:
        near = difflib.get_close_matches(type_, BY_WIRE_NAME, n=1)
        raise UsageError(f"There is no event type of that name{f'; did you mean {near[0]}?' if near else '.'}")
    if follow and until is not None:
        raise UsageError("--follow goes on until it is stopped, and --until ends; leave one of them out.")
    settings = settings_of(place)
    query = Query(
        after=_within(0, after),
        since=None if since is None else parse_moment(since, "--since"),
        user=None if user is None else _within(0, user),
        type=type_,
        stream=stream,
        limit=settings.read_page,
    )
    last = None if until is None else parse_moment(until, "--until")
    with readable(settings) as book:
        shown = _Shown(book, sealed=sealed, as_json=place.json)
        if follow:
            _follow(book, query, shown, settings)
        else:
            end = book.log.head().position
            _history(
                book, msgspec.structs.replace(query, until=end if last is None else book.log.position_at(last)), shown
            )
    return Exit.DONE


events: Final = App(name="events", default_command=_events, help_epilogue=flowing(EXAMPLES))


def _within(least: int, number: int) -> int:
    """The nearest number that a position or an id can be; the store holds none that is larger."""
    return min(max(least, number), LARGEST)


class _Shown:
    """Prints recorded events, for people or for machines."""

    def __init__(self, book: Readable, *, sealed: bool, as_json: bool) -> None:
        self._keyring = None if sealed else book.keyring
        self._why = "left sealed, as asked for" if sealed else "the keys are not at hand"
        self._print = print_object if as_json else partial(_print_line, coloured=sys.stdout.isatty())

    def __call__(self, read: Iterable[Recorded | Object]) -> None:
        """Prints them, each on a line, and sends the lines on their way."""
        page = list(read)
        if self._keyring is not None:
            prepare_keys(self._keyring, (one.event for one in page if isinstance(one, Recorded)))
        for one in page:
            self._print(event_object(one, self._keyring or self._closed) if isinstance(one, Recorded) else one)
        sys.stdout.flush()

    def _closed(self, _subject: int) -> AESGCM:
        raise SealError(self._why)


def _history(book: Readable, query: Query, shown: _Shown) -> None:
    # Entry by entry, so that one which cannot be read is shown as such, and the next ones after it.
    while page := book.log.entries(query):
        shown(map(decoded, page))
        query = msgspec.structs.replace(query, after=page[-1].position)
        if len(page) < query.limit:
            return


def _follow(book: Readable, query: Query, shown: _Shown, settings: Settings) -> None:
    import trio

    from events.follow import Arrivals, Follower

    async def stop(following: trio.CancelScope, task_status: trio.TaskStatus[None]) -> None:
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            task_status.started()
            async for _ in signals:
                following.cancel()

    async def main() -> None:
        arrivals = Arrivals()
        follower = Follower(book.log, arrivals, query)
        async with trio.open_nursery() as nursery:
            await nursery.start(lambda task_status: stop(nursery.cancel_scope, task_status))
            nursery.start_soon(arrivals.watch, book.log, settings.poll_milliseconds / 1000)
            while True:
                shown(await follower.page())

    trio.run(main)


def _print_line(event: dict[str, Any], *, coloured: bool) -> None:
    """Position, time, type, stream and version, who through which door, and what the event says."""
    position, at, kind = cell(event["position"]), cell(event["at"]), cell(event["type"])
    where = f"{cell(event['stream'])}/{event['version']}"
    if event.get("undecodable"):
        said = "cannot be decoded"
    else:
        fields = {name: value for name, value in event.items() if name not in _ENVELOPE and value != REDACTED}
        told = " ".join(f"{name}={_quoted(cell(value))}" for name, value in fields.items() if cell(value))
        said = f"{cell(event['actor'])} via {cell(event['door'])}  {told}".rstrip()
    if not coloured:
        sys.stdout.write(f"{position:>6}  {at:<27}  {kind:<19}  {where:<14}  {said}\n")
        return
    from rich.text import Text

    line = Text.assemble(
        (f"{position:>6}  ", "bold"),
        (f"{at:<27}  ", "dim"),
        (f"{kind:<19}  ", _COLOURS.get(kind.partition(".")[0], "")),
        f"{where:<14}  {said}",
    )
    console_for(sys.stdout).print(line, soft_wrap=True)


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '\\"') + '"' if set(text) & {" ", "="} else text
