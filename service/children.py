"""Child processes of ours: how they are started, and how they are told which store is meant.

What takes long and works hard (replays, rebuilds) is done in one of these, so that it does not do it in the service's
interpreter. A child is a module of ours; what it is to do comes on its standard input, where no process list shows it.
"""

from __future__ import annotations

import sys
from pathlib import Path

from msgspec import Struct

from service.book import StoreAddress


class Store(Struct, frozen=True):
    """The address of a store, as it is handed to a child. The repr hides the master key."""

    path: str
    master_key: str | None
    master_key_file: str | None

    @classmethod
    def at(cls, address: StoreAddress) -> Store:
        """The store at that address."""
        file = address.master_key_file
        return cls(str(address.path), address.master_key, None if file is None else str(file))

    @property
    def address(self) -> StoreAddress:
        """Where the store is."""
        file = None if self.master_key_file is None else Path(self.master_key_file)
        return StoreAddress(Path(self.path), self.master_key, file)

    def __repr__(self) -> str:
        return f"Store({self.path})"


def command(module: str) -> list[str]:
    """The command line that runs a module of ours with this Python."""
    # -P: whatever lies in the directory that we were started in is not ours.
    return [sys.executable, "-P", "-m", module]
