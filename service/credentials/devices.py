"""Devices: what a client keeps from a login, to be known again at the next one, even while its account is under attack.

It lets nobody in. Whoever shows one for the account that they log in to has failures of their own to be counted
against, so that guesses which others make keep nobody out who has been here before (OWASP calls it a device cookie).
"""

from __future__ import annotations

import secrets

from msgspec import Struct

from events.keys import Keyring
from service.batch import Clock, utc_now
from service.credentials.rotating_seal import RotatingSeal

__all__ = ["DeviceClaims", "Devices"]

ID_BYTES = 16
MOST_USERS = 5
"""Accounts that one device is known for: those that logged in last."""


class DeviceClaims(Struct, frozen=True, forbid_unknown_fields=True):
    """Which device it is, and the accounts that logged in from it, the latest first."""

    device: str
    users: tuple[int, ...]

    def __repr__(self) -> str:
        return f"DeviceClaims({len(self.users)} users)"


class Devices:
    """Recognises devices. Both methods raise Unavailable and InternalError when the keys cannot be read."""

    def __init__(self, keyring: Keyring, clock: Clock = utc_now) -> None:
        self.seal: RotatingSeal[DeviceClaims] = RotatingSeal(DeviceClaims, "devices-", keyring, clock)

    def recognised(self, shown: str | None, user_id: int | None) -> str | None:
        """Which device it is that shows this; None for one that this account has not logged in from.

        Nobody's account, None, knows none; what is shown is opened all the same.
        """
        claims = self._claims(shown)
        return claims.device if claims is not None and user_id in claims.users else None

    def after_login(self, shown: str | None, user_id: int) -> str:
        """What the device is to keep from now on: whatever it showed may be out of date, or somebody else's."""
        claims = self._claims(shown) or DeviceClaims(secrets.token_urlsafe(ID_BYTES), ())
        users = (user_id, *(other for other in claims.users if other != user_id))[:MOST_USERS]
        return self.seal.seal(DeviceClaims(claims.device, users))

    def _claims(self, shown: str | None) -> DeviceClaims | None:
        return None if shown is None else self.seal.open(shown)
