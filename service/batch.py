"""One batch of commands in one transaction: load, decide, number, seal, encode, fold, write.

Reads and writes are sets, their number does not depend on how many commands there are. Commands are decided in turn,
each over what the ones before it left; a refused one leaves nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from random import SystemRandom
from time import time
from typing import Final

import structlog
from msgspec import Struct

from events import merkle
from events.catalogue import SERVICE_STREAM, UserRegistered, user_of
from events.errors import (
    BookError,
    CorruptStoreError,
    DurabilityError,
    EntryError,
    FoldError,
    SealError,
    StoreError,
)
from events.log import Transaction
from events.recorded import Entry, Recorded, encode, from_microseconds, searchable
from events.sealing import seal
from projections.names import Name
from projections.overlay import Overlay
from projections.sessions import Session
from projections.throttles import Throttle
from projections.users import User
from service.book import Book
from service.decisions.command import Command, Proposed, Reads, session_stream, user_stream
from service.errors import InternalError, Refused, Unavailable

log = structlog.get_logger("gatebook.batch")

Outcome = tuple[Recorded, ...] | Exception
Clock = Callable[[], datetime]
getrandbits: Final = SystemRandom().getrandbits
OPEN_ENDED: Final = frozenset({"user", "session"})
FATAL: Final = (DurabilityError, CorruptStoreError)
"""What no batch is tried again after: the process must end."""


def utc_now() -> datetime:
    """The clock of the service."""
    return datetime.now(UTC)


class Order(Struct, frozen=True):
    """A command with who gives it and through which door, under an id of ours."""

    command: Command
    actor: str
    door: str
    command_id: str


def order(command: Command, *, actor: str, door: str) -> Order:
    """The command as an order with an id of its own."""
    return Order(command, actor, door, new_command_id())


def new_command_id() -> str:
    """A UUID of version 7 (RFC 9562) in hex: 48 bits of milliseconds, then 74 random bits.

    The time comes first so that ids which come together lie together in the index: with wholly random ones, each
    command of a batch dirties, and syncs, a page of its own.
    """
    bits = int(time() * 1000) << 80 | 0x7 << 76 | getrandbits(12) << 64 | 0x2 << 62 | getrandbits(62)
    return f"{bits:032x}"


class BatchState:
    """The `State` that a batch's commands decide over."""

    def __init__(self, overlay: Overlay, now: datetime) -> None:
        self.now = now
        self._overlay = overlay

    def user(self, user_id: int) -> User | None:
        """The account of that id."""
        found: User | None = self._overlay.get("users", str(user_id))
        return found

    def name(self, tag: str) -> Name | None:
        """Who has the name of that tag."""
        found: Name | None = self._overlay.get("names", tag)
        return found

    def session(self, session_id: int) -> Session | None:
        """The open session of that id."""
        found: Session | None = self._overlay.get("sessions", str(session_id))
        return found

    def sessions_of(self, user_id: int) -> list[Session]:
        """The user's open sessions."""
        return self._overlay.find("sessions", "user", user_id)

    def guests_of(self, origin: str) -> int:
        """How many guests are there whose address has that tag."""
        return self._overlay.count("sessions", "origin", origin)

    def throttle(self, key: str) -> Throttle | None:
        """The failures counted under that key."""
        found: Throttle | None = self._overlay.get("throttles", key)
        return found

    def active_admins(self) -> list[User]:
        """The active accounts of level 2."""
        return self._overlay.find("users", "active_admin", 1)


