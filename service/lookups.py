"""Lookups: what the gate reads before the writer, point by point, from a book of the event loop's own.

A lookup that fails is never taken for "there is none": the service says then that it does not know.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TypeVar

import msgspec
from msgspec import Struct

from events.catalogue import Level, Personal
from events.errors import SealError, StoreError
from events.keys import Keyring
from events.sealing import open_value
from projections.catalogue import SESSIONS, THROTTLES, USERS
from projections.names import Name, NameKind
from projections.sessions import Session
from projections.throttles import Throttle
from projections.users import User
from service.batch import Clock, utc_now
from service.book import Book
from service.decisions.registration import Taking
from service.decisions.sessions import is_over
from service.errors import InternalError, Unauthenticated, Unavailable
from service.identifiers import Prepared
from service.tokens import matches, parse_token

T = TypeVar("T")


class Principal(Struct, frozen=True):
    """Who a request acts for: the account and the session, as they were committed last."""

    user: User
    session: Session

    @property
    def actor(self) -> str:
        """The principal's name in the book."""
        return f"user-{self.user.id}"


class UserView(Struct, frozen=True):
    """An account as its owner may see it, opened."""

    id: int
    username: str
    nickname: str
    email: str | None
    level: Level
    active: bool
    created_at: datetime
    last_contact: datetime


class Lookups:
    """See the module. Every method may raise Unavailable (the store cannot say) and InternalError (a broken seal)."""

    def __init__(self, book: Book, clock: Clock = utc_now, idle_limit: timedelta | None = None) -> None:
        self._book = book
        self._idle_limit = idle_limit
        self._names = next(projection for projection in book.projections if projection.name == "names")
        self._clock = clock

    def principal(self, token: str) -> Principal:
        """The principal of a session token: two point lookups. Unauthenticated when no live session has it."""
        presented = parse_token(token)
        if presented is None:
            raise Unauthenticated
        session = self._session(presented.session_id)
        if session is None or not matches(presented, session.token_digest):
            raise Unauthenticated
        return self._live(session)

    def renewed(self, principal: Principal) -> Principal:
        """The principal as it is now, for connections that hold one. Unauthenticated when the session is over."""
        session = self._session(principal.session.id)
        if session is None:
            raise Unauthenticated
        return self._live(session)

    def view(self, user: User) -> UserView:
        """The account, opened for its owner."""
        return UserView(
            id=user.id,
            username=self.opened(user.username),
            nickname=self.opened(user.nickname),
            email=None if user.email is None else self.opened(user.email),
            level=user.level,
            active=user.active,
            created_at=user.created_at,
            last_contact=user.last_contact,
        )

    def account(self, tag: str | None) -> User | None:
        """The account that has the name of that tag."""
        name = None if tag is None else self.name(tag)
        return None if name is None else self.user(name.user_id)

    def user(self, user_id: int) -> User | None:
        """The account of that id."""
        found: User | None = self._looked_up(lambda: self._book.document(USERS, str(user_id)))
        return found

    def name(self, tag: str) -> Name | None:
        """Who has the name of that tag."""
        found: Name | None = self._looked_up(lambda: self._book.document(self._names, tag))
        return found

    def throttle(self, key: str) -> Throttle | None:
        """The failures counted under that key."""
        found: Throttle | None = self._looked_up(lambda: self._book.document(THROTTLES, key))
        return found

    def opened(self, value: Personal) -> str:
        """A personal value in plain text."""
        return self._looked_up(lambda: open_value(value, self._book.keyring))

    def taking(self, kind: NameKind, prepared: Prepared) -> Taking:
        """A prepared name with its tag."""
        return Taking(prepared.typed, prepared.compared, self.tag(kind, prepared.compared))

    def tag(self, kind: NameKind, compared: str) -> str:
        """The tag of a name in its comparison form."""
        return self._book.tag(kind, compared)

    @property
    def keyring(self) -> Keyring:
        """The keys at the event loop's hand."""
        return self._book.keyring

    def _live(self, session: Session) -> Principal:
        if is_over(session, self._clock(), self._idle_limit):
            raise Unauthenticated
        user = self.user(session.user_id)
        if user is None or not user.active:
            raise Unauthenticated
        return Principal(user, session)

    def _session(self, session_id: int) -> Session | None:
        found: Session | None = self._looked_up(lambda: self._book.document(SESSIONS, str(session_id)))
        return found

    def _looked_up(self, look: Callable[[], T]) -> T:
        try:
            return look()
        except StoreError as error:
            raise Unavailable(str(error)) from error
        except msgspec.MsgspecError as error:
            # A document of another shape than ours: a newer gatebook has rebuilt the read model beside us.
            raise Unavailable("a read model holds documents that this gatebook does not know") from error
        except SealError as error:
            raise InternalError from error
