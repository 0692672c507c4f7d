"""The book as one thing: log, read models and keys that belong together, opened from one store address.

The three live beside each other: `gatebook.db` (log and read models), `gatebook.keys.db` (wrapped keys) and, unless the
settings give the master key, `gatebook.master-key`.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from events.errors import CorruptStoreError, MasterKeyError, StoreUnavailableError
from events.keys import Keyring, KeyStore, MasterKey
from events.keys_sqlite import SQLiteKeyStore
from events.log import EventLog
from events.memory import MemoryKeyStore, MemoryLog
from events.sqlite import SQLiteLog
from projections.catalogue import all_projections
from projections.memory import MemoryReadModels
from projections.names import KEY_NAME, Tagger
from projections.projection import AnyProjection
from projections.rebuild import FreshTable
from projections.sqlite import SQLiteReadModels
from projections.sqlite_rebuild import SQLiteFreshTable
from projections.sqlite_verify import SQLiteEvidence
from projections.store import ReadModels
from projections.verify import Evidence

SCHEME: Final = "sqlite:"


class StoreAddress(Struct, frozen=True):
    """Where a store is: the files that belong to it, and the master key when the settings give one."""

    path: Path
    master_key: str | None = None
    master_key_file: Path | None = None

    def __repr__(self) -> str:
        return f"StoreAddress({self.path})"

    @property
    def keys_path(self) -> Path:
        """The file of the wrapped keys."""
        return self.path.with_name(f"{self.path.stem}.keys{self.path.suffix}")

    @property
    def master_path(self) -> Path:
        """The file of the master key, where the settings give none."""
        return self.master_key_file or self.path.with_name(f"{self.path.stem}.master-key")


def parse_address(store: str, master_key: str | None = None, master_key_file: Path | None = None) -> StoreAddress:
    """The address out of `sqlite:PATH`; StoreUnavailableError for what no store of ours serves."""
    if not store.startswith(SCHEME) or not store.removeprefix(SCHEME):
        raise StoreUnavailableError("The store must be given as sqlite:PATH, for example sqlite:gatebook.db.")
    return StoreAddress(Path(store.removeprefix(SCHEME)), master_key, master_key_file)


class Book:
    """A log, its read models and its keys, for one thread.

    `names` is the projection that folds with keys, at hand for whoever needs a tag.
    """

    def __init__(
        self, log: EventLog, keys: KeyStore, master: MasterKey, read_models: Callable[..., ReadModels]
    ) -> None:
        self.log = log
        self.keys = keys
        self.keyring = Keyring(master, keys)
        # Made anew it would find none of the names that the book holds, and everyone's could be taken again.
        if keys.service_key(KEY_NAME) is None and log.head().position:
            raise CorruptStoreError("The key store has lost the key of names; restore it from a backup.")
        self.tag = Tagger(self.keyring.service_key(KEY_NAME, datetime.now(UTC)))
        self.projections: tuple[AnyProjection, ...] = all_projections(self.tag)
        self.read_models = read_models(self.projections)
        self._decoders = {p.name: msgspec.json.Decoder(p.document) for p in self.projections}

    def projection(self, name: str) -> AnyProjection | None:
        """The projection of that name."""
        return next((projection for projection in self.projections if projection.name == name), None)

    def outdated(self) -> list[AnyProjection]:
        """The projections whose read model is to be rebuilt; NewerStoreError when a newer gatebook wrote one."""
        return self.read_models.outdated()

    def document(self, projection: AnyProjection, key: str) -> Any:  # noqa: ANN401 - the document of any projection
        """The document under the key as it was committed last; a point lookup."""
        stored = self.read_models.get(projection, key)
        return None if stored is None else self.decode(projection, stored)

    def decode(self, projection: AnyProjection, stored: bytes) -> Any:  # noqa: ANN401 - the document of any projection
        """A document out of its stored bytes."""
        return self._decoders[projection.name].decode(stored)

    def close(self) -> None:
        """Closes log and keys; the book is not used again."""
        self.log.close()
        self.keys.close()


def open_book(
    address: StoreAddress, *, create: bool = False, vfs: str | None = None, said: Callable[[str], None] = lambda _: None
) -> Book:
    """Opens the store, making it where `create` allows; `said` hears a sentence when a master key was made.

    Raises the errors of `events.errors`, with nothing changed.
    """
    log = SQLiteLog(address.path, create=create, vfs=vfs)
    try:
        # Keys are made only for a book without entries: new ones for an old book would read nothing that it holds.
        fresh = create and log.head().position == 0
        keys = _open_keys(address, log.book_id, fresh=fresh, vfs=vfs, said=said)
        try:
            return _assemble(log, *keys, create=create)
        except BaseException:
            keys[0].close()
            raise
    except BaseException:
        log.close()
        raise


def fresh_table(book: Book, projection: AnyProjection) -> FreshTable:
    """A table beside the projection's live one, for `projections.rebuild`."""
    return SQLiteFreshTable(book.log, book.read_models, projection)


def evidence(book: Book) -> Evidence:
    """What the store shows of itself, for `projections.verify`."""
    return SQLiteEvidence(book.log, book.read_models)


def memory_book() -> Book:
    """A book in memory, for tests of what stands above it."""
    log = MemoryLog()
    return Book(log, MemoryKeyStore(log.book_id), MasterKey(bytes(32)), MemoryReadModels)


def _assemble(log: SQLiteLog, keys: KeyStore, master: MasterKey, *, create: bool) -> Book:
    def read_models(projections: tuple[AnyProjection, ...]) -> SQLiteReadModels:
        models = SQLiteReadModels(log.connection, log.path, projections)
        if create and log.head().position == 0:
            with log.transaction():
                models.create()
        return models

    return Book(log, keys, master, read_models)


def _open_keys(
    address: StoreAddress, book_id: str, *, fresh: bool, vfs: str | None, said: Callable[[str], None]
) -> tuple[KeyStore, MasterKey]:
    master = _master_key(address, fresh=fresh, said=said)
    return SQLiteKeyStore(address.keys_path, book_id, master, create=fresh, vfs=vfs), master


def _master_key(address: StoreAddress, *, fresh: bool, said: Callable[[str], None]) -> MasterKey:
    if address.master_key is not None:
        return MasterKey.from_text(address.master_key)
    if not address.master_path.exists():
        if not fresh:
            raise MasterKeyError(
                f"The master key file {address.master_path} is missing, and this book has entries; restore the file,"
                " or give the key as GATEBOOK_MASTER_KEY."
            )
        try:
            made = MasterKey.create_file(address.master_path)
        except FileExistsError:
            # Another process started at the same moment and was first.
            return MasterKey.from_file(address.master_path)
        said(
            f"made a master key in {address.master_path} (mode 0600); keep a copy in a safe place, apart from the store"
        )
        return made
    return MasterKey.from_file(address.master_path)