class BatchRunner:
    """Runs batches over one book, in one thread. `strays` counts reads that no command had declared."""

    def __init__(self, book: Book, *, clock: Clock = utc_now, skew: timedelta = timedelta(seconds=5)) -> None:
        self._book = book
        self._clock = clock
        self._skew = skew
        self.strays = 0

    def run(self, orders: Sequence[Order]) -> list[Outcome]:
        """What became of each order, in their order: its recorded events in plain text, or the error that refused it.

        Everything that succeeded is durable when this returns. Raises StoreError, with nothing written, where the whole
        batch could not be; DurabilityError or CorruptStoreError, where nobody knows.
        """
        try:
            return self._attempt(orders)
        except (FoldError, EntryError, SealError) as error:
            # Something that only shows at the end of a batch: each command is tried alone, so that one fault does not
            # refuse its neighbours.
            if len(orders) == 1:
                log.exception("command_failed", command_id=orders[0].command_id)
                return [_fault(error)]
            return self._one_by_one(orders)

    def probe(self) -> None:
        """Tries whether a batch could be written, by writing the head as it stands; errors as `run`."""
        with self._book.log.transaction() as transaction:
            self._book.read_models.within(transaction)
            transaction.append(())

    def close(self) -> None:
        """Closes the book that it writes to."""
        self._book.close()

    def _one_by_one(self, orders: Sequence[Order]) -> list[Outcome]:
        outcomes: list[Outcome] = []
        for one in orders:
            try:
                outcomes += self.run([one])
            except FATAL:
                raise
            except StoreError as error:
                # Whoever was written before this is told so; that nothing was written is true of this one alone.
                if not any(isinstance(outcome, tuple) for outcome in outcomes):
                    raise
                outcomes.append(Unavailable(str(error)))
        return outcomes

    def _attempt(self, orders: Sequence[Order]) -> list[Outcome]:
        now = self._clock()
        batch: _Batch | None = None
        try:
            with self._book.log.transaction() as transaction:
                batch = _Batch(self._book, transaction, now)
                if batch.at - now > self._skew:
                    behind = (batch.at - now).total_seconds()
                    return [
                        Unavailable(f"the clock is {behind:.0f} s behind the last entry of the book") for _ in orders
                    ]
                batch.load([declared(one) for one in orders])
                outcomes = [batch.decide(one) for one in orders]
                batch.write()
                self.strays += batch.strays
        except BaseException:
            # The commit may be what failed: this stands around the whole transaction.
            if batch is not None:
                batch.abandon()
            raise
        return outcomes


