"""Keys: one for each subject, and a few of the service's own, wrapped by the master key in a store of their own.

The log never holds a key. A key store keeps wrapped keys only; the master key comes from the settings or from a file of
mode 0600, made at the first start. Whoever has the log but not both of these reads no personal field.
"""

from __future__ import annotations

import os
import stat
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from hashlib import sha256
from itertools import islice
from pathlib import Path
from tempfile import mkstemp
from typing import Final, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from msgspec import Struct

from events.errors import MasterKeyError, SealBrokenError, SubjectKeyMissingError
from events.sealing import KEY_BYTES, NONCE_BYTES

MAX_CACHED_KEYS: Final = 10_000
_CHECK: Final = b"gatebook master key"


class ServiceKey(Struct, frozen=True):
    """A key of the service's own: its purpose, when it was made, and itself, wrapped."""

    name: str
    created_at: datetime
    wrapped: bytes


class BrokenKey(Struct, frozen=True):
    """A place in the key store, `service_key` or `subject_key` and a row of it, whose key does not open."""

    table: str
    row: str


class KeyStore(Protocol):
    """Where wrapped keys are kept. Every `put` is durable when it returns; StoreError when it could not be."""

    book_id: str

    def subject_keys(self, subjects: Iterable[int]) -> dict[int, bytes]:
        """The wrapped keys of those subjects that have one; one read for all of them."""

    def put_subject_keys(self, wrapped: Mapping[int, bytes]) -> None:
        """Keeps the keys of new subjects. One that a rolled-back batch left behind is replaced."""

    def all_subject_keys(self) -> Iterator[tuple[int, bytes]]:
        """Every subject with its wrapped key, one after the other, for whoever checks them."""

    def service_key(self, name: str) -> ServiceKey | None:
        """The service's key of that purpose."""

    def service_keys(self, prefix: str = "") -> list[ServiceKey]:
        """The service's own keys whose names begin so, in order of name; by default all of them."""

    def put_service_key(self, key: ServiceKey, *, replacing: bytes | None) -> bool:
        """Keeps the key if the present one is still `replacing` (None: there is none); says whether it did.

        What is replaced is destroyed: it can be found in no file of the store. StoreBusyError where that is not so yet,
        because somebody reads the store; the key has been replaced all the same.
        """

    def destroy_service_key(self, name: str) -> bool:
        """Destroys the key of that purpose, as one that is replaced; says whether there was one."""

    def close(self) -> None:
        """Closes the store; it is not used again."""


class MasterKey:
    """The key that wraps all others: 32 bytes, never shown."""

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise MasterKeyError(f"The master key must be {KEY_BYTES} bytes; this one has {len(key)}.")
        self._cipher = AESGCM(key)
        # A tag of the key under itself tells a wrong master key apart from a damaged key store, and gives nothing away.
        self.check = sha256(_CHECK + key).hexdigest()[:32]

    def __repr__(self) -> str:
        return "MasterKey(…)"

    def wrap(self, key: bytes, purpose: str) -> bytes:
        """The key, sealed for one purpose (`subject 17`, `names`)."""
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, key, purpose.encode())

    def unwrap(self, wrapped: bytes, purpose: str) -> bytes:
        """The key out of its wrapping; SealBrokenError when it is not one that this master key made for the purpose."""
        try:
            return self._cipher.decrypt(wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:], purpose.encode())
        except (InvalidTag, ValueError) as error:
            raise SealBrokenError(
                f"The wrapped key of {purpose} does not authenticate under the master key."
            ) from error

    @classmethod
    def from_text(cls, text: str) -> MasterKey:
        """The master key out of its base64 text; MasterKeyError, without the text, when that is not one."""
        try:
            return cls(b64decode(text.strip(), validate=True))
        except (Base64Error, ValueError) as error:
            raise MasterKeyError(f"The master key must be base64 of {KEY_BYTES} bytes.") from error

    @classmethod
    def from_file(cls, path: Path) -> MasterKey:
        """The master key in a file that only its owner may read; MasterKeyError otherwise."""
        try:
            mode = path.stat().st_mode
            text = path.read_text("ascii")
        except UnicodeDecodeError:
            # Without the error, which shows what stands in the file.
            raise MasterKeyError(f"The master key file {path} must hold base64 of {KEY_BYTES} bytes.") from None
        except OSError as error:
            raise MasterKeyError(f"The master key file {path} cannot be read: {error.strerror}.") from error
        if stat.S_IMODE(mode) & 0o077:
            raise MasterKeyError(
                f"The master key file {path} can be read by others (mode {stat.S_IMODE(mode):04o}); chmod it to 0600."
            )
        return cls.from_text(text)

    @classmethod
    def create_file(cls, path: Path) -> MasterKey:
        """A new master key, durable in a new file of mode 0600; FileExistsError when there is one already."""
        key = os.urandom(KEY_BYTES)
        try:
            # Mode 0600, under a name that nobody else has: no other thread, and no process that ended in the middle.
            descriptor, temporary = mkstemp(prefix=f"{path.name}.", suffix=".new", dir=path.parent)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(b64encode(key) + b"\n")
                    file.flush()
                    os.fsync(file.fileno())
                # A link, not a rename: two processes that start at once must not each go on with a key of their own.
                os.link(temporary, path)
            finally:
                Path(temporary).unlink()
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except FileExistsError:
            raise
        except OSError as error:
            raise MasterKeyError(f"The master key file {path} cannot be written: {error.strerror}.") from error
        return cls(key)


