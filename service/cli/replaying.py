"""`gatebook replay`: the state as it was after a position or at a moment, folded from the book alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

from cyclopts import App, Parameter

from events.errors import SealError
from events.log import Query
from events.recorded import Recorded
from events.sealing import open_event
from projections.replay import Opener, replay
from service.cli.documents import document_object, print_documents, projection_named
from service.cli.exits import Exit, NothingThereError
from service.cli.moments import position_of
from service.cli.place import HERE, Place, readable, settings_of
from service.cli.speech import flowing, print_line, print_object, print_table, progress_bar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from events.keys import Keyring
    from projections.projection import AnyProjection
    from projections.replay import Replay
    from service.cli.place import Readable

EXAMPLES: Final = """\
Examples: `gatebook replay --at 1200` · `gatebook replay --at 2026-11-21T12:00:00Z --projection users --json`

Without --projection it tells of each one how many documents there were, and their digest; with it, the documents. A
time is ISO 8601, UTC where it names no offset; it stands for the last entry recorded up to then. Nothing is read but
the book: no read model."""


def _replay(
    *,
    at: Annotated[str | None, Parameter(metavar="POSITION|TIME")] = None,
    projection: Annotated[str | None, Parameter(metavar="NAME")] = None,
    place: Place = HERE,
) -> int:
    """Show the state as it was at a position or moment.

    :param at: The position after which, or the time at which; the end of the book when nothing is said.
    :param projection: Show the documents of this projection.
    """
    with readable(settings_of(place)) as book:
        chosen: Sequence[AnyProjection] = book.projections
        if projection is not None:
            chosen = (projection_named(book.projections, projection),)
        until = book.log.head().position if at is None else position_of(at, "--at", book.log)
        folded = fold(book, chosen, until)
        if projection is None:
            _print_summary(book, folded, until, as_json=place.json)
        else:
            documents = folded.documents[projection].items()
            print_documents(
                (document_object(projection, key, doc, book.keyring) for key, doc in documents), as_json=place.json
            )
    return Exit.DONE


replay_book: Final = App(name="replay", default_command=_replay, help_epilogue=flowing(EXAMPLES))


def fold(book: Readable, projections: Sequence[AnyProjection], until: int) -> Replay:
    """The projections as they were after that position, with a bar while it lasts.

    NothingThereError when only a projection was asked for that folds with keys, and there are none at hand.
    """
    if book.keyring is None and all(projection.opened for projection in projections):
        raise NothingThereError(f"The projection {projections[0].name} folds with keys, and there are none at hand.")
    opener = None if book.keyring is None else lenient(book.keyring)
    with progress_bar("replay") as progress:
        return replay(book.log, projections, until=until, opener=opener, progress=lambda at: progress(at, until))


def lenient(keyring: Keyring) -> Opener:
    """Opens a recorded event where its key is there; otherwise what is in it is nobody's, as when it was recorded."""

    def opener(recorded: Recorded) -> Recorded:
        try:
            return open_event(recorded, keyring)
        except SealError:
            return recorded

    return opener


def _print_summary(book: Readable, folded: Replay, until: int, *, as_json: bool) -> None:
    last = book.log.read(Query(after=until - 1, until=until)) if until else []
    at = last[0].at if last else None
    told = [
        {
            "projection": projection.name,
            "revision": projection.revision,
            "position": until,
            "at": at,
            "documents": len(folded.documents[projection.name]),
            "digest": folded.digest(projection.name),
        }
        for projection in folded.projections
    ]
    if as_json:
        for one in told:
            print_object(one)
        return
    print_line(f"After position {until}{f', recorded at {at:%Y-%m-%dT%H:%M:%S.%fZ}' if at else ''}:")
    print_table(
        ("projection", "documents", "digest"), ((one["projection"], one["documents"], one["digest"]) for one in told)
    )
