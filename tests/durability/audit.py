"""After a crash: what everybody was told, held against the book as it lies on the disk."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator

from events.catalogue import (
    GuestCreated,
    GuestLinked,
    PasswordChanged,
    ProfileChanged,
    SessionClosed,
    SessionOpened,
    UserRegistered,
)
from events.log import Query, pages
from events.recorded import Recorded
from events.sealing import open_event
from service.book import StoreAddress, open_book
from service.credentials.tokens import digest, parse_token
from tests.durability.look import verified
from tests.durability.people import Person, Told


class _Account:
    """What the book says of one person."""

    def __init__(self) -> None:
        self.nicknames: set[str] = set()
        self.passwords_changed = 0
        self.opened: dict[int, str] = {}
        self.open: set[int] = set()
        self.wrong: list[str] = []

    def take(self, recorded: Recorded) -> None:
        match recorded.event:
            case ProfileChanged(nickname=str() as nickname):
                self.nicknames.add(nickname)
            case PasswordChanged():
                self.passwords_changed += 1
            case SessionOpened(token_digest=token_digest):
                self.opened[recorded.position] = token_digest
                self.open.add(recorded.position)
            case GuestCreated():
                self.open.add(recorded.position)
            case SessionClosed():
                session = int(recorded.stream.removeprefix("session-"))
                if session not in self.open:
                    self.wrong.append(f"session {session} ended twice")
                self.open.discard(session)


def audit(address: StoreAddress, people: Iterable[Person]) -> tuple[int, list[str]]:
    """How many events the book holds, and what is wrong with it, in sentences."""
    book = open_book(address)
    try:
        wrong = [sentence] if (sentence := verified(book)) is not None else []
        told = [open_event(recorded, book.keyring) for page in pages(book.log, Query()) for recorded in page]
    finally:
        book.close()
    accounts, names = _accounts(told)
    wrong += [sentence for account in accounts.values() for sentence in account.wrong]
    wrong += _halves(told)
    asked = {person.username: person for person in people}
    wrong += [f"{name} is in the book and never asked for it" for name in names if not _asked(asked.get(name))]
    for person in asked.values():
        user_id = names.get(person.username)
        if user_id is None:
            if person.registered:
                wrong.append(f"the registration of {person.username} was answered and is lost")
            continue
        wrong += _held(person, accounts[user_id])
    return len(told), wrong


def _asked(person: Person | None) -> bool:
    return person is not None and person.asked_to_register


def _accounts(told: Iterable[Recorded]) -> tuple[dict[int, _Account], dict[str, int]]:
    accounts: dict[int, _Account] = defaultdict(_Account)
    names: dict[str, int] = {}
    for recorded in told:
        match recorded.event:
            case UserRegistered(username=str() as username):
                names[username] = recorded.position
                accounts[recorded.position].take(recorded)
            case GuestCreated():
                accounts[recorded.position].take(recorded)
            case SessionOpened(user_id=user_id) | SessionClosed(user_id=user_id):
                accounts[user_id].take(recorded)
            case PasswordChanged() | ProfileChanged():
                accounts[int(recorded.stream.removeprefix("user-"))].take(recorded)
    return accounts, names


def _halves(told: list[Recorded]) -> Iterator[str]:
    """A change of password is whole, and a guest's login: what belongs to it stands behind it in the same command."""
    open_: dict[int, set[int]] = defaultdict(set)
    for index, recorded in enumerate(told):
        match recorded.event:
            case SessionOpened(user_id=user_id):
                open_[user_id].add(recorded.position)
            case SessionClosed(user_id=user_id):
                open_[user_id].discard(int(recorded.stream.removeprefix("session-")))
            case GuestLinked(user_id=user_id):
                after = [one for one in told[index + 1 : index + 10] if one.command_id == recorded.command_id]
                replaced = any(isinstance(one.event, SessionClosed) and one.stream == recorded.stream for one in after)
                let_in = any(isinstance(one.event, SessionOpened) and one.event.user_id == user_id for one in after)
                if not (replaced and let_in):
                    yield f"the login of the guest at position {recorded.position} is half"
            case PasswordChanged():
                user_id = int(recorded.stream.removeprefix("user-"))
                others = len(open_[user_id]) - 1
                after = told[index + 1 : index + 1 + others]
                ended = Counter(one.command_id for one in after if isinstance(one.event, SessionClosed))
                if ended[recorded.command_id] != others:
                    yield f"the change of password at position {recorded.position} is half"


def _held(person: Person, account: _Account) -> Iterator[str]:
    who = person.username
    if lost := set(person.nicknames) - account.nicknames:
        yield f"{len(lost)} changes of {who}'s nickname were answered and are lost"
    if person.passwords_changed > account.passwords_changed:
        yield f"{who} changed the password {person.passwords_changed} times, the book says {account.passwords_changed}"
    if len(account.opened) > person.logins_asked:
        yield f"{who} has more sessions than logins"
    for token, told in person.sessions.items():
        presented = parse_token(token)
        assert presented is not None
        if account.opened.get(presented.session_id) != digest(presented.secret):
            yield f"a login of {who} was answered and is lost"
        elif told is not Told.UNKNOWN and (presented.session_id in account.open) is not (told is Told.OPEN):
            yield f"session {presented.session_id} of {who}: told {told.value}, and the book says otherwise"
