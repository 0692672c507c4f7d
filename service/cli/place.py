"""Where the book is: the flags that every command takes, and opening it with them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

from cyclopts import Group, Parameter

from service.cli.speech import note

if TYPE_CHECKING:
    from events.keys import Keyring
    from events.log import EventLog
    from projections.projection import AnyProjection
    from projections.store import ReadModels
    from service.book import Book, StoreAddress
    from service.settings import Settings

WHERE: Final = Group("Where the book is, and how to tell", sort_key=9)


@Parameter(name="*", group=WHERE)
@dataclass(frozen=True)
class Place:
    """The flags that every command takes."""

    store: Annotated[str | None, Parameter(metavar="URL", help="The store, sqlite:PATH [sqlite:gatebook.db].")] = None
    master_key_file: Annotated[Path | None, Parameter(metavar="FILE", help="The file of the master key.")] = None
    config: Annotated[Path | None, Parameter(metavar="FILE", help="A TOML file of settings.")] = None
    json: Annotated[bool, Parameter(negative="", show_default=False, help="Objects, one a line, not text.")] = False


HERE: Final = Place()


def settings_of(place: Place, flags: Mapping[str, object] | None = None) -> Settings:
    """The settings with these flags over the environment and the file; SettingsError as `read_settings`."""
    from service.settings_sources import read_settings

    own = {"store": place.store, "master_key_file": place.master_key_file}
    return read_settings({**own, **(flags or {})}, config=place.config)


def address_of(settings: Settings) -> StoreAddress:
    """Where the settings say that the store is; StoreUnavailableError for what no store of ours serves."""
    from service.book import parse_address

    return parse_address(settings.store, settings.master_key, settings.master_key_file)


@contextmanager
def opened(settings: Settings) -> Iterator[Book]:
    """The book with its keys, which must be there; the errors of `open_book`."""
    from service.book import open_book

    book = open_book(address_of(settings))
    try:
        yield book
    finally:
        book.close()


@dataclass(frozen=True)
class Readable:
    """A book for reading: with its keys where they are at hand, with everything sealed where they are not."""

    log: EventLog
    read_models: ReadModels
    projections: tuple[AnyProjection, ...]
    keyring: Keyring | None


@contextmanager
def readable(settings: Settings) -> Iterator[Readable]:
    """The book; a note on stderr says when its keys are not at hand. StoreError when the log cannot be opened."""
    from events.errors import MasterKeyError, StoreError
    from events.sqlite import SQLiteLog
    from projections.catalogue import all_projections
    from projections.names import Tagger
    from projections.sqlite import SQLiteReadModels

    address = address_of(settings)
    # The log by itself first: what is wrong with it is no matter of keys.
    log = SQLiteLog(address.path, create=False)
    with ExitStack() as closing:
        closing.callback(log.close)
        try:
            book = closing.enter_context(opened(settings))
        except (MasterKeyError, StoreError) as error:
            note(f"Without keys, personal fields stay sealed. {error}")
            projections = all_projections(Tagger(bytes(32)))
            yield Readable(log, SQLiteReadModels(log.connection, log.path, projections), projections, None)
        else:
            yield Readable(book.log, book.read_models, book.projections, book.keyring)
