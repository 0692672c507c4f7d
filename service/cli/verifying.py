"""`gatebook verify`: whether the book is whole, says what its columns say, and adds up to the read models beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cyclopts import App

from projections.sqlite_verify import SQLiteEvidence
from projections.verify import verify
from service.cli.exits import Exit
from service.cli.place import HERE, Place, readable, settings_of
from service.cli.speech import flowing, note, print_line, print_object, print_table, progress_bar

if TYPE_CHECKING:
    from projections.verify import Verification

EXAMPLES: Final = """\
Examples: `gatebook verify` · `gatebook verify --json --store sqlite:/var/lib/gatebook/gatebook.db`

Positions and versions without gaps, leaves and frontier, columns against entries, seals, and for each read model three
digests: the one kept up with every write, one recomputed from its rows, and a replay's. A sound book ends in exit code
0, a fault in 1: the first one is named with its position. It works while the service runs. What it cannot find is a
book that was rewritten as a whole by somebody with the keys: note the root down elsewhere, and compare."""


def _verify(*, place: Place = HERE) -> int:
    """Verify the book and all that follows from it."""
    with readable(settings_of(place)) as book:
        evidence = SQLiteEvidence(book.log, book.read_models)
        with progress_bar("verify") as progress:
            found = verify(evidence, book.projections, keyring=book.keyring, progress=progress)
    _print(found, as_json=place.json)
    return Exit.DONE if found.fault is None else Exit.REFUSED


verify_book: Final = App(name="verify", default_command=_verify, help_epilogue=flowing(EXAMPLES))


def _print(found: Verification, *, as_json: bool) -> None:
    if as_json:
        print_object(
            {
                "ok": found.fault is None,
                "position": found.position,
                "root": found.root,
                "read_models": found.read_models,
                "fault": found.fault,
                "left_out": found.left_out,
            }
        )
        return
    if found.read_models:
        print_table(
            ("projection", "documents", "digest", ""),
            (
                (one.name, one.documents, one.maintained, "equal" if one.equal else "DIFFERS")
                for one in found.read_models
            ),
        )
    for sentence in found.left_out:
        note(sentence)
    print_line(f"position  {found.position}")
    print_line(f"root      {found.root}")
    if found.fault is None:
        print_line("The book is sound.")
    else:
        where = "" if found.fault.position is None else f" at position {found.fault.position}"
        print_line(f"FAULT{where}: {found.fault.sentence}")
