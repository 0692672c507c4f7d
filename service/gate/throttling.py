"""Which throttles an attempt counts against: tags of the account seen from a network, of a device, and of the address.

The tags are HMAC-SHA-256 under a key that is replaced, and destroyed, after 30 days: what was counted before cannot be
traced to anybody then, not even by us.
"""

from __future__ import annotations

import hmac
from datetime import datetime, timedelta
from typing import Final

from msgspec import Struct

from events.errors import StoreError
from events.keys import Keyring
from service.decisions.throttling import Limit
from service.errors import Unavailable
from service.networks import is_ipv6, is_loopback, network_of, one_address

KEY_NAME: Final = "throttles"
KEY_LIFETIME: Final = timedelta(days=30)
ADDRESSES_OF_A_SITE: Final = 10
"""What one site of IPv6 (/48) may fail in all is as much as so many addresses (/64) may."""


class ThrottlePolicy(Struct, frozen=True):
    """What is free before one has to wait, and the longest that one has to.

    Failures of an account from one network, or from one device that it knows; failures from one address; registrations
    from one address, refused ones of names that are taken included. `address_in_flight` is how many attempts from one
    address may be under way in this process.
    """

    account_failures: int = 5
    address_failures: int = 100
    registrations: int = 20
    address_in_flight: int = 20
    longest: timedelta = timedelta(minutes=15)


class Throttling:
    """Names the throttles of an attempt."""

    def __init__(self, keyring: Keyring, policy: ThrottlePolicy) -> None:
        self._keyring = keyring
        self.policy = policy
        self._made_at: datetime | None = None
        self._key = b""

    def limits(
        self, account: str | None, address: str | None, now: datetime, device: str | None = None
    ) -> tuple[Limit, ...]:
        """The throttles that an attempt counts against. `account` is anything that stands for one account.

        A `device` that is known for the account has a throttle to itself: what others fail at is not counted there, and
        its own failures nowhere else. This machine's own address has no throttle: everybody comes from there when a
        proxy stands in front.

        Raises Unavailable when the key store cannot say, or has no room for the first key.
        """
        policy = self.policy
        if device is not None:
            key = self._tag("device", f"{account}\x00{device}", now)
            return (Limit(key, policy.account_failures, policy.longest),)
        limits = []
        if account is not None:
            key = self._tag("account", f"{account}\x00{network_of(address)}", now)
            limits.append(Limit(key, policy.account_failures, policy.longest))
        return (*limits, *self._of_address("address", address, policy.address_failures, now))

    def naming_limits(self, address: str | None, now: datetime) -> tuple[Limit, ...]:
        """The throttles that count registrations, and names found taken; this machine has none here either.

        Raises Unavailable as `limits`.
        """
        return self._of_address("registration", address, self.policy.registrations, now)

    def origin(self, address: str | None, now: datetime) -> str | None:
        """The tag by which the guests of one address are counted; this machine's own address counts as any other.

        Raises Unavailable as `limits`.
        """
        return None if address is None else self._tag("guests", one_address(address), now)

    def rotate(self, now: datetime) -> bool:
        """Makes the key where there is none yet, and replaces one that is 30 days old; says whether it replaced one."""
        self._keyring.service_key(KEY_NAME, now)
        return self._keyring.rotate_service_key(KEY_NAME, now, now - KEY_LIFETIME)

    def _of_address(self, kind: str, address: str | None, free: int, now: datetime) -> tuple[Limit, ...]:
        """What is counted by address, and of IPv6 by site too. A success never clears it.

        One good password must not pay for guesses at everybody else's.
        """
        if address is None or is_loopback(address):
            return ()
        counted = {one_address(address): free}
        if is_ipv6(address):
            counted[network_of(address)] = free * ADDRESSES_OF_A_SITE
        return tuple(
            Limit(self._tag(kind, who, now), most, self.policy.longest, outlives_success=True)
            for who, most in counted.items()
        )

    def _tag(self, kind: str, what: str, now: datetime) -> str:
        # Read again once it may have been replaced, here or by another process on the same store.
        if self._made_at is None or now - self._made_at >= KEY_LIFETIME:
            try:
                self._made_at, self._key = self._keyring.dated_service_key(KEY_NAME, now)
            except StoreError as error:
                raise Unavailable(str(error)) from error
        return f"{kind}:{hmac.digest(self._key, what.encode('utf-8', 'surrogatepass'), 'sha256').hex()}"
