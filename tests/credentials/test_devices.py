"""What a device keeps: whose it is, sealed; and how many accounts it may be known to."""

from __future__ import annotations

from datetime import timedelta

import pytest

from events.keys import Keyring, MasterKey
from events.memory import MemoryKeyStore
from service.credentials.cookies import CookieClaims, Cookies
from service.credentials.devices import MOST_USERS, DeviceClaims, Devices
from service.credentials.rotating_seal import LONGEST
from tests.house import Clock

MOST_POSITIONS = 2**63 - 1


def new_keyring() -> Keyring:
    return Keyring(MasterKey(bytes(32)), MemoryKeyStore("a book"))


@pytest.fixture
def devices() -> Devices:
    return Devices(new_keyring(), Clock())


def test_a_device_is_recognised_by_whoever_logged_in_from_it(devices: Devices) -> None:
    kept = devices.after_login(None, 7)
    assert devices.recognised(kept, 7)
    assert devices.recognised(kept, 8) is None
    assert devices.recognised(None, 7) is None


def test_it_stays_the_same_device_through_its_logins(devices: Devices) -> None:
    first = devices.after_login(None, 7)
    then = devices.after_login(first, 8)
    assert devices.recognised(first, 7) == devices.recognised(then, 7) == devices.recognised(then, 8)
    assert devices.recognised(devices.after_login(None, 7), 7) != devices.recognised(first, 7)


def test_the_last_five_accounts_are_known(devices: Devices) -> None:
    kept = devices.after_login(None, 1)
    for user in (2, 3, 1, 4, 5, 6):
        kept = devices.after_login(kept, user)
    assert [user for user in range(1, 7) if devices.recognised(kept, user)] == [1, 3, 4, 5, 6]


def test_what_is_longest_is_within_the_bound(devices: Devices) -> None:
    kept = None
    for number in range(MOST_USERS):
        kept = devices.after_login(kept, MOST_POSITIONS - number)
    assert kept is not None
    assert len(kept) <= 300 < LONGEST


def test_what_another_store_sealed_or_what_is_a_session_is_no_device(devices: Devices) -> None:
    elsewhere = new_keyring()
    assert devices.recognised(Devices(elsewhere, Clock()).after_login(None, 7), 7) is None
    ring = new_keyring()
    cookie = Cookies(ring, Clock()).seal(CookieClaims("7|a", 7, 0))
    assert Devices(ring, Clock()).recognised(cookie, 7) is None


def test_every_letter_of_it_counts(devices: Devices) -> None:
    """CWE-345."""
    kept = devices.after_login(None, 7)
    for place, letter in enumerate(kept):
        other = "A" if letter != "A" else "B"
        assert devices.recognised(f"{kept[:place]}{other}{kept[place + 1 :]}", 7) is None


def test_it_is_recognised_after_the_keys_have_rotated() -> None:
    clock = Clock()
    devices = Devices(new_keyring(), clock)
    kept = devices.after_login(None, 7)
    clock.now += timedelta(days=170)
    assert devices.recognised(kept, 7)


def test_its_repr_says_nothing() -> None:
    assert repr(DeviceClaims("secret", (7,))) == "DeviceClaims(1 users)"
