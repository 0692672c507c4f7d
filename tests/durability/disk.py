"""A disk of which it is known what was synced: a VFS that notes every write and sync, and what a power cut leaves."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any, Final, Literal

import apsw
from msgspec import Struct

Image = dict[str, bytes]
"""Files by name, as they would be found after the power came back."""

SECTOR: Final = 512
_IN_A_JOURNAL: Final = apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_MAIN_JOURNAL
_numbers: Final = count(1)
_registered: Final[list[apsw.VFS]] = []


class Act(Struct, frozen=True):
    """Something that was done to a file. `lost` is a sync that failed: what it should have covered never arrives.

    `folder` is a sync of the whole folder's names beside the file's bytes.
    """

    file: str
    kind: Literal["write", "truncate", "delete", "sync", "folder", "lost"]
    offset: int = 0
    data: bytes = b""


class Disk:
    """Notes, in order, what SQLite does to its files while they are opened through the VFS `name`.

    `failing` may refuse an act before it is done, with a result code of SQLite's.
    """

    def __init__(self) -> None:
        self.name = f"noting-{next(_numbers)}"
        self.acts: list[Act] = []
        self.failing: Callable[[Act], int | None] = lambda _: None
        self.lock = threading.Lock()

    def note(self, act: Act, done: Callable[[], None]) -> None:
        """Does it and notes it, one at a time."""
        with self.lock:
            code = self.failing(act)
            if code is None:
                done()
                self.acts.append(act)
                return
            if act.kind in {"sync", "folder"}:
                # Linux marks the pages clean all the same: no later sync writes them.
                self.acts.append(Act(act.file, "lost"))
            raise apsw.exception_for(code)

    def now(self) -> int:
        """How many acts there were until now."""
        return len(self.acts)


class _File(apsw.VFSFile):
    """One open file."""

    def __init__(self, disk: Disk, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        super().__init__("", name, flags)
        self._disk = disk
        self._file = Path(_path(name)).name
        # SQLite's unix VFS syncs the folder at the first sync of a journal that it has opened.
        self._new = bool(flags[0] & _IN_A_JOURNAL)

    def excepthook(self, *_: object) -> bool:
        """What SQLite passes over, the checkpoint's failed sync after a commit, is passed over here as well."""
        return True

    def xWrite(self, data: Any, offset: int) -> None:  # noqa: N802 - SQLite's name
        self._disk.note(Act(self._file, "write", offset, bytes(data)), lambda: super(_File, self).xWrite(data, offset))

    def xTruncate(self, newsize: int) -> None:  # noqa: N802 - SQLite's name
        self._disk.note(Act(self._file, "truncate", newsize), lambda: super(_File, self).xTruncate(newsize))

    def xSync(self, flags: int) -> None:  # noqa: N802 - SQLite's name
        kind: Literal["folder", "sync"] = "folder" if self._new else "sync"
        self._disk.note(Act(self._file, kind), lambda: super(_File, self).xSync(flags))
        self._new = False


class _VFS(apsw.VFS):
    """The default VFS of the system, noted."""

    def __init__(self, disk: Disk) -> None:
        super().__init__(disk.name, "")
        self._disk = disk

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:  # noqa: N802 - SQLite's name
        return _File(self._disk, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802 - SQLite's name
        name = Path(filename).name
        self._disk.note(Act(name, "delete"), lambda: super(_VFS, self).xDelete(filename, syncdir))
        if syncdir:
            self._disk.note(Act(name, "folder"), lambda: None)


def noting() -> Disk:
    """A disk that notes: `open_book(address, vfs=disk.name)`."""
    disk = Disk()
    # For good: a connection that a failed test left open is closed whenever Python finds it, and needs its VFS then.
    _registered.append(_VFS(disk))
    return disk


class _Version:
    """One file of a name: what of it is safe, and what was done to it since. A deleted name gets a next version."""

    def __init__(self, safe: bytes | None = None) -> None:
        self.safe = safe
        self.since: list[Act] = []

    def sync(self) -> None:
        if self.since:
            self.safe = bytes(_done(self.safe or b"", self.since))
            self.since.clear()


class Platter:
    """What is safe on the disk, act by act."""

    def __init__(self, start: Image | None = None) -> None:
        self._versions: dict[str, list[_Version]] = {name: [_Version(data)] for name, data in (start or {}).items()}

    def play(self, acts: Sequence[Act]) -> None:
        """What becomes of it through these acts."""
        for act in acts:
            versions = self._versions.setdefault(act.file, [_Version()])
            if act.kind in {"write", "truncate"}:
                versions[-1].since.append(act)
            elif act.kind == "delete":
                versions.append(_Version())
            elif act.kind == "lost":
                versions[-1].since.clear()
            else:
                versions[-1].sync()
                if act.kind == "folder":
                    for others in self._versions.values():
                        del others[:-1]
                del versions[:-1]

    def cut(self, chance: random.Random | None = None) -> Image:
        """The files after a power cut at this moment.

        Without `chance`, only what was synced is there, and every deletion that was not is undone. With it, any part of
        what was not synced may be there: some writes, some sectors of a write, in any order, and some deletions.
        """
        image: Image = {}
        for name, versions in self._versions.items():
            version = versions[0] if chance is None else chance.choice(versions)
            part = [] if chance is None else _some(version.since, chance)
            if version.safe is not None or part:
                image[name] = bytes(_done(version.safe or b"", part))
        return image


def _done(before: bytes, acts: Sequence[Act]) -> bytearray:
    data = bytearray(before)
    for act in acts:
        if act.kind == "truncate":
            del data[act.offset :]
            data.extend(bytes(act.offset - len(data)))
        else:
            data.extend(bytes(max(0, act.offset - len(data))))
            data[act.offset : act.offset + len(act.data)] = act.data
    return data


def _some(acts: Sequence[Act], chance: random.Random) -> list[Act]:
    likely = chance.choice((0.0, 0.1, 0.5, 0.9, 1.0))
    kept: list[Act] = []
    for act in acts:
        if chance.random() >= likely:
            continue
        if act.kind == "write" and chance.random() < 0.2:
            kept += (piece for piece in _sectors(act) if chance.random() < 0.5)
        else:
            kept.append(act)
    return kept


def _sectors(act: Act) -> Iterator[Act]:
    """The write in pieces that end where sectors do: a sector arrives whole, or not at all."""
    start = act.offset
    end = act.offset + len(act.data)
    while start < end:
        stop = min(end, (start // SECTOR + 1) * SECTOR)
        yield Act(act.file, "write", start, act.data[start - act.offset : stop - act.offset])
        start = stop


def _path(name: str | apsw.URIFilename | None) -> str:
    if name is None:
        raise ValueError("SQLite wants a temporary file; there should be none.")
    return name if isinstance(name, str) else name.filename()
