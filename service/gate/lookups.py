"""Lookups: what the gate reads before the writer, point by point, from a book of the event loop's own.

A lookup that fails is never taken for "there is none": the service says then that it does not know.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from datetime import datetime, timedelta
from typing import Final, NamedTuple, TypeVar

import msgspec
import structlog
from msgspec import Struct

from events.catalogue import Level, Moment, Personal
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
from service.credentials.identifiers import Prepared
from service.credentials.tokens import matches, parse_token
from service.decisions.registration import Taking
from service.decisions.sessions import is_over, over_at
from service.errors import InternalError, Unauthenticated, Unavailable
from service.fields import Id

T = TypeVar("T")

log = structlog.get_logger("gatebook.gate")

MOST_REMEMBERED: Final = 10_000


class Principal(Struct, frozen=True):
    """Who a request acts for: the account and the session, as they were committed last."""

    user: User
    session: Session

    @property
    def actor(self) -> str:
        """The principal's name in the book."""
        return f"user-{self.user.id}"


class Guest(Struct, frozen=True):
    """Who a request acts for when it is somebody without an account: nothing but a session."""

    session: Session

    @property
    def actor(self) -> str:
        """The guest's name in the book."""
        return f"guest-{self.session.id}"


Holder = Principal | Guest
"""Whoever holds a session's token."""


class AtLogin(NamedTuple):
    """Whom a login is about: the account, if somebody has the name; and the one whose hash is evaluated.

    The two are the same, or the latter stands in for an account that is not there: then whatever comes of the
    evaluation, nobody is let in.
    """

    account: User | None
    evaluated: User | None


class UserView(Struct, frozen=True):
    """An account as its owner may see it, opened."""

    id: Id
    username: str
    nickname: str
    email: str | None
    level: Level
    active: bool
    created_at: Moment
    last_contact: Moment


