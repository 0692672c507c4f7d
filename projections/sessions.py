"""The projection `sessions`: the sessions that are open, guests' too. Ended ones leave it; the book keeps them."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

from msgspec import Struct
from msgspec.structs import replace

from events.catalogue import GuestCreated, Personal, SessionClosed, SessionOpened, SessionSeen, is_position
from events.recorded import Recorded, to_microseconds
from projections.projection import Index


class Session(Struct, frozen=True, gc=False, omit_defaults=True):
    """An open session. `token_digest` is the SHA-256 of its token's secret; the token itself is stored nowhere.

    A guest is all in their session: `user_id` is then the session's own id, `origin` the tag of their address.
    """

    id: int
    user_id: int
    token_digest: str
    opened_at: datetime
    seen_at: datetime
    expires_at: datetime
    door: str
    address: Personal | None = None
    agent: Personal | None = None
    guest: bool = False
    origin: str | None = None


class Sessions:
    """See the module."""

    name = "sessions"
    revision = 2
    document = Session
    indexes: tuple[Index[Session], ...] = (
        Index("user", lambda session: session.user_id),
        Index("expiry", lambda session: to_microseconds(session.expires_at)),
        Index("seen", lambda session: to_microseconds(session.seen_at)),
        Index("origin", lambda session: session.origin),
    )
    opened = False
    keyed_by_position = True
    handles: ClassVar[frozenset[type[Struct]]] = frozenset({SessionOpened, GuestCreated, SessionSeen, SessionClosed})

    def keys(self, recorded: Recorded) -> tuple[str, ...]:
        """The session in whose stream the event stands."""
        kind, _, number = recorded.stream.partition("-")
        return (number,) if kind == "session" and is_position(number) else ()

    def evolve(self, key: str, doc: Session | None, recorded: Recorded) -> Session | None:
        """The session after the event."""
        event = recorded.event
        match event:
            case SessionOpened():
                return Session(
                    int(key),
                    event.user_id,
                    event.token_digest,
                    recorded.at,
                    recorded.at,
                    event.expires_at,
                    recorded.door,
                    event.address,
                    event.agent,
                )
            case GuestCreated():
                return Session(
                    int(key),
                    int(key),
                    event.token_digest,
                    recorded.at,
                    recorded.at,
                    event.expires_at,
                    recorded.door,
                    guest=True,
                    origin=event.origin,
                )
            case SessionSeen() if doc is not None:
                return replace(doc, seen_at=recorded.at)
            case SessionClosed():
                return None
            case _:
                return doc
