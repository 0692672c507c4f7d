"""What `gatebook doctor` looks at: one check after the other, each of which changes nothing."""

from __future__ import annotations

import os
import platform
import shutil
import stat
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import apsw
from msgspec import Struct

from events.errors import BookError, MasterKeyError, StoreError
from events.recorded import from_microseconds
from projections.catalogue import USERS
from service.book import Book, StoreAddress, open_book
from service.cli.accounts import opens
from service.cli.clock import check_clock
from service.cli.place import Place, address_of
from service.cli.ports import check_ports
from service.guards.versions import untested_versions
from service.settings import Settings
from service.settings_sources import settings_origins

if TYPE_CHECKING:
    from collections.abc import Callable

State = Literal["ok", "warn", "fail"]
LIBRARIES: Final = ("trio", "hypercorn", "quart", "quart-trio", "trio-websocket", "apsw", "msgspec", "cryptography")
ROOM_BYTES: Final = 256 * 1024 * 1024
"""With less room than this beside the store, a warning; with a sixteenth of it, a failure."""


class Check(Struct, frozen=True):
    """One thing that was looked at: what was found, and what to do where it is not well."""

    name: str
    state: State
    said: str
    do: str = ""


def check_all(settings: Settings, place: Place) -> Iterator[Check]:
    """Every check, in order; those of the book only where it opens."""
    yield _settings(settings, place)
    yield _versions()
    yield from check_untested()
    address = address_of(settings)
    yield from check_files(address)
    yield from _book(address, settings)
    for listener, state, said, do in check_ports(settings):
        yield Check(f"port {listener}", state, said, do)


def _settings(settings: Settings, place: Place) -> Check:
    own = {"store": place.store, "master_key_file": place.master_key_file}
    origins = settings_origins(own, config=place.config)
    shown = dict(settings.__rich_repr__())
    said = [f"{name} = {shown[name]} from {where}" for name, where in origins.items()]
    return Check("settings", "ok", "; ".join([*said, "all others at their defaults"]))


def _versions() -> Check:
    libraries = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    ours = f"gatebook {version('gatebook')}, Python {platform.python_version()}, SQLite {apsw.sqlite_lib_version()}"
    return Check("versions", "ok", f"{ours}, {libraries}")


def check_untested() -> Iterator[Check]:
    """The libraries that the guards around the listeners reach into."""
    sentences = untested_versions()
    for sentence in sentences:
        yield Check("guards", "warn", sentence, "install the locked versions: requirements/runtime.txt")
    if not sentences:
        yield Check("guards", "ok", "the libraries around the listeners are of the versions that they were tested with")


def check_files(address: StoreAddress) -> Iterator[Check]:
    """The folder, its room, and who may read what is in it."""
    folder = address.path.absolute().parent
    if not folder.is_dir():
        yield Check("folder", "fail", f"{folder} does not exist", f"mkdir -p {folder}")
        return
    if not os.access(folder, os.W_OK):
        yield Check("folder", "fail", f"{folder} cannot be written to", "run gatebook as the user whom it belongs to")
    free = shutil.disk_usage(folder).free
    state: State = "ok" if free >= ROOM_BYTES else "warn" if free >= ROOM_BYTES // 16 else "fail"
    yield Check("room", state, f"{free // 2**20:,} MiB free", "" if state == "ok" else "make room, or writes will stop")
    if address.master_key is not None:
        yield Check("master key", "ok", "comes from the settings, so it is in no file of ours")
    elif address.master_path.exists():
        yield _private("master key", address.master_path)
    for name, path in (("store file", address.path), ("key file", address.keys_path)):
        if path.exists():
            yield _private(name, path)


def _private(name: str, path: Path) -> Check:
    found = path.stat()
    mode, size = stat.S_IMODE(found.st_mode), found.st_size
    if mode & 0o077:
        advice = f"chmod 600 {path}"
        return Check(
            name, "fail" if name == "master key" else "warn", f"{path} can be read by others ({mode:04o})", advice
        )
    return Check(name, "ok", f"{path}, mode {mode:04o}, {size:,} bytes")


def _book(address: StoreAddress, settings: Settings) -> Iterator[Check]:
    if not address.path.exists():
        yield Check("store", "warn", f"there is no store at {address.path} yet", "gatebook serve makes one")
        return
    try:
        book = open_book(address)
    except MasterKeyError as error:
        yield Check("keys", "fail", str(error), "without the right master key no personal field can ever be read")
        return
    except BookError as error:
        yield Check("store", "fail", str(error), "gatebook refuses to start on it")
        return
    try:
        for check in (_store, _read_models, _keys):
            yield _tried(check, book)
        yield _clock(book, settings)
    except StoreError as error:
        yield Check("store", "fail", str(error), "restore it from a backup if this stays so")
    finally:
        book.close()


def _tried(check: Callable[[Book], Check], book: Book) -> Check:
    try:
        return check(book)
    except BookError as error:
        return Check(check.__name__.strip("_").replace("_", " "), "fail", str(error), "gatebook verify says more")


def _store(book: Book) -> Check:
    head = book.log.head()
    last = from_microseconds(head.at).isoformat() if head.position else "never"
    return Check("store", "ok", f"book {book.log.book_id}, head at position {head.position}, written last {last}")


def _read_models(book: Book) -> Check:
    behind = [projection.name for projection in book.outdated()]
    if behind:
        names = ", ".join(behind)
        return Check("read models", "fail", f"behind the book: {names}", "gatebook projections rebuild --all")
    return Check("read models", "ok", f"all at the head: {', '.join(sorted(book.read_models.states()))}")


def _keys(book: Book) -> Check:
    rows = book.read_models.scan(USERS, limit=1)
    if not rows:
        return Check("keys", "ok", "the master key is the right one; there is no account yet to try it on")
    broken = opens(book, book.decode(USERS, rows[0].document))
    if broken is not None:
        return Check("keys", "fail", str(broken), "restore the key store that belongs to this book")
    return Check("keys", "ok", "the master key is the right one, and an account opens")


def _clock(book: Book, settings: Settings) -> Check:
    return Check("clock", *check_clock(book.log, datetime.now(UTC), timedelta(seconds=settings.clock_skew_seconds)))
