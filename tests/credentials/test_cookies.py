"""Cookies: what opens, what does not, and how their keys come and go."""

from __future__ import annotations

import base64
import string
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from cryptography.fernet import Fernet
from hypothesis import given
from hypothesis import strategies as st

from events.errors import DurabilityError, SealBrokenError, StoreError, StoreFullError, StoreUnavailableError
from events.keys import Keyring, KeyStore, MasterKey, ServiceKey
from events.keys_sqlite import SQLiteKeyStore
from events.memory import MemoryKeyStore
from events.recorded import EPOCH
from service.credentials.cookies import CookieClaims, Cookies
from service.credentials.rotating_seal import LONGEST
from service.errors import InternalError, Unavailable
from tests.house import Clock

MASTER = MasterKey(bytes(range(32)))
SECRET = "Zk3vQ9sT1bYhW6mXoJr4nLcE8uGaPdF2iRyB5tNq"
CLAIMS = CookieClaims(f"42|{SECRET}", 17, 0)
GUEST = CookieClaims(f"42|{SECRET}", 42, 1)
PERIOD = timedelta(days=30)


class Process:
    """One process on a key store: cookies with a keyring of their own, and a clock."""

    def __init__(self, store: KeyStore, clock: Clock) -> None:
        self.clock = clock
        self.ring = Keyring(MASTER, store)
        self.cookies = Cookies(self.ring, clock)


class FailingKeyStore(MemoryKeyStore):
    """A key store that fails as it is told to, and counts how often it was looked into."""

    def __init__(self) -> None:
        super().__init__("a book")
        self.reading: StoreError | None = None
        self.writing: StoreError | None = None
        self.looks = 0
        self.writes = 0

    def service_keys(self, prefix: str = "") -> list[ServiceKey]:
        self.looks += 1
        if self.reading is not None:
            raise self.reading
        return super().service_keys(prefix)

    def put_service_key(self, key: ServiceKey, *, replacing: bytes | None) -> bool:
        self.writes += 1
        if self.writing is not None:
            raise self.writing
        return super().put_service_key(key, replacing=replacing)


@pytest.fixture
def store() -> FailingKeyStore:
    return FailingKeyStore()


@pytest.fixture
def clock() -> Clock:
    # A day after a period began.
    return Clock(EPOCH + 692 * PERIOD + timedelta(days=1))


@pytest.fixture
def process(store: FailingKeyStore, clock: Clock) -> Process:
    return Process(store, clock)


def boundary(number: int = 693) -> datetime:
    """When that period begins."""
    return EPOCH + number * PERIOD


# What is in it.


@pytest.mark.parametrize("claims", [CLAIMS, GUEST])
def test_a_cookie_says_what_was_sealed(process: Process, claims: CookieClaims) -> None:
    assert process.cookies.open(process.cookies.seal(claims)) == claims


def test_a_cookie_shows_nothing_and_is_never_the_same(process: Process) -> None:
    one, other = process.cookies.seal(CLAIMS), process.cookies.seal(CLAIMS)
    assert one != other
    assert set(one) <= {*string.ascii_letters, *string.digits, *"-_="}
    for cookie in (one, other):
        assert SECRET not in cookie
        assert SECRET.encode() not in base64.urlsafe_b64decode(cookie)
    assert SECRET not in repr(CLAIMS)


def test_the_longest_cookie_is_well_within_the_bound(process: Process) -> None:
    largest = 2**63 - 1
    cookie = process.cookies.seal(CookieClaims(f"{largest}|{SECRET}", largest, 1))
    assert process.cookies.open(cookie) is not None
    assert len(cookie) == 228 < LONGEST


def test_inside_is_the_json_of_the_contract(process: Process) -> None:
    cookie = process.cookies.seal(GUEST)
    [key] = process.ring.service_keys("cookies-").values()
    plain = Fernet(base64.urlsafe_b64encode(key)).decrypt(cookie)
    assert msgspec.json.decode(plain) == {"at": f"42|{SECRET}", "user_id": 42, "guest": 1}


# What is none.


def test_a_cookie_with_any_byte_changed_is_none(process: Process) -> None:
    for claims in (CLAIMS, CookieClaims(f"1|{SECRET}", 1, 0), CookieClaims(f"12|{SECRET}", 12345, 0)):
        cookie = process.cookies.seal(claims)
        for place, character in enumerate(cookie):
            for bit in range(8):
                other = chr(ord(character) ^ 1 << bit)
                assert process.cookies.open(cookie[:place] + other + cookie[place + 1 :]) is None, (place, other)