class Lookups:
    """See the module. Every method may raise Unavailable (the store cannot say) and InternalError (a broken seal).

    Principals, and accounts that were opened, are remembered as long as nobody has committed anything: the store is
    asked for that each time, which costs a fraction of the lookups. So nothing that is remembered can be out of date,
    whichever process wrote; lifetimes are judged by the clock each time.
    """

    def __init__(self, book: Book, clock: Clock = utc_now, idle_limit: timedelta | None = None) -> None:
        self._book = book
        self._idle_limit = idle_limit
        self._names = next(projection for projection in book.projections if projection.name == "names")
        self._clock = clock
        self._state: Hashable = None
        self._holders: dict[int, Holder] = {}
        self._views: dict[int, tuple[User, UserView]] = {}

    def principal(self, token: str) -> Principal:
        """The principal of a session token. Unauthenticated when no live session has it, or a guest's does."""
        return _account_of(self.holder(token))

    def holder(self, token: str) -> Holder:
        """The same where a guest counts too: two point lookups."""
        presented = parse_token(token)
        if presented is None:
            raise Unauthenticated
        holder = self._live(presented.session_id)
        if not matches(presented, holder.session.token_digest):
            raise Unauthenticated
        return holder

    def renewed(self, principal: Principal) -> Principal:
        """The principal as it is now, for connections that hold one. Unauthenticated when the session is over."""
        return self.principal_of(principal.session.id)

    def principal_of(self, session_id: int) -> Principal:
        """The same for whoever has proved by something else than its token whose session it is."""
        return _account_of(self._live(session_id))

    def over_at(self, session: Session) -> datetime:
        """When the session's time is over, unless it is seen again or ended before."""
        return over_at(session, self._idle_limit)

    def lives(self, session_id: int) -> bool:
        """Whether that session, a guest's too, is open at this moment; for whoever has no token of it at hand."""
        try:
            self._live(session_id)
        except Unauthenticated:
            return False
        return True

    def view(self, user: User) -> UserView:
        """The account, opened for its owner."""
        self._forget_what_moved()
        known = self._views.get(user.id)
        if known is not None and known[0] is user:
            return known[1]
        view = UserView(
            id=user.id,
            username=self.opened(user.username),
            nickname=self.opened(user.nickname),
            email=None if user.email is None else self.opened(user.email),
            level=user.level,
            active=user.active,
            created_at=user.created_at,
            last_contact=user.last_contact,
        )
        self._views[user.id] = user, view
        return view

    def account(self, tag: str | None) -> User | None:
        """The account that has the name of that tag."""
        name = None if tag is None else self.name(tag)
        return None if name is None else self.user(name.user_id)

    def at_login(self, tag: str | None, typed: str) -> AtLogin:
        """Who may be logging in under the name of that tag; None for what was typed and can be nobody's name.

        Whether somebody has it or not, as much is read, and a real account's hash is found, so that neither takes
        longer (CWE-208), also where hashes of other parameters are there, older or stronger ones. For a name that
        nobody has it is that of the account whose tag comes next: always the same one, and nobody can say which.
        """
        name = None if tag is None else self.name(tag)
        beside = self._name_beyond(self.tag("username", typed) if tag is None else tag)
        found = name or beside
        evaluated = None if found is None else self.user(found.user_id)
        return AtLogin(None if name is None else evaluated, evaluated)

    def user(self, user_id: int) -> User | None:
        """The account of that id."""
        found: User | None = self._looked_up(lambda: self._book.document(USERS, str(user_id)))
        return found

    def name(self, tag: str) -> Name | None:
        """Who has the name of that tag."""
        found: Name | None = self._looked_up(lambda: self._book.document(self._names, tag))
        return found

    def _name_beyond(self, tag: str) -> Name | None:
        """A nickname whose tag is beyond this one, as a number; None where nobody has any name."""
        # Everybody has a nickname, and usernames come after the last of them: there is always one, at the first look.
        beyond = f"nickname:{tag.rpartition(':')[2]}"

        def look() -> Name | None:
            rows = self._book.read_models.scan(self._names, after=beyond, limit=1)
            found: Name | None = self._book.decode(self._names, rows[0].document) if rows else None
            return found

        return self._looked_up(look)

    def guests(self, origin: str | None = None) -> int:
        """How many guests are there, in all or of those whose address has that tag."""
        return self._looked_up(lambda: self._book.read_models.count(SESSIONS, "origin", origin))

    def first_guest(self, origin: str) -> Session | None:
        """The oldest session of the guests whose address has that tag."""
        found = self._looked_up(lambda: self._book.read_models.find(SESSIONS, "origin", origin, limit=1))
        return self._session(int(found[0][0])) if found else None

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

    def _live(self, session_id: int) -> Holder:
        self._forget_what_moved()
        holder = self._holders.get(session_id) or self._looked_up_holder(session_id)
        if is_over(holder.session, self._clock(), self._idle_limit):
            raise Unauthenticated
        return holder

    def _looked_up_holder(self, session_id: int) -> Holder:
        session = self._session(session_id)
        if session is None:
            raise Unauthenticated
        if session.guest:
            holder: Holder = Guest(session)
        else:
            user = self.user(session.user_id)
            if user is None or not user.active:
                raise Unauthenticated
            holder = Principal(user, session)
        self._holders[session_id] = holder
        return holder

    def _forget_what_moved(self) -> None:
        state = self._looked_up(lambda: self._book.log.state())  # noqa: PLW0108 - reaching for the log is a lookup too
        if state != self._state or len(self._holders) > MOST_REMEMBERED or len(self._views) > MOST_REMEMBERED:
            self._holders.clear()
            self._views.clear()
            self._state = state

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
            log.error("seal_broken", error=str(error))  # noqa: TRY400 - the sentence names the place, a trace adds nothing
            raise InternalError from error


def _account_of(holder: Holder) -> Principal:
    if isinstance(holder, Guest):
        raise Unauthenticated
    return holder
