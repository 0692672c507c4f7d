"""The session cookie: a session token and whose it is, sealed; nobody is logged out when the keys rotate."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from events.keys import Keyring
from service.batch import Clock, utc_now
from service.credentials.rotating_seal import RotatingSeal

__all__ = ["CookieClaims", "Cookies"]


class CookieClaims(Struct, frozen=True, forbid_unknown_fields=True):
    """What a cookie says: the session token, the account's id or the guest's, and 1 for a guest."""

    at: str
    user_id: int
    guest: Literal[0, 1]

    def __repr__(self) -> str:
        return f"CookieClaims(user_id={self.user_id}, guest={self.guest})"


class Cookies(RotatingSeal[CookieClaims]):
    """Seals and opens cookies."""

    def __init__(self, keyring: Keyring, clock: Clock = utc_now) -> None:
        super().__init__(CookieClaims, "cookies-", keyring, clock)