def test_a_cookie_written_otherwise_is_none(process: Process) -> None:
    # Base64 has many ways to write the same bytes; the library would pass over them.
    for user_id in (1, 12345, 10**10):
        cookie = process.cookies.seal(CookieClaims(f"1|{SECRET}", user_id, 0))
        bare = cookie.rstrip("=")
        last = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"
        others = {bare[:-1] + character + "=" * (len(cookie) - len(bare)) for character in last} - {cookie}
        others |= {f" {cookie}", f"{cookie} ", f'"{cookie}"', f"{cookie}\n", f"{cookie[:9]}!{cookie[9:]}", f"{cookie}="}
        others |= {f"{cookie}====", f"{cookie}A", bare if bare != cookie else f"{cookie}==", cookie.replace("=", "%3D")}
        others |= {cookie.replace("-", "+").replace("_", "/")}
        assert [other for other in others - {cookie} if process.cookies.open(other) is not None] == []


def test_a_cookie_that_is_cut_or_lengthened_is_none(process: Process) -> None:
    cookie = process.cookies.seal(CLAIMS)
    for length in range(len(cookie)):
        assert process.cookies.open(cookie[:length]) is None
        assert process.cookies.open(cookie[length + 1 :]) is None
    assert process.cookies.open(cookie * 2) is None


def test_parts_of_two_cookies_make_none(process: Process) -> None:
    one, other = process.cookies.seal(CLAIMS), process.cookies.seal(CookieClaims(f"43|{SECRET}", 18, 0))
    assert len(one) == len(other)
    # They begin with the second in which they were sealed.
    for place in range(16, len(one), 4):
        mixed = one[:place] + other[place:]
        assert mixed in {one, other} or process.cookies.open(mixed) is None


@pytest.mark.parametrize(
    "value",
    ["", "=", "A", "null", "gAAAAA", "gAAAAA==", "é" * 40, "\x00" * 44, "\udc80" * 44, "A" * 512, "A" * 10**6, "{}"],
)
def test_what_is_no_cookie_is_none(process: Process, value: str) -> None:
    process.cookies.seal(CLAIMS)
    assert process.cookies.open(value) is None


@given(
    st.one_of(st.text(max_size=600), st.binary(max_size=400).map(lambda some: base64.urlsafe_b64encode(some).decode()))
)
def test_no_text_is_a_cookie_or_a_fault(text: str) -> None:
    assert Process(MemoryKeyStore("a book"), Clock()).cookies.open(text) is None


def test_what_is_too_long_costs_nothing(process: Process, store: FailingKeyStore) -> None:
    assert process.cookies.open("A" * (LONGEST + 4)) is None
    assert process.cookies.open("A" * (LONGEST - 1)) is None
    assert store.looks == 0


def test_a_cookie_of_another_store_is_none(process: Process, clock: Clock) -> None:
    foreign = Process(MemoryKeyStore("another book"), clock)
    assert process.cookies.open(foreign.cookies.seal(CLAIMS)) is None


@pytest.mark.parametrize(
    "plain",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"at":"1|a","user_id":1}',
        b'{"at":1,"user_id":1,"guest":0}',
        b'{"at":"1|a","user_id":"1","guest":0}',
        b'{"at":"1|a","user_id":1,"guest":2}',
        b'{"at":"1|a","user_id":1,"guest":true}',
        b'{"at":"1|a","user_id":1,"guest":0,"more":0}',
        b'{"at":"1|\xff","user_id":1,"guest":0}',
    ],
)
def test_what_is_sealed_and_no_claims_is_none(process: Process, plain: bytes) -> None:
    process.cookies.seal(CLAIMS)
    [key] = process.ring.service_keys("cookies-").values()
    assert process.cookies.open(Fernet(base64.urlsafe_b64encode(key)).encrypt(plain).decode()) is None


# Keys over time.


def names(process: Process) -> list[str]:
    return process.ring.service_key_names("cookies-")


def test_each_period_has_a_key_that_is_made_an_hour_before(process: Process, clock: Clock) -> None:
    process.cookies.rotate(clock())
    assert names(process) == ["cookies-692"]
    clock.now = boundary() - timedelta(hours=1, microseconds=1)
    process.cookies.rotate(clock())
    assert names(process) == ["cookies-692"]
    clock.pass_by(microseconds=1)
    process.cookies.rotate(clock())
    assert names(process) == ["cookies-692", "cookies-693"]


