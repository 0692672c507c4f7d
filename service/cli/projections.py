"""`gatebook projections`: where the read models stand, what is in them, and rebuilding them from the book."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Final

from cyclopts import App, Parameter

from events.sealing import open_event
from projections.history import history_of
from projections.rebuild import rebuild
from service import inspection
from service.book import fresh_table
from service.cli.documents import document_object, print_documents, projection_named
from service.cli.exits import Exit, NothingThereError, UsageError
from service.cli.moments import position_of
from service.cli.place import HERE, Place, opened, settings_of
from service.cli.speech import print_line, print_object, print_table, progress_bar

if TYPE_CHECKING:
    from projections.projection import AnyProjection, IndexValue
    from service.book import Book

PAGE: Final = 1_000

app: Final = App(
    name="projections",
    help="List, show and rebuild the read models.",
    help_epilogue="Examples: `gatebook projections list` · `gatebook projections show users 17 --at 1200` ·"
    " `gatebook projections rebuild --all`",
)


@app.command(name="list")
def list_projections(*, place: Place = HERE) -> int:
    """List the read models: revision, position, lag, documents, digest, indexes."""
    with opened(settings_of(place)) as book:
        found = inspection.projections(book)
    if place.json:
        for one in found.projections:
            print_object(one)
    else:
        columns = ("name", "revision", "position", "lag", "documents", "indexes", "digest")
        print_table(columns, ([getattr(one, column) for column in columns] for one in found.projections))
    return Exit.DONE


@app.command(
    help_epilogue="Examples: `gatebook projections show users` · `gatebook projections show users 17 --at 2026-11-21` ·"
    " `gatebook projections show sessions --index user --value 17`"
)
def show(
    name: str,
    key: str | None = None,
    /,
    *,
    index: Annotated[str | None, Parameter(metavar="NAME")] = None,
    value: Annotated[str | None, Parameter(metavar="V")] = None,
    at: Annotated[str | None, Parameter(metavar="POSITION|TIME")] = None,
    place: Place = HERE,
) -> int:
    """Show the documents of a read model: one by its key, some by an index, or all.

    :param name: Which projection.
    :param key: The key of one document: a user's id, a session's id, an hour.
    :param index: Only documents that this index finds.
    :param value: The value that the index must have.
    :param at: The document as it was after a position or at a time (UTC where it names no offset).
    """
    if (index is None) != (value is None) or (index is not None and key is not None):
        raise UsageError("--index and --value go together, and without a key.")
    if at is not None and key is None:
        raise UsageError("--at shows one document; for all of them, run gatebook replay --at … --projection NAME.")
    with opened(settings_of(place)) as book:
        projection = projection_named(book.projections, name)
        if key is not None:
            doc = _document(book, projection, key, at)
            if doc is None:
                raise NothingThereError(f"The projection {name} has no document under that key{' then' if at else ''}.")
            print_documents([document_object(name, key, doc, book.keyring)], as_json=place.json)
        else:
            print_documents(_documents(book, projection, _indexed(projection, index, value)), as_json=place.json)
    return Exit.DONE


@app.command(
    name="rebuild",
    help_epilogue="Examples: `gatebook projections rebuild users` · `gatebook projections rebuild --all`",
)
def rebuild_projections(
    name: str | None = None,
    /,
    *,
    every: Annotated[bool, Parameter(name="--all", negative="", show_default=False)] = False,
    place: Place = HERE,
) -> int:
    """Rebuild a read model from the book, beside the live one, compare the two, and put it in its place.

    It works while the service runs.

    :param name: Which projection.
    :param every: All of them.
    """
    if every == (name is not None):
        raise UsageError("Name one projection, or give --all.")
    with opened(settings_of(place)) as book:
        for projection in book.projections if name is None else (projection_named(book.projections, name),):
            with progress_bar(f"rebuild {projection.name}") as progress:
                done = rebuild(book.log, fresh_table(book, projection), keyring=book.keyring, progress=progress)
            if place.json:
                print_object(
                    {**{field: getattr(done, field) for field in done.__struct_fields__}, "changed": done.changed}
                )
            else:
                verdict = "it was not what the book says, and now is" if done.changed else "it was right"
                print_line(f"{done.projection}: {done.documents} documents at position {done.position}; {verdict}")
    return Exit.DONE


def _document(book: Book, projection: AnyProjection, key: str, at: str | None) -> Any:  # noqa: ANN401 - the document of any projection
    if at is None:
        return book.document(projection, key)
    opener = partial(open_event, key_of=book.keyring)
    return history_of(book.log, projection, key, until=position_of(at, "--at", book.log), opener=opener)


def _documents(
    book: Book, projection: AnyProjection, indexed: tuple[str, IndexValue] | None
) -> Iterator[dict[str, Any]]:
    after: str | None = ""
    while after is not None:
        page = inspection.documents(book, projection, index=indexed, after=after, limit=PAGE)
        for one in page.documents:
            yield {"projection": projection.name, "key": one.key, "document": one.document}
        after = page.next


def _indexed(projection: AnyProjection, index: str | None, value: str | None) -> tuple[str, IndexValue] | None:
    if index is None or value is None:
        return None
    names = [one.name for one in projection.indexes]
    if index not in names:
        raise NothingThereError(f"{projection.name} has {'the indexes ' + ', '.join(names) if names else 'no index'}.")
    return index, int(value) if value.isascii() and value.isdigit() and len(value) < 19 else value  # noqa: PLR2004 - 2**63 has 19 digits