class _Batch:
    """One attempt at one batch, inside its transaction."""

    def __init__(self, book: Book, transaction: Transaction, now: datetime) -> None:
        self._book = book
        self._transaction = transaction
        self._store = book.read_models.within(transaction)
        head = transaction.head
        self.at = max(now, from_microseconds(head.at))
        self._position = head.position
        self._overlay = Overlay(self._store, book.projections, head.position)
        self._state = BatchState(self._overlay, now)
        self._versions: dict[str, int] = {}
        self._entries: list[Entry] = []
        self._new_keys: dict[int, bytes] = {}
        self.strays = 0

    def load(self, reads: Sequence[Reads]) -> None:
        """Brings to hand what the commands said they will read: one read for each kind of thing."""
        users = {user for one in reads for user in one.users}
        sessions = {session for one in reads for session in one.sessions}
        self._overlay.load("users", map(str, users))
        self._overlay.load("sessions", map(str, sessions))
        self._overlay.load("names", {tag for one in reads for tag in one.names})
        self._overlay.load("throttles", {key for one in reads for key in one.throttles})
        owners = {user for one in reads for user in one.sessions_of}
        self._overlay.load_found("sessions", "user", owners)
        if origins := {origin for one in reads for origin in one.guests_of}:
            self._overlay.load_counts("sessions", "origin", origins)
        if any(one.active_admins for one in reads):
            self._overlay.load_found("users", "active_admin", (1,))
        sessions |= {session.id for user in owners for session in self._overlay.find("sessions", "user", user)}
        streams = [SERVICE_STREAM, *map(user_stream, users), *map(session_stream, sessions)]
        self._versions = dict.fromkeys(streams, 0) | self._transaction.versions(streams)
        self._book.keyring.prepare(user for user in users if user <= self._position)

    def decide(self, one: Order) -> Outcome:
        """The order's recorded events, or the error that refuses it; a refused one leaves no trace."""
        try:
            proposed = one.command.decide(self._state)
        except Refused as refusal:
            return refusal
        except BookError:
            # Not this command's fault: the store's, or a fold of an earlier command's event that had been left for
            # later until this one looked.
            raise
        except Exception:
            log.exception("command_failed", command_id=one.command_id, door=one.door)
            return InternalError()
        try:
            return self._record(one, proposed)
        except StoreError:
            raise
        except Exception as error:
            # A fault of ours in what was decided or in a fold: nothing is numbered yet, so this one command is refused
            # and its neighbours never notice.
            log.exception("command_failed", command_id=one.command_id, door=one.door)
            return _fault(error)

    def write(self) -> None:
        """Keys first, durably; then entries, documents, states and head. Nothing where nothing was decided."""
        if not self._entries:
            return
        if self._new_keys:
            # A crash between this and the commit leaves keys that nothing was sealed under; they are replaced later.
            self._book.keyring.keep(self._new_keys)
        self._transaction.append(self._entries)
        self._overlay.write(self._store.states(), self._position)
        self.strays += self._overlay.strays

    def abandon(self) -> None:
        """Forgets the keys of a batch that was rolled back."""
        self._book.keyring.forget(self._new_keys)

    def _record(self, one: Order, proposed: Sequence[Proposed]) -> tuple[Recorded, ...]:
        created: dict[int, bytes] = {}
        try:
            recorded = self._numbered_and_folded(one, proposed, created)
        except BaseException:
            # Another process may take these numbers, with keys of its own.
            self._book.keyring.forget(created)
            raise
        self._new_keys |= created
        return recorded

    def _numbered_and_folded(
        self, one: Order, proposed: Sequence[Proposed], created: dict[int, bytes]
    ) -> tuple[Recorded, ...]:
        versions: dict[str, int] = {}
        pairs: list[tuple[Recorded, Recorded]] = []
        entries: list[Entry] = []
        for offset, proposal in enumerate(proposed, 1):
            plain = self._numbered(one, proposal, self._position + offset, versions)
            subject = user_of(plain.stream, plain.event)
            if type(plain.event) is UserRegistered and subject is not None:
                created |= self._book.keyring.create((subject,))
            sealed = seal(plain, self._book.keyring)
            data = encode(sealed)
            entries.append(searchable(sealed, data, merkle.leaf_hash(data)))
            pairs.append((sealed, plain))
        self._overlay.apply(pairs)
        # From here on nothing can refuse the command: its numbers are taken.
        self._position += len(pairs)
        self._versions |= versions
        self._entries += entries
        return tuple(plain for _, plain in pairs)

    def _numbered(self, one: Order, proposal: Proposed, position: int, versions: dict[str, int]) -> Recorded:
        stream = f"{proposal.stream}-{position}" if proposal.stream in OPEN_ENDED else proposal.stream
        if stream not in versions:
            versions[stream] = self._version(stream, new=proposal.stream in OPEN_ENDED)
        versions[stream] += 1
        return Recorded(
            position, stream, versions[stream], self.at, one.actor, one.door, one.command_id, proposal.event
        )

    def _version(self, stream: str, *, new: bool) -> int:
        if new:
            return 0
        known = self._versions.get(stream)
        if known is None:
            self.strays += 1
            known = self._versions[stream] = self._transaction.versions((stream,)).get(stream, 0)
        return known


def declared(one: Order) -> Reads:
    """What the order's command says it will read; nothing, where a fault of ours keeps it from saying.

    Its decision then reads for itself, and meets the same fault where it is that one command's alone.
    """
    try:
        return one.command.reads()
    except Exception:
        log.exception("command_failed", command_id=one.command_id, door=one.door)
        return Reads()


def _fault(error: Exception) -> InternalError:
    """What a command is refused with for a fault of ours; it says whose fold failed, and nothing else of the fault."""
    fault = InternalError()
    fault.projection = error.projection if isinstance(error, FoldError) else None
    return fault


def raised(outcome: Outcome) -> tuple[Recorded, ...]:
    """The recorded events of an outcome, or its error, raised."""
    if isinstance(outcome, Exception):
        raise outcome
    return outcome