def test_what_is_sealed_before_its_period_begins_is_sealed_under_the_key_of_now(process: Process, clock: Clock) -> None:
    clock.now = boundary() - timedelta(microseconds=1)
    early = process.cookies.seal(CLAIMS)
    clock.now = boundary()
    late = process.cookies.seal(CLAIMS)
    assert names(process) == ["cookies-692", "cookies-693"]
    process.cookies.destroy(["cookies-692"])
    assert process.cookies.open(early) is None
    assert process.cookies.open(late) == CLAIMS


def test_a_rotation_logs_nobody_out(process: Process, clock: Clock) -> None:
    sealed = {}
    for number in range(692, 705):
        sealed[number] = process.cookies.seal(CookieClaims(f"{number}|{SECRET}", number, 0))
        clock.now = boundary(number + 1)
    fresh = Process(process.ring._store, clock)
    for cookies in (process.cookies, fresh.cookies):
        for number, cookie in sealed.items():
            claims = cookies.open(cookie)
            assert claims is not None
            assert claims.user_id == number


def test_sealed_again_it_lasts_beyond_the_old_key(process: Process, clock: Clock) -> None:
    old = process.cookies.seal(CLAIMS)
    clock.now = boundary()
    claims = process.cookies.open(old)
    assert claims is not None
    renewed = process.cookies.seal(claims)
    process.cookies.destroy(["cookies-692"])
    assert process.cookies.open(old) is None
    assert process.cookies.open(renewed) == CLAIMS


def test_a_key_is_spent_when_its_period_was_over(process: Process, clock: Clock) -> None:
    process.cookies.seal(CLAIMS)
    clock.now = boundary()
    process.cookies.seal(CLAIMS)
    assert process.cookies.spent(boundary() - timedelta(microseconds=1)) == []
    assert process.cookies.spent(boundary()) == ["cookies-692"]
    assert process.cookies.spent(boundary(694)) == ["cookies-692", "cookies-693"]


# Several processes.


@pytest.fixture
def pair(tmp_path: Path, clock: Clock) -> Iterator[tuple[Process, Process]]:
    """Two processes on one key store, whose clocks may go apart."""
    stores = [SQLiteKeyStore(tmp_path / "keys.db", "a book", MASTER) for _ in range(2)]
    yield Process(stores[0], clock), Process(stores[1], Clock(clock.now))
    for store in stores:
        store.close()


def test_two_processes_agree_on_the_first_key(pair: tuple[Process, Process]) -> None:
    one, other = pair
    sealed = one.cookies.seal(CLAIMS), other.cookies.seal(GUEST)
    assert [one.cookies.open(sealed[1]), other.cookies.open(sealed[0])] == [GUEST, CLAIMS]
    assert names(one) == ["cookies-692"]


@pytest.mark.parametrize("apart", [-timedelta(minutes=59), timedelta(0), timedelta(minutes=59)])
def test_two_processes_whose_clocks_differ_open_each_others_cookies(
    pair: tuple[Process, Process], apart: timedelta
) -> None:
    one, other = pair
    for step in range(-180, 181, 1):
        one.clock.now = boundary() + timedelta(minutes=step)
        other.clock.now = one.clock.now + apart
        # What does not open keeps the other from looking again: it must have the key already.
        assert other.cookies.open("AAAA") is None
        assert other.cookies.open(one.cookies.seal(CLAIMS)) == CLAIMS, step
        assert one.cookies.open(other.cookies.seal(CLAIMS)) == CLAIMS, step


def test_a_key_of_another_process_is_found_when_a_cookie_does_not_open(pair: tuple[Process, Process]) -> None:
    one, other = pair
    other.cookies.seal(CLAIMS)
    # Further ahead than any clock should be.
    one.clock.now = boundary(694)
    sealed = one.cookies.seal(CLAIMS)
    other.clock.pass_by(seconds=1)
    assert other.cookies.open(sealed) == CLAIMS


def test_a_destroyed_key_is_forgotten_by_the_others_when_they_look(pair: tuple[Process, Process]) -> None:
    one, other = pair
    sealed = other.cookies.seal(CLAIMS)
    one.clock.now = other.clock.now = boundary()
    one.cookies.rotate(boundary())
    one.cookies.destroy(["cookies-692"])
    assert one.cookies.open(sealed) is None
    assert other.cookies.open(sealed) is None