class Keyring:
    """Opened keys at hand: the subjects' ciphers, bounded in number, and the service's own keys.

    Used by one thread at a time; each thread that opens values has a keyring of its own.
    """

    def __init__(self, master: MasterKey, store: KeyStore) -> None:
        self._master = master
        self._store = store
        self._ciphers: dict[int, AESGCM] = {}

    def __call__(self, subject: int) -> AESGCM:
        """The subject's cipher; SubjectKeyMissingError when it has none."""
        cipher = self._ciphers.get(subject)
        if cipher is None:
            self.prepare((subject,))
            try:
                cipher = self._ciphers[subject]
            except KeyError:
                raise SubjectKeyMissingError(subject) from None
        return cipher

    def prepare(self, subjects: Iterable[int]) -> None:
        """Brings the keys of these subjects to hand with one read of the store; unknown ones are passed over."""
        missing = {subject for subject in subjects if subject not in self._ciphers}
        if not missing:
            return
        self._make_room(len(missing))
        for subject, wrapped in self._store.subject_keys(missing).items():
            self._ciphers[subject] = AESGCM(self._master.unwrap(wrapped, _of_subject(subject)))

    def create(self, subjects: Iterable[int]) -> dict[int, bytes]:
        """New keys for new subjects, at hand at once; wrapped, for the store, which must have them before the log."""
        wrapped: dict[int, bytes] = {}
        for subject in subjects:
            key = os.urandom(KEY_BYTES)
            wrapped[subject] = self._master.wrap(key, _of_subject(subject))
            self._ciphers[subject] = AESGCM(key)
        return wrapped

    def keep(self, wrapped: Mapping[int, bytes]) -> None:
        """Makes created keys durable; from then on they need not be at hand."""
        self._store.put_subject_keys(wrapped)
        self._make_room(0)

    def forget(self, subjects: Iterable[int]) -> None:
        """Drops keys from hand: of a batch that was rolled back, or of another process's making."""
        for subject in subjects:
            self._ciphers.pop(subject, None)

    def service_key(self, name: str, now: datetime) -> bytes:
        """The service's key of that purpose, made on first use."""
        return self.dated_service_key(name, now)[1]

    def dated_service_key(self, name: str, now: datetime) -> tuple[datetime, bytes]:
        """The same with the moment it was made."""
        while (present := self._store.service_key(name)) is None:
            self.replace_service_key(name, now, replacing=None)
        return present.created_at, self._master.unwrap(present.wrapped, _dated(name, present.created_at))

    def replace_service_key(self, name: str, now: datetime, *, replacing: bytes | None) -> bool:
        """A new key for that purpose; what it replaces is destroyed. False when another process came first."""
        fresh = ServiceKey(name, now, self._master.wrap(os.urandom(KEY_BYTES), _dated(name, now)))
        return self._store.put_service_key(fresh, replacing=replacing)

    def rotate_service_key(self, name: str, now: datetime, older_than: datetime) -> bool:
        """Replaces the key of that purpose if it was made before `older_than`; says whether it was replaced."""
        present = self._store.service_key(name)
        if present is None or present.created_at >= older_than:
            return False
        return self.replace_service_key(name, now, replacing=present.wrapped)

    def service_keys(self, prefix: str) -> dict[str, bytes]:
        """The service's keys whose names begin so, in order of name."""
        kept = self._store.service_keys(prefix)
        return {key.name: self._master.unwrap(key.wrapped, _dated(key.name, key.created_at)) for key in kept}

    def service_key_names(self, prefix: str) -> list[str]:
        """The names of those keys, whether or not they open."""
        return [key.name for key in self._store.service_keys(prefix)]

    def destroy_service_key(self, name: str) -> bool:
        """Destroys the service's key of that purpose; says whether there was one."""
        return self._store.destroy_service_key(name)

    def broken(self) -> Iterator[BrokenKey]:
        """Every key in the store that does not open under the master key for what it stands beside."""
        for service in self._store.service_keys():
            if not self._opens(service.wrapped, _dated(service.name, service.created_at)):
                yield BrokenKey("service_key", service.name)
        for subject, wrapped in self._store.all_subject_keys():
            if not self._opens(wrapped, _of_subject(subject)):
                yield BrokenKey("subject_key", str(subject))

    def _opens(self, wrapped: bytes, purpose: str) -> bool:
        try:
            return len(self._master.unwrap(wrapped, purpose)) == KEY_BYTES
        except SealBrokenError:
            return False

    def _make_room(self, count: int) -> None:
        # The oldest go first: keys that a batch has just created, and that are nowhere else yet, are the newest.
        surplus = len(self._ciphers) + count - MAX_CACHED_KEYS
        for subject in list(islice(self._ciphers, max(0, surplus))):
            del self._ciphers[subject]


def _of_subject(subject: int) -> str:
    """What a subject's key is wrapped for."""
    return f"subject {subject}"


def _dated(name: str, created_at: datetime) -> str:
    """What a service key is wrapped for: its age too, so that a key cannot be made to look younger than it is."""
    return f"{name} {created_at.isoformat()}"
