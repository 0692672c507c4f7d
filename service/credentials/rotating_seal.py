"""What a client keeps for us, sealed under keys that rotate without its noticing.

The seal is Fernet (AES-128-CBC, then HMAC-SHA-256), as the library `cryptography` has it. Each period of thirty days
has a key of its own in the key store; those of earlier periods go on opening what they sealed until they are destroyed.
"""

from __future__ import annotations

import base64
from datetime import datetime, timedelta
from typing import Final, Generic, TypeVar

import msgspec
from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from events.errors import BookError, SealError, StoreError
from events.keys import Keyring
from events.recorded import EPOCH
from service.batch import FATAL, Clock, utc_now
from service.errors import InternalError, Unavailable

PERIOD: Final = timedelta(days=30)
AHEAD: Final = timedelta(hours=1)
"""A key is made this long before its period begins: processes whose clocks differ all have it when it is first used."""
LOOK_AGAIN: Final = timedelta(seconds=1)
LONGEST: Final = 512
"""Characters of what is sealed; the longest cookie of a session has 228, the longest of a device 300."""

T = TypeVar("T")


class RotatingSeal(Generic[T]):
    """Seals claims of one type and opens them, with the keys at hand. Used by one thread, as its keyring is.

    `prefix` is what the names of its keys begin with. Another process on the same store may have made a key or
    destroyed one: the store is looked into when a period begins, and at most once a second when something does not
    open.
    """

    def __init__(self, claims: type[T], prefix: str, keyring: Keyring, clock: Clock = utc_now) -> None:
        self._decoder = msgspec.json.Decoder(claims)
        self._prefix = prefix
        self._keyring = keyring
        self._clock = clock
        self._keys: dict[int, Fernet] = {}
        self._looked_at: datetime | None = None
        self._trouble: BookError | None = None

    def seal(self, claims: T) -> str:
        """The claims, sealed under the newest key. Raises Unavailable when there is none, or none can be read."""
        return self._newest().encrypt(msgspec.json.encode(claims)).decode("ascii")

    def check(self) -> None:
        """Raises what `seal` would raise, for whoever writes something down that it is to tell of."""
        self._newest()

    def open(self, value: str) -> T | None:
        """What it says; None when it is nothing that was sealed over this store, whatever it is.

        Raises Unavailable or InternalError when that cannot be told, because the keys cannot be read.
        """
        if len(value) > LONGEST or not _is_written_by_us(value):
            return None
        now = self._clock()
        self._prepare(now)
        claims = self._opened(value)
        if claims is None and self._look(now):
            claims = self._opened(value)
        if claims is None:
            self._refuse_trouble()
        return claims

    def rotate(self, now: datetime) -> None:
        """Sees to it that there is a key for now, and in time for what comes next. Whoever is first makes it.

        Raises DurabilityError or CorruptStoreError, also when it was a request that met it.
        """
        self._prepare(now)
        if isinstance(self._trouble, FATAL):
            raise self._trouble

    def spent(self, before: datetime) -> list[str]:
        """The names of the keys whose period was over by that moment."""
        return [name for name in self._keyring.service_key_names(self._prefix) if self._end(name) <= before]

    def destroy(self, names: list[str]) -> None:
        """Destroys these keys: nothing that was sealed under them opens any more."""
        for name in names:
            self._keyring.destroy_service_key(name)
            self._keys.pop(self._number(name), None)

    def _number(self, name: str) -> int:
        return int(name.removeprefix(self._prefix))

    def _end(self, name: str) -> datetime:
        return EPOCH + (self._number(name) + 1) * PERIOD

    def _newest(self) -> Fernet:
        now = self._clock()
        self._prepare(now)
        # No room for a new key is no reason to send anybody away: that of the period before still is a secret.
        periods = [period for period in self._keys if period <= _period(now)]
        if not periods:
            self._refuse_trouble()
            raise Unavailable("the key store has no key for what clients keep, and no room for one")
        return self._keys[max(periods)]

    def _prepare(self, now: datetime) -> None:
        if not self._keys.keys() >= {_period(now), _period(now + AHEAD)}:
            self._look(now)

    def _look(self, now: datetime) -> bool:
        """Takes the keys from the store and makes what is missing, unless that was tried just now."""
        if self._looked_at is not None and timedelta() <= now - self._looked_at < LOOK_AGAIN:
            return False
        if isinstance(self._trouble, FATAL):
            return False
        self._looked_at, self._trouble = now, None
        try:
            kept = self._keyring.service_keys(self._prefix)
            self._keys = {self._number(name): _fernet(key) for name, key in kept.items()}
        except (StoreError, SealError) as error:
            self._trouble = error
            return False
        try:
            for period in (_period(now), _period(now + AHEAD)):
                if period not in self._keys:
                    self._keys[period] = _fernet(self._keyring.service_key(f"{self._prefix}{period}", now))
        except FATAL as error:
            self._trouble = error
        except StoreError:
            # Not now. What is sealed already opens under the keys that there are.
            pass
        return True

    def _opened(self, value: str) -> T | None:
        newest_first = sorted(self._keys, reverse=True)
        try:
            return self._decoder.decode(MultiFernet(self._keys[period] for period in newest_first).decrypt(value))
        except (InvalidToken, msgspec.MsgspecError, ValueError):
            # ValueError: there is no key at all. What is no claims was sealed by another gatebook than this one.
            return None

    def _refuse_trouble(self) -> None:
        if isinstance(self._trouble, StoreError):
            raise Unavailable(str(self._trouble)) from self._trouble
        if self._trouble is not None:
            raise InternalError from self._trouble


def _period(moment: datetime) -> int:
    return (moment - EPOCH) // PERIOD


def _fernet(key: bytes) -> Fernet:
    return Fernet(base64.urlsafe_b64encode(key))


def _is_written_by_us(value: str) -> bool:
    """Whether it is base64 as we write it: the library would pass over characters that do not belong there."""
    try:
        return base64.urlsafe_b64encode(base64.urlsafe_b64decode(value)).decode("ascii") == value
    except ValueError:
        return False
