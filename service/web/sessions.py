"""One's own sessions in the account API: all that are open; the end of one of them, and of all but the present one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

import msgspec
import structlog
from quart import Response

from events.catalogue import Personal
from events.errors import SealError
from events.sealing import open_value
from projections.catalogue import SESSIONS
from projections.sessions import Session
from service.book import Book
from service.decisions.sessions import NO_SESSION_OF_YOURS
from service.errors import NotFound
from service.gate.gate import Gate
from service.readers import Readers
from service.web.answers import answer, answer_encoded, nothing
from service.web.messages import Ended, MySession, MySessions
from service.web.operations import Operation
from service.web.principals import Asked, Route, View
from service.web.queries import Parameters, Whole

log = structlog.get_logger("gatebook.web")

PAGE: Final = 1_000
SESSION: Final = Whole("session_id", "The number before the bar in the session's token.", least=1)
ALL: Final = Operation(answers={200: MySessions}, no_query=True)
END: Final = Operation(answers={204: None}, parts=(SESSION,), no_query=True, answer_headers=("Set-Cookie",))
END_OTHERS: Final = Operation(answers={200: Ended}, no_query=True)


def session_routes(gate: Gate, readers: Readers, log_out: View, door: str) -> list[Route]:
    """The addresses of one's own sessions. `log_out` is what ends the present one."""
    mine = _Mine(gate, readers, log_out)
    return [
        Route("GET", "/api/sessions", mine.all, door, operation=ALL),
        Route("DELETE", "/api/sessions", mine.end_others, door, operation=END_OTHERS),
        Route("DELETE", "/api/sessions/<session_id>", mine.end, door, operation=END),
    ]


class _Mine:
    """The views."""

    def __init__(self, gate: Gate, readers: Readers, log_out: View) -> None:
        self._gate = gate
        self._readers = readers
        self._log_out = log_out

    async def all(self, asked: Asked) -> Response:
        """List my open sessions, the newest first.

        `current` marks the one that asks. What is over by the clock is not listed, whether it was ended yet or not.
        """
        Parameters(asked.request.args, ())
        present = asked.principal.session
        look = partial(_listed, user_id=present.user_id, present=present.id, is_live=self._gate.is_live)
        # In a reader's thread: a thousand sessions, which the settings allow, would hold up the event loop for 5 ms.
        return answer_encoded(await self._readers.look(look))

    async def end(self, asked: Asked) -> Response:
        """End one of my sessions.

        The present one is logged out by it. One that is over, never was or is somebody else's is not found, and nothing
        tells these apart.
        """
        Parameters(asked.request.args, ())
        session_id = SESSION.read(asked.part(SESSION.name))
        if session_id is None:
            raise NotFound(NO_SESSION_OF_YOURS)
        if session_id == asked.principal.session.id:
            return await self._log_out(asked)
        await self._gate.end_session(asked.client, asked.principal, session_id)
        return nothing()

    async def end_others(self, asked: Asked) -> Response:
        """End all my sessions but the one that asks.

        The answer says how many these were.
        """
        Parameters(asked.request.args, ())
        return answer(Ended(await self._gate.end_other_sessions(asked.client, asked.principal)))


def _listed(book: Book, *, user_id: int, present: int, is_live: Callable[[Session], bool]) -> bytes:
    sessions = sorted(filter(is_live, _open_sessions(book, user_id)), key=lambda one: one.id, reverse=True)
    return msgspec.json.encode(MySessions(tuple(_shown(book, one, present) for one in sessions)))


def _open_sessions(book: Book, user_id: int) -> Iterator[Session]:
    """So many as the setting `sessions_per_user` lets there be."""
    after = ""
    while page := book.read_models.find(SESSIONS, "user", user_id, after=after, limit=PAGE):
        yield from (book.decode(SESSIONS, document) for _, document in page)
        after = page[-1][0]


def _shown(book: Book, session: Session, present: int) -> MySession:
    return MySession(
        id=session.id,
        opened_at=session.opened_at,
        seen_at=session.seen_at,
        expires_at=session.expires_at,
        door=session.door,
        address=_opened(book, session, session.address),
        agent=_opened(book, session, session.agent),
        current=session.id == present,
    )


def _opened(book: Book, session: Session, value: Personal | None) -> str | None:
    if value is None:
        return None
    try:
        return open_value(value, book.keyring)
    except SealError as error:
        # Whoever cannot be told where a session came from must still be able to see and end it.
        log.error("seal_broken", session=session.id, error=str(error))  # noqa: TRY400 - the sentence names the place, a trace adds nothing
        return None
