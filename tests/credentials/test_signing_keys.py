"""Signing keys: which one signs, which are told, when each is over, and that all processes agree."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.pretty import pretty_repr

from events.errors import DurabilityError, SealBrokenError, StoreFullError, StoreUnavailableError
from events.keys import ServiceKey
from events.memory import MemoryKeyStore
from events.recorded import EPOCH
from service.batch import BatchRunner, order, raised
from service.book import Book, memory_book, open_book, parse_address
from service.credentials.access_tokens import LONGEST_LIFETIME
from service.credentials.key_terms import AHEAD, SKEW, Rotation, Term, terms_of
from service.credentials.signing_keys import SigningKeys, signing_key
from service.decisions.keys import RotateKey
from service.errors import InternalError, Unavailable
from tests.house import Clock

START = Clock().now
SECOND = timedelta(seconds=1)
WHOLE = AHEAD + LONGEST_LIFETIME + SKEW
"""From a rotation until the key before it is over."""


def after(seconds: float) -> timedelta:
    return timedelta(seconds=seconds)


def rotated(book: Book, clock: Clock, *, at_once: bool = False) -> int:
    """Rotates the key, as the command line does; the position."""
    [outcome] = BatchRunner(book, clock=clock).run([order(RotateKey("access_tokens", at_once), actor="o", door="d")])
    return raised(outcome)[-1].position


@contextmanager
def processes(folder: Path, clock: Clock, number: int = 2) -> Iterator[list[tuple[Book, SigningKeys]]]:
    """Several processes on one store, each with connections of its own."""
    address = parse_address(f"sqlite:{folder}/gatebook.db")
    with ExitStack() as closing:
        found = []
        for _ in range(number):
            book = open_book(address, create=True)
            closing.callback(book.close)
            found.append((book, SigningKeys(book.log, book.keyring, clock)))
        yield found


def alone(clock: Clock) -> tuple[Book, SigningKeys]:
    book = memory_book()
    return book, SigningKeys(book.log, book.keyring, clock)


# Terms.


def test_without_a_rotation_the_first_key_signs_for_ever() -> None:
    assert terms_of(()) == [Term(0, EPOCH)]


def test_a_key_signs_a_while_after_it_was_told_and_the_one_before_is_over_when_its_last_token_is() -> None:
    assert terms_of([Rotation(7, START)]) == [Term(0, EPOCH, START + WHOLE), Term(7, START + AHEAD)]


def test_a_rotation_at_once_leaves_nothing_of_what_was_before() -> None:
    rotations = [Rotation(7, START), Rotation(9, START + SECOND, at_once=True), Rotation(11, START + 2 * SECOND)]
    assert terms_of(rotations[:2]) == [Term(9, EPOCH)]
    assert terms_of(rotations)[-1] == Term(11, START + 2 * SECOND + AHEAD)
    assert [term.number for term in terms_of(rotations)] == [9, 11]


@given(st.lists(st.tuples(st.integers(0, 2_000), st.booleans()), max_size=8), st.integers(0, 20_000))
def test_at_any_time_one_key_signs_and_its_tokens_do_not_outlive_it(steps: list[tuple[int, bool]], now: int) -> None:
    rotations: list[Rotation] = []
    at = START
    for position, (step, at_once) in enumerate(steps, 1):
        at += after(step)
        rotations.append(Rotation(position, at, at_once))
    moment = START + after(now)
    seen = [rotation for rotation in rotations if rotation.at <= moment]
    alive = [term for term in terms_of(seen) if not term.is_over(moment)]
    due = [term for term in alive if term.signs_from <= moment]
    assert due, "somebody always signs"
    signs = due[-1]
    # Whatever is rotated afterwards, but at once, what it signs now is over before it is.
    later = [rotation for rotation in rotations if rotation.at > moment]
    if not any(rotation.at_once for rotation in later):
        [term] = [term for term in terms_of([*seen, *later]) if term.number == signs.number]
        assert term.over_at is None or moment + LONGEST_LIFETIME <= term.over_at


# The keys.


def test_the_key_of_a_secret_is_always_the_same_and_never_told() -> None:
    key = signing_key(3, b"s" * 32)
    assert key.public == signing_key(9, b"s" * 32).public
    assert key.public != signing_key(3, b"t" * 32).public
    assert key.kid == "1X4bOU80xPm4OV8yR4qj7E3kgxFw1sagvngLE9N_jN8"
    secret = format(key.private.private_numbers().private_value, "x")
    for shown in (repr(key), pretty_repr(key), f"{key}", str(key.public)):
        assert secret not in shown
        assert "private" not in shown
    assert repr(key) == f"SigningKey(number=3, kid='{key.kid}')"


def test_the_name_of_a_key_is_its_thumbprint() -> None:
    """RFC 7638: the required members alone, in order of their names, without spaces."""
    public = signing_key(0, b"s" * 32).public
    members = f'{{"crv":"P-256","kty":"EC","x":"{public.x}","y":"{public.y}"}}'
    assert public.kid == urlsafe_b64encode(sha256(members.encode()).digest()).rstrip(b"=").decode()
    assert len(public.x) == len(public.y) == 43


def test_a_key_is_made_on_first_use_and_not_before() -> None:
    book, keys = alone(Clock())
    assert keys.verifying() == {}
    assert keys.tend(START) == 0
    assert book.keyring.service_key_names("access") == []
    key = keys.signing()
    assert book.keyring.service_key_names("access") == ["access-tokens-0"]
    assert keys.signing() is key
    assert keys.published() == (key,)
    assert list(keys.verifying()) == [key.header]


def test_of_two_that_make_the_first_key_at_once_both_have_the_same(tmp_path: Path) -> None:
    clock = Clock()
    with processes(tmp_path, clock) as [(_, ours), (_, theirs)]:
        assert ours.terms(clock.now) == theirs.terms(clock.now)
        # Both have looked, and found none.
        assert ours._newest().kid == theirs._newest().kid


def test_asking_for_the_public_keys_makes_one_too() -> None:
    book, keys = alone(Clock())
    [key] = keys.published()
    assert keys.signing() is key
    assert SigningKeys(book.log, book.keyring, Clock()).signing().kid == key.kid


def test_what_stands_in_the_key_store_is_wrapped(tmp_path: Path) -> None:
    with processes(tmp_path, Clock(), 1) as [(book, keys)]:
        private = keys.signing().private.private_numbers().private_value.to_bytes(32)
        secret = book.keyring.service_key("access-tokens-0", START)
    for file in tmp_path.iterdir():
        assert private not in file.read_bytes()
        assert secret not in file.read_bytes()


def test_a_rotation_is_told_at_once_signs_later_and_ends_what_was_before(tmp_path: Path) -> None:
    clock = Clock()
    with processes(tmp_path, clock) as [(book, ours), (_, theirs)]:
        first = ours.signing()
        assert theirs.signing().kid == first.kid

        position = rotated(book, clock)
        second = theirs.published()[-1]
        assert second.number == position
        for keys in (ours, theirs):
            assert [key.kid for key in keys.published()] == [first.kid, second.kid]
            assert keys.signing().kid == first.kid

        clock.now = START + AHEAD - SECOND
        assert ours.signing().kid == first.kid
        clock.now = START + AHEAD
        assert (ours.signing().kid, theirs.signing().kid) == (second.kid, second.kid)
        assert ours.tend(clock.now) == 0

        clock.now = START + WHOLE - SECOND
        assert ours.tend(clock.now) == 0
        assert [key.kid for key in theirs.published()] == [first.kid, second.kid]
        assert list(theirs.verifying()) == [first.header, second.header]
        clock.now = START + WHOLE
        assert [key.kid for key in theirs.published()] == [second.kid]
        assert list(theirs.verifying()) == [second.header]
        assert ours.tend(clock.now) == 1
        assert theirs.tend(clock.now) == 0
        assert book.keyring.service_key_names("access") == [f"access-tokens-{position}"]
        assert ours.key(0) is None
        assert theirs.key(0) is None


def test_a_rotation_at_once_makes_all_that_was_before_worthless(tmp_path: Path) -> None:
    clock = Clock()
    with processes(tmp_path, clock) as [(book, ours), (_, theirs)]:
        first = ours.signing()
        rotated(book, clock)
        assert len(theirs.published()) == 2
        # A clock that is behind the book's changes nothing about it.
        ahead = Clock(START + after(3))
        position = rotated(book, ahead, at_once=True)
        assert [key.number for key in theirs.published()] == [position]
        assert ours.signing().number == position
        assert first.header not in ours.verifying()
        assert ours.tend(clock.now) == 2
        assert book.keyring.service_key_names("access") == [f"access-tokens-{position}"]


def test_a_key_that_nobody_used_before_the_next_was_asked_for_is_passed_over() -> None:
    clock = Clock()
    book, keys = alone(clock)
    rotated(book, clock)
    newest = rotated(book, clock)
    assert keys.signing().number == newest
    assert [key.number for key in keys.published()] == [newest]
    assert book.keyring.service_key_names("access") == [f"access-tokens-{newest}"]


def test_a_key_that_is_due_and_was_never_made_is_not_stood_in_for_by_the_one_before() -> None:
    clock = Clock()
    book, keys = alone(clock)
    first = keys.signing()
    rotated(book, clock)
    clock.now = START + AHEAD + after(10)
    newest = rotated(book, clock)
    assert keys.signing().number == newest
    assert first.header in keys.verifying()


def test_what_another_process_has_just_made_is_not_destroyed(tmp_path: Path) -> None:
    clock = Clock()
    with processes(tmp_path, clock) as [(book, ours), (other, theirs)]:
        ours.signing()
        # As if the other process had read the book a moment before the rotation.
        stale = SigningKeys(memory_book().log, other.keyring, clock)
        position = rotated(book, clock, at_once=True)
        ours.signing()
        assert stale.tend(clock.now) == 0
        assert theirs.tend(clock.now) == 1
        assert book.keyring.service_key_names("access") == [f"access-tokens-{position}"]


def test_a_key_that_comes_back_from_an_old_backup_is_told_to_nobody_and_destroyed(tmp_path: Path) -> None:
    clock = Clock()
    with processes(tmp_path, clock, 1) as [(book, keys)]:
        keys.signing()
        [old] = book.keys.service_keys("access")
        rotated(book, clock, at_once=True)
        keys.signing()
        keys.tend(clock.now)
        book.keys.put_service_key(old, replacing=None)
        afresh = SigningKeys(book.log, book.keyring, clock)
        assert len(afresh.published()) == len(afresh.verifying()) == 1
        assert afresh.key(0) is None
        assert afresh.tend(clock.now) == 1


def test_a_rotation_that_this_gatebook_does_not_know_is_not_passed_over() -> None:
    """A newer one may have other keys to rotate, and other ways to."""
    clock = Clock()
    book, keys = alone(clock)
    keys.signing()
    unknown = RotateKey("something newer")  # type: ignore[arg-type]  # what a newer gatebook may write
    raised(BatchRunner(book, clock=clock).run([order(unknown, actor="operator", door="command-line")])[0])
    with pytest.raises(InternalError):
        keys.signing()


class FailingKeyStore(MemoryKeyStore):
    """A key store that fails as it is told to."""

    reading: Exception | None = None
    writing: Exception | None = None
    writes = 0

    def service_keys(self, prefix: str = "") -> list[ServiceKey]:
        if self.reading is not None:
            raise self.reading
        return super().service_keys(prefix)

    def put_service_key(self, key: ServiceKey, *, replacing: bytes | None) -> bool:
        self.writes += 1
        if self.writing is not None:
            raise self.writing
        return super().put_service_key(key, replacing=replacing)


def failing(clock: Clock) -> tuple[Book, FailingKeyStore, SigningKeys]:
    book = memory_book()
    store = FailingKeyStore(book.log.book_id)
    book.keyring._store = store
    return book, store, SigningKeys(book.log, book.keyring, clock)


def test_keys_that_cannot_be_read_are_unavailable_and_not_made_anew() -> None:
    _, store, keys = failing(Clock())
    store.reading = StoreUnavailableError("no disk")
    for look in (keys.signing, keys.published, keys.verifying):
        with pytest.raises(Unavailable):
            look()
    with pytest.raises(StoreUnavailableError):
        keys.tend(START)
    assert store.writes == 0
    store.reading = None
    assert keys.signing().number == 0


def test_a_key_that_does_not_open_is_a_fault_of_ours_and_not_made_anew() -> None:
    clock = Clock()
    _, store, keys = failing(clock)
    store.put_service_key(ServiceKey("access-tokens-0", START, b"x" * 60), replacing=None)
    for look in (keys.signing, keys.published, keys.verifying):
        with pytest.raises(InternalError):
            look()
    with pytest.raises(SealBrokenError):
        keys.tend(START)


def test_no_room_for_the_next_key_is_no_reason_to_hide_the_one_that_signs() -> None:
    clock = Clock()
    book, store, keys = failing(clock)
    store.writing = StoreFullError("full")
    for look in (keys.signing, keys.published):
        with pytest.raises(Unavailable):
            look()
    store.writing = None
    first = keys.signing()
    rotated(book, clock)
    store.writing = StoreFullError("full")
    assert keys.published() == (first,)
    assert keys.signing() is first
    clock.now += AHEAD
    with pytest.raises(Unavailable):
        keys.signing()
    store.writing = None
    assert keys.signing().number == 1


def test_a_key_whose_sync_failed_is_not_tried_again_and_ends_the_process() -> None:
    _, store, keys = failing(Clock())
    store.writing = DurabilityError("sync")
    for _ in range(3):
        with pytest.raises(Unavailable):
            keys.signing()
    assert store.writes == 1
    with pytest.raises(DurabilityError):
        keys.tend(START)
