"""The tail over the admin endpoint: the book as server-sent events, for as long as somebody listens."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from types import TracebackType
from typing import Final, Self

import msgspec
from quart import Response
from quart.wrappers.response import ResponseBody
from werkzeug.datastructures import Headers

from service.audit import Audit
from service.errors import Malformed, NotFound, Overloaded
from service.tail_pages import TARGET, Page
from service.tails import Tail, Tails
from service.web.answers import HEADERS
from service.web.event_stream import CONTENT_TYPE, LAST_EVENT_ID, heartbeat, message, retry
from service.web.principals import Asked
from service.web.queries import Parameters, Whole

AFTER: Final = Whole("after", "Events beyond that position; without it, those that are yet to come.")
PARAMETERS: Final = (AFTER,)

RETRY_MILLISECONDS: Final = 3_000
RETRY_AFTER_SECONDS: Final = 10
# A proxy of the common kind keeps answers back to fill its buffers, unless it is told not to.
UNBUFFERED: Final = (("X-Accel-Buffering", "no"),)
CHUNK_BYTES: Final = 65_536
"""How much is written at a time, so that a client may be slow and still be in time for each write."""


class TailView:
    """The view."""

    def __init__(self, tails: Tails, audit: Audit) -> None:
        self._tails = tails
        self._audit = audit

    async def follow(self, asked: Asked) -> Response:
        """Follow the book.

        Server-sent events from beyond a position: history, then what is appended. The header `Last-Event-ID` wins over
        `after`.
        """
        after = _after(asked)
        self._refuse_when_full()
        await self._audit.looked(asked.principal, TARGET)
        head = await self._tails.head()
        if after is not None and after > head:
            raise NotFound("The book has no such position yet.")
        # Once more, since others may have come meanwhile.
        self._refuse_when_full()
        tail = Tail(self._tails, asked.principal, head if after is None else after)
        if asked.request.method == "HEAD":
            tail.end()
        headers = Headers([("Content-Type", CONTENT_TYPE), *HEADERS[1:], *UNBUFFERED])
        response = Response(EventStream(tail), 200, headers)
        # It takes as long as it takes; each write has its limit.
        response.timeout = None
        return response

    def _refuse_when_full(self) -> None:
        if self._tails.full:
            self._tails.metrics.tails_refused.inc()
            raise Overloaded("tails", RETRY_AFTER_SECONDS)


class EventStream(ResponseBody):
    """The body of the answer: a tail's pages as text, until the tail is over."""

    def __init__(self, tail: Tail) -> None:
        self._tail = tail
        self._ready = deque([retry(RETRY_MILLISECONDS)])

    async def __aenter__(self) -> Self:
        self._tail.begin()
        self._tail.writing.__enter__()
        return self

    async def __aexit__(  # type: ignore[override]  # Quart's says that it swallows nothing; this one ends the tail
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self._tail.finish()
        return self._tail.writing.__exit__(kind, error, trace)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if not self._ready:
            page = await self._tail.page()
            self._ready.extend(_chunks(page) if page is not None else [heartbeat(self._tail.position)])
        if self._tail.over.is_set():
            raise StopAsyncIteration
        return self._ready.popleft()


def _after(asked: Asked) -> int | None:
    """The position that the client names, None where it names none."""
    after = Parameters(asked.request.args, PARAMETERS).value(AFTER)
    seen = asked.request.headers.getlist(LAST_EVENT_ID)
    if not seen:
        return after
    position = AFTER.read(seen[0]) if len(seen) == 1 else None
    if position is None:
        raise Malformed(f"The header {LAST_EVENT_ID} is the id of the last event seen: {AFTER.rule}.")
    return position


def _chunks(page: Page) -> Iterator[bytes]:
    """The page as text, some of it at a time."""
    chunk = b""
    if page.skipped is not None:
        told = {"from": page.skipped.first, "to": page.skipped.last}
        chunk = message(msgspec.json.encode(told), page.skipped.last, "skipped")
    for one in page.shown:
        chunk += message(one.data, one.position, "undecodable" if one.undecodable else None)
        if len(chunk) >= CHUNK_BYTES:
            yield chunk
            chunk = b""
    if chunk:
        yield chunk
