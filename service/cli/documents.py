"""Documents of projections as the command line shows them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from events.errors import SealError
from service.cli.exits import NothingThereError
from service.cli.speech import cell, print_line, print_object
from service.inspection import shown
from service.shown import REDACTED

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from msgspec import Struct

    from events.keys import Keyring
    from projections.projection import AnyProjection


def projection_named(projections: Sequence[AnyProjection], name: str) -> AnyProjection:
    """The projection of that name; NothingThereError with the names that there are."""
    for projection in projections:
        if projection.name == name:
            return projection
    names = [projection.name for projection in projections]
    listed = ", ".join(names)
    near = difflib.get_close_matches(name, names, n=1)
    raise NothingThereError(
        f"There is no projection of that name; {f'did you mean {near[0]}?' if near else f'there are {listed}.'}"
    )


def document_object(projection: str, key: str, doc: Struct, keyring: Keyring | None) -> dict[str, Any]:
    """A document as one object: personal fields opened where there are keys, without what is never shown."""
    return {"projection": projection, "key": key, "document": shown(doc, keyring or _without_keys)}


def print_documents(documents: Iterable[dict[str, Any]], *, as_json: bool) -> None:
    """Each on a line."""
    for one in documents:
        if as_json:
            print_object(one)
        else:
            said = ((name, cell(value)) for name, value in one["document"].items() if value != REDACTED)
            print_line(f"{one['key']}  {'  '.join(f'{name}={value}' for name, value in said if value)}")


def _without_keys(_subject: int) -> AESGCM:
    raise SealError("the keys are not at hand")
