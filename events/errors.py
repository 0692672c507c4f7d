"""Every error that the book raises, in one file. Each says who raises it and what it is not."""

from __future__ import annotations


class BookError(Exception):
    """Base of all errors of the log, its entries, its keys and its read models."""


class StoreError(BookError):
    """Base of the errors of a store as a whole. The sentence says what was refused, why, and what to do."""


class NotOurStoreError(StoreError):
    """Opening: the file exists and is not a gatebook store (another application's database, or no database)."""


class NewerStoreError(StoreError):
    """Opening or appending: the store was written by a newer gatebook than this one. Nothing was changed."""


class OlderStoreError(StoreError):
    """Appending: the store's read models were written by an older gatebook; they are rebuilt at the next start."""


class CorruptStoreError(StoreError):
    """Any use: the database says of itself that it is damaged. Not raised for a book that fails `verify`."""


class UnreadableTextError(CorruptStoreError):
    """Reading: a column of text holds bytes that are no text, which nothing of ours has written."""


class StoreFullError(StoreError):
    """Appending: there is no room. Nothing of the batch was written; the next one may be tried."""


class RebuildUnderWayError(StoreError):
    """Rebuilding: somebody else is rebuilding the same read model. Nothing was changed."""


class StoreBusyError(StoreError):
    """Appending: another process kept the write lock longer than the bound. Nothing was written."""


class StoreUnavailableError(StoreError):
    """Opening or reading: the file cannot be opened, read or locked (permissions, a missing folder, an I/O error)."""


class DurabilityError(StoreError):
    """Committing: an fsync failed. What is on disk is unknown, so the process ends; it is never tried again."""


class EntryError(BookError):
    """Base of the errors of one entry."""


class EntryTooLargeError(EntryError):
    """Encoding: the entry would be longer than `MAX_ENTRY_BYTES`. Nothing was written."""


class UndecodableEntryError(EntryError):
    """Reading: the bytes are no entry that this catalogue, with its upcasters, understands."""

    def __init__(self, position: int, reason: str) -> None:
        self.position = position
        self.reason = reason
        super().__init__(f"The entry at position {position} cannot be decoded: {reason}")


class FoldError(BookError):
    """Folding: a projection failed on an event. `position` and `projection` name the place."""

    def __init__(self, projection: str, position: int, reason: str) -> None:
        self.projection = projection
        self.position = position
        self.reason = reason
        super().__init__(f"The projection {projection} failed on position {position}: {reason}")


class SealError(BookError):
    """Base of the errors of sealing and opening."""


class MasterKeyError(SealError):
    """Opening the keys: the master key is missing, malformed, too openly readable, or not the one of these keys."""


class SubjectKeyMissingError(SealError):
    """Opening a value: there is no key for its subject in the key store."""

    def __init__(self, subject: int) -> None:
        self.subject = subject
        super().__init__(f"There is no key for subject {subject} in the key store.")


class SealBrokenError(SealError):
    """Opening a value: its bytes do not authenticate under the subject's key at that stream, position and field."""
