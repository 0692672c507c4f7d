"""What counts as one address for the throttles."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from service.book import memory_book
from service.errors import BadCredentials, Throttled
from service.gate.attempts import Client
from service.gate.throttling import ADDRESSES_OF_A_SITE, ThrottlePolicy, Throttling
from tests.house import house

WRONG = "plover-Cistern-88-gravity"
FREE = 3


async def test_the_addresses_of_one_ipv6_network_are_one_address(tmp_path: Path) -> None:
    """Whoever has an IPv6 address has 2⁶⁴ of them."""
    async with house(tmp_path, policy=ThrottlePolicy(address_failures=FREE)) as at:
        for number in range(FREE):
            with pytest.raises(BadCredentials):
                await at.gate.log_in(Client("test", f"2001:db8::{number + 1:x}"), f"nobody{number}", WRONG)
        with pytest.raises(Throttled):
            await at.gate.log_in(Client("test", "2001:db8::ffff"), "somebody", WRONG)
        with pytest.raises(BadCredentials):
            await at.gate.log_in(Client("test", "2001:db8:0:1::1"), "somebody", WRONG)


async def test_an_account_is_not_guessed_from_every_network_of_one_site(tmp_path: Path) -> None:
    """CWE-307: a site has 65,536 networks of IPv6, and each of them would have its free guesses at one account."""
    async with house(tmp_path, policy=ThrottlePolicy(account_failures=FREE)) as at:
        for number in range(FREE):
            with pytest.raises(BadCredentials):
                await at.gate.log_in(Client("test", f"2001:db8:1:{number:x}::1"), "nobody", WRONG)
        with pytest.raises(Throttled):
            await at.gate.log_in(Client("test", "2001:db8:1:ffff::1"), "nobody", WRONG)
        with pytest.raises(BadCredentials):
            await at.gate.log_in(Client("test", "2001:db8:2::1"), "nobody", WRONG)


async def test_a_site_has_the_guesses_of_ten_addresses_at_all_accounts(tmp_path: Path) -> None:
    async with house(tmp_path, policy=ThrottlePolicy(address_failures=2)) as at:
        for number in range(2 * ADDRESSES_OF_A_SITE):
            with pytest.raises(BadCredentials):
                await at.gate.log_in(Client("test", f"2001:db8:1:{number:x}::1"), f"nobody{number}", WRONG)
        with pytest.raises(Throttled):
            await at.gate.log_in(Client("test", "2001:db8:1:ffff::1"), "somebody", WRONG)
        with pytest.raises(BadCredentials):
            await at.gate.log_in(Client("test", "2001:db8:2::1"), "somebody", WRONG)


async def test_an_ipv4_address_is_the_same_through_an_ipv6_socket_and_no_network(tmp_path: Path) -> None:
    async with house(tmp_path, policy=ThrottlePolicy(address_failures=1)) as at:
        with pytest.raises(BadCredentials):
            await at.gate.log_in(Client("test", "192.0.2.7"), "nobody1", WRONG)
        with pytest.raises(Throttled):
            await at.gate.log_in(Client("test", "::ffff:192.0.2.7"), "nobody2", WRONG)
        with pytest.raises(BadCredentials):
            await at.gate.log_in(Client("test", "192.0.2.8"), "nobody3", WRONG)


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"])
def test_this_machines_own_address_has_no_throttle_since_a_proxy_speaks_from_it(address: str) -> None:
    book = memory_book()
    throttling = Throttling(book.keyring, ThrottlePolicy())
    [limit] = throttling.limits("user 1", address, datetime(2026, 11, 21, tzinfo=UTC))
    assert limit.key.startswith("account:")