def test_the_store_is_looked_into_once_a_second_however_much_does_not_open(
    process: Process, store: FailingKeyStore, clock: Clock
) -> None:
    good = process.cookies.seal(CLAIMS)
    assert store.looks == 1
    for _ in range(100):
        assert process.cookies.open("AAAA") is None
        assert process.cookies.open(good) == CLAIMS
    assert store.looks == 1
    clock.pass_by(seconds=1)
    for _ in range(100):
        assert process.cookies.open("AAAA") is None
    assert store.looks == 2
    clock.pass_by(days=1)
    assert process.cookies.open(good) == CLAIMS
    assert store.looks == 2
    # A clock that was set back is no reason to wait until it is there again.
    clock.pass_by(days=-2)
    assert process.cookies.open("AAAA") is None
    assert store.looks == 3


# A key store in trouble.


def test_a_store_that_cannot_be_read_is_no_reason_to_say_that_there_is_no_session(
    process: Process, store: FailingKeyStore, clock: Clock
) -> None:
    good = Process(store, clock).cookies.seal(CLAIMS)
    store.reading = StoreUnavailableError("not now")
    for _ in range(3):
        for value in (good, "AAAA"):
            with pytest.raises(Unavailable):
                process.cookies.open(value)
        with pytest.raises(Unavailable):
            process.cookies.seal(CLAIMS)
    process.cookies.rotate(clock())
    assert store.looks == 2, "it was asked more than once in this second"
    # What cannot be ours in any case is still told.
    assert process.cookies.open("nothing of ours") is None
    store.reading = None
    clock.pass_by(seconds=1)
    assert process.cookies.open(good) == CLAIMS
    assert process.cookies.open("AAAA") is None


def test_what_is_at_hand_opens_while_the_store_cannot_be_read(
    process: Process, store: FailingKeyStore, clock: Clock
) -> None:
    good = process.cookies.seal(CLAIMS)
    store.reading = StoreUnavailableError("not now")
    clock.now = boundary()
    assert process.cookies.open(good) == CLAIMS
    assert process.cookies.open(process.cookies.seal(GUEST)) == GUEST
    with pytest.raises(Unavailable):
        process.cookies.open("AAAA")


def test_without_room_for_a_new_key_the_last_one_serves(process: Process, store: FailingKeyStore, clock: Clock) -> None:
    good = process.cookies.seal(CLAIMS)
    store.writing = StoreFullError("no room")
    clock.now = boundary()
    assert process.cookies.open(good) == CLAIMS
    assert process.cookies.open("AAAA") is None
    late = process.cookies.seal(CLAIMS)
    store.writing = None
    clock.pass_by(seconds=1)
    process.cookies.rotate(clock())
    assert names(process) == ["cookies-692", "cookies-693"]
    assert process.cookies.open(late) == CLAIMS


def test_without_room_for_the_first_key_nothing_is_sealed(process: Process, store: FailingKeyStore) -> None:
    store.writing = StoreFullError("no room")
    with pytest.raises(Unavailable):
        process.cookies.seal(CLAIMS)
    assert process.cookies.open("AAAA") is None


def test_a_sync_that_failed_is_told_to_housekeeping_and_never_tried_again(
    process: Process, store: FailingKeyStore, clock: Clock
) -> None:
    store.writing = DurabilityError("the disk")
    with pytest.raises(Unavailable):
        process.cookies.seal(CLAIMS)
    clock.pass_by(minutes=1)
    with pytest.raises(Unavailable):
        process.cookies.seal(CLAIMS)
    with pytest.raises(DurabilityError):
        process.cookies.rotate(clock())
    assert store.writes == 1


def test_a_key_that_does_not_open_is_our_fault(process: Process, store: FailingKeyStore, clock: Clock) -> None:
    good = Process(store, clock).cookies.seal(CLAIMS)
    kept = store._service["cookies-692"]
    store._service["cookies-692"] = ServiceKey(kept.name, kept.created_at, kept.wrapped[:-1] + b"x")
    with pytest.raises(InternalError) as caught:
        process.cookies.open(good)
    assert isinstance(caught.value.__cause__, SealBrokenError)
    with pytest.raises(InternalError):
        process.cookies.seal(CLAIMS)
    assert process.cookies.spent(boundary()) == ["cookies-692"]
