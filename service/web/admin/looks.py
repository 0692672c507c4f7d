"""The looks of the admin endpoint: the projections and the events, each look written down before anything is shown."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import msgspec
from msgspec import UNSET, UnsetType
from quart import Response

from events.catalogue import BY_WIRE_NAME, is_position
from events.log import Query
from projections.projection import AnyProjection, IndexValue
from service import inspection
from service.audit import Audit
from service.book import Book
from service.errors import Malformed, NotFound
from service.inspection import DocumentThen
from service.past import Past
from service.readers import Readers
from service.web.answers import answer, answer_encoded
from service.web.principals import Asked
from service.web.queries import Choice, Moment, Parameter, Parameters, PositionOrMoment, Text, Whole

LARGEST_PAGE: Final = 1_000

# Each of the three forms that keys have: a look's key is written down, and a name or a token in its place must not be.
_KEY: Final = "[1-9][0-9]{0,17}|[a-z]{1,20}:[0-9a-f]{64}|[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}"
KEY: Final = Text("key", "The key under which the document stands.", _KEY, "the key of a document")
POSITION: Final = Whole("position", "Where the event stands in the book.", least=1)

LIMIT: Final = Whole("limit", "How many at most.", least=1, most=LARGEST_PAGE)
INDEX: Final = Text(
    "index",
    "One of the `indexes` of the projection, to find documents by; goes with `value`.",
    "[a-z_]{1,100}",
    "the name of an index",
)
VALUE: Final = Whole("value", "What the index of each document must be.")
AFTER_KEY: Final = Text("after", "The `next` of the page before.", _KEY, "the key that the page before ended with")
AT: Final[Parameter[int | datetime]] = PositionOrMoment(
    "at", "Shows the document as it was, after a position or at a time."
)
DOCUMENTS: Final = (INDEX, VALUE, AFTER_KEY, LIMIT)
DOCUMENT: Final = (AT,)

_STREAM: Final = "service|(?:user|session)-[1-9][0-9]{0,17}"
STREAM: Final = Text("stream", "Events of that stream.", _STREAM, "service, user-N or session-N")
USER: Final = Whole("user", "Events about that user.", least=1)
TYPE: Final = Choice("type", "Events of that type.", tuple(sorted(BY_WIRE_NAME)))
SINCE: Final = Moment("since", "Events recorded at that time or later.")
UNTIL: Final = Moment("until", "Events recorded before that time.")
AFTER: Final = Whole("after", "Events beyond that position.")
BEFORE: Final = Whole("before", "Events short of that position.", least=1)
ORDER: Final = Choice("order", "Oldest first, or newest first.", ("asc", "desc"))
EVENTS: Final = (STREAM, USER, TYPE, SINCE, UNTIL, AFTER, BEFORE, ORDER, LIMIT)


class Looks:
    """The views. Each checks what is asked, has the look written down, then looks.

    `projections` are those of the service's own book: their names, keys and indexes. `page` is how many items a page
    has when no number is asked for.
    """

    def __init__(
        self, readers: Readers, audit: Audit, past: Past, projections: tuple[AnyProjection, ...], page: int
    ) -> None:
        self._readers = readers
        self._audit = audit
        self._past = past
        self._projections = projections
        self._page = page

    async def projections(self, asked: Asked) -> Response:
        """List the read models, and where they stand."""
        Parameters(asked.request.args, ())
        await self._audit.looked(asked.principal, "projections")
        return await self._answer(inspection.projections)

    async def documents(self, asked: Asked) -> Response:
        """List a projection's documents, page by page.

        In order of their keys; all of them, or those that an index finds.
        """
        projection = self._projection(asked)
        given = Parameters(asked.request.args, DOCUMENTS)
        index = _index(projection, given)
        after = given.value(AFTER_KEY)
        if after is not None and not _is_key(projection, after):
            raise Malformed(f"The parameter after is {AFTER_KEY.rule}.")
        limit = self._limit(given)
        narrowed = "" if index is None else f"?index={index[0]}&value={index[1]}"
        await self._audit.looked(asked.principal, f"projections/{projection.name}{narrowed}")
        return await self._answer(
            lambda book: inspection.documents(book, projection, index=index, after=after or "", limit=limit)
        )

    async def document(self, asked: Asked) -> Response:
        """Show a document, as it is or as it was.

        404 where there is none under that key, or was none then.
        """
        projection = self._projection(asked)
        key, sought = asked.part("key"), Parameters(asked.request.args, DOCUMENT).value(AT)
        if not _is_key(projection, key):
            raise NotFound
        await self._audit.looked(asked.principal, f"projections/{projection.name}/{key}")
        look = self._readers.look
        position: int | UnsetType = UNSET
        if sought is None:
            found = await look(lambda book: inspection.document(book, projection, key))
        else:
            position = await look(lambda book: _position(book, sought))
            was = await self._past.document(projection, key, position)
            found = None if was is None else await look(lambda book: inspection.shown(was, book.keyring))
        if found is None:
            raise NotFound
        return answer(DocumentThen(projection=projection.name, key=key, position=position, document=found))

    async def events(self, asked: Asked) -> Response:
        """List events, page by page, forwards or backwards."""
        given = Parameters(asked.request.args, EVENTS)
        stream, kind, user = given.value(STREAM), given.value(TYPE), given.value(USER)
        before = given.value(BEFORE)
        query = Query(
            after=given.value(AFTER) or 0,
            until=None if before is None else before - 1,
            stream=stream,
            user=user,
            type=kind,
            since=given.value(SINCE),
            before=given.value(UNTIL),
            backwards=given.value(ORDER) == "desc",
            limit=self._limit(given),
        )
        # Times and positions narrow a look and do not make it another.
        narrowed = [f"{name}={value}" for name, value in (("stream", stream), ("user", user), ("type", kind)) if value]
        await self._audit.looked(asked.principal, "?".join(["events", *filter(None, ["&".join(narrowed)])]))
        return await self._answer(lambda book: inspection.events(book, query))

    async def event(self, asked: Asked) -> Response:
        """Show an event."""
        Parameters(asked.request.args, ())
        position = POSITION.read(asked.part("position"))
        if position is None:
            raise NotFound
        await self._audit.looked(asked.principal, f"events/{position}")
        found = await self._readers.look(lambda book: inspection.event(book, position))
        if found is None:
            raise NotFound
        return answer(found)

    async def _answer(self, ask: Any) -> Response:  # noqa: ANN401 - any of the looks
        # Encoded in the reader's thread too: a page of a thousand events is not the event loop's business.
        return answer_encoded(await self._readers.look(lambda book: msgspec.json.encode(ask(book))))

    def _projection(self, asked: Asked) -> AnyProjection:
        name = asked.part("name")
        found = next((projection for projection in self._projections if projection.name == name), None)
        if found is None:
            raise NotFound("There is no projection of that name.")
        return found

    def _limit(self, given: Parameters) -> int:
        return given.value(LIMIT) or self._page


def _index(projection: AnyProjection, given: Parameters) -> tuple[str, IndexValue] | None:
    name, value = given.value(INDEX), given.value(VALUE)
    if name is None and value is None:
        return None
    names = [index.name for index in projection.indexes]
    if name is None or name not in names or value is None:
        takes = f"index, one of {', '.join(names)}, with a value" if names else "no index"
        raise Malformed(f"The projection {projection.name} takes {takes}.")
    return name, value


def _is_key(projection: AnyProjection, key: str) -> bool:
    """Whether anything could stand under the key: what is typed goes into the audit, so it is nothing but a key."""
    return is_position(key) if projection.keyed_by_position else KEY.read(key) is not None


def _position(book: Book, sought: int | datetime) -> int:
    """The position, or the last one recorded at or before the moment."""
    if isinstance(sought, datetime):
        return book.log.position_at(sought)
    if sought > book.log.head().position:
        raise NotFound("The book has no such position yet.")
    return sought
