"""The looks of the admin endpoint: the projections and the events, each look written down before anything is shown."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any, Final

import msgspec
from quart import Response

from events.catalogue import BY_WIRE_NAME
from events.log import Query
from projections.projection import AnyProjection, IndexValue
from service import inspection
from service.audit import Audit
from service.book import Book
from service.errors import Malformed, NotFound
from service.past import Past
from service.readers import Readers
from service.web.answers import answer, answer_encoded
from service.web.principals import Asked
from service.web.queries import Parameters, moment, whole

LARGEST_PAGE: Final = 1_000
_STREAM: Final = re.compile(r"service|(?:user|session)-[1-9][0-9]{0,17}")
_NUMBER: Final = re.compile(r"[1-9][0-9]{0,17}")
_TEXT_KEY: Final = re.compile(r"[A-Za-z0-9:-]{1,100}")
_EVENT_PARAMETERS: Final = ("stream", "user", "type", "since", "until", "after", "before", "order", "limit")


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
        """Where every read model stands."""
        Parameters(asked.request.args, ())
        await self._audit.looked(asked.principal, "projections")
        return await self._answer(inspection.projections)

    async def documents(self, asked: Asked) -> Response:
        """A page of one projection's documents."""
        projection = self._projection(asked)
        given = Parameters(asked.request.args, ("index", "value", "after", "limit"))
        index = _index(projection, given)
        after = given.text("after") or ""
        if after and not _is_key(projection, after):
            raise Malformed("The parameter after is the key that the page before ended with.")
        limit = self._limit(given)
        narrowed = "" if index is None else f"?index={index[0]}&value={index[1]}"
        await self._audit.looked(asked.principal, f"projections/{projection.name}{narrowed}")
        return await self._answer(
            lambda book: inspection.documents(book, projection, index=index, after=after, limit=limit)
        )

    async def document(self, asked: Asked) -> Response:
        """One document, as it is or as it was."""
        projection = self._projection(asked)
        key, at = asked.part("key"), Parameters(asked.request.args, ("at",)).text("at")
        if not _is_key(projection, key):
            raise NotFound
        sought = None if at is None else whole(at) if at.isdigit() else moment("at", at)
        if at is not None and sought is None:
            raise Malformed("The parameter at is a position or a time in ISO 8601.")
        await self._audit.looked(asked.principal, f"projections/{projection.name}/{key}")
        shown: dict[str, Any] = {"projection": projection.name, "key": key}
        look = self._readers.look
        if sought is None:
            shown["document"] = await look(lambda book: inspection.document(book, projection, key))
        else:
            shown["position"] = position = await look(lambda book: _position(book, sought))
            was = await self._past.document(projection, key, position)
            shown["document"] = None if was is None else await look(lambda book: inspection.shown(was, book.keyring))
        if shown["document"] is None:
            raise NotFound
        return answer(shown)

    async def events(self, asked: Asked) -> Response:
        """A page of events, forwards or backwards."""
        given = Parameters(asked.request.args, _EVENT_PARAMETERS)
        stream, kind, user = given.text("stream"), given.text("type"), given.whole("user", least=1)
        if stream is not None and _STREAM.fullmatch(stream) is None:
            raise Malformed("The parameter stream is service, user-N or session-N.")
        if kind is not None and kind not in BY_WIRE_NAME:
            raise Malformed(f"The parameter type is one of {', '.join(sorted(BY_WIRE_NAME))}.")
        before = given.whole("before", least=1)
        query = Query(
            after=given.whole("after") or 0,
            until=None if before is None else before - 1,
            stream=stream,
            user=user,
            type=kind,
            since=given.moment("since"),
            before=given.moment("until"),
            backwards=given.choice("order", ("asc", "desc")) == "desc",
            limit=self._limit(given),
        )
        # Times and positions narrow a look and do not make it another.
        narrowed = [f"{name}={value}" for name, value in (("stream", stream), ("user", user), ("type", kind)) if value]
        await self._audit.looked(asked.principal, "?".join(["events", *filter(None, ["&".join(narrowed)])]))
        return await self._answer(lambda book: inspection.events(book, query))

    async def event(self, asked: Asked) -> Response:
        """One event."""
        Parameters(asked.request.args, ())
        position = whole(asked.part("position"))
        if not position:
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
        return given.whole("limit", 1, LARGEST_PAGE) or self._page


def _index(projection: AnyProjection, given: Parameters) -> tuple[str, IndexValue] | None:
    name, value = given.text("index"), given.text("value")
    if name is None and value is None:
        return None
    names = [index.name for index in projection.indexes]
    if name not in names or value is None:
        takes = f"index, one of {', '.join(names)}, with a value" if names else "no index"
        raise Malformed(f"The projection {projection.name} takes {takes}.")
    number = whole(value)
    if number is None:
        raise Malformed("The parameter value is a whole number.")
    return name, number


def _is_key(projection: AnyProjection, key: str) -> bool:
    """Whether anything could stand under the key: what is typed goes into the audit, so it is nothing but a key."""
    return (_NUMBER if projection.keyed_by_position else _TEXT_KEY).fullmatch(key) is not None


def _position(book: Book, sought: int | datetime) -> int:
    """The position, or the last one recorded at or before the moment."""
    if isinstance(sought, datetime):
        return book.log.position_at(sought)
    if sought > book.log.head().position:
        raise NotFound("The book has no such position yet.")
    return sought
