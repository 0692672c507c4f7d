"""`gatebook keys`: the keys that sign access tokens, and having them followed by others, while the service runs too."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final

from cyclopts import App, Parameter

from events.recorded import EPOCH
from service.cli.accounts import carry_out
from service.cli.exits import Exit
from service.cli.place import HERE, Place, opened, settings_of
from service.cli.speech import cell, print_line, print_object, print_table
from service.credentials.signing_keys import PURPOSE, SigningKeys
from service.decisions.keys import RotateKey

if TYPE_CHECKING:
    from service.credentials.key_terms import Term

SHOWN: Final = ("number", "kid", "state", "signs_from", "over_at")

app: Final = App(
    name="keys",
    help="List and rotate the keys that sign access tokens. What is shown of a key is its public name, never the key.",
    help_epilogue="Example: `gatebook keys list`",
)


@app.command(name="list", help_epilogue="Examples: `gatebook keys list` · `gatebook keys list --json`")
def list_keys(*, place: Place = HERE) -> int:
    """List the keys that are told to the public, the oldest first: since when each signs, when it is over.

    A key without a `kid` is made when somebody needs it.
    """
    with opened(settings_of(place)) as book:
        rows = _rows(SigningKeys(book.log, book.keyring), datetime.now(UTC))
    if place.json:
        for one in rows:
            print_object(one)
    else:
        print_table(SHOWN, (list(one.values()) for one in rows))
    return Exit.DONE


@app.command(help_epilogue="Examples: `gatebook keys rotate` · `gatebook keys rotate --at-once`")
def rotate(*, at_once: Annotated[bool, Parameter(negative="", show_default=False)] = False, place: Place = HERE) -> int:
    """Have another key follow the one that signs: told to the public now, it signs in five minutes.

    What the key before it signed counts until it is over; then that key is destroyed.

    :param at_once: Sign with it from now on, and take nothing that was signed before: for a key that others may have.
    """
    settings = settings_of(place)
    with opened(settings) as book:
        position = carry_out(book, settings, RotateKey(PURPOSE, at_once))[-1].position
        # Made here and now, so that its name can be told, and the public hears of it as early as can be.
        keys = SigningKeys(book.log, book.keyring)
        keys.published()
        row = next(one for one in _rows(keys, datetime.now(UTC)) if one["number"] == position)
    if place.json:
        print_object(row)
    elif at_once:
        print_line(f"The key {row['kid']} signs from now on, and nothing signed before is taken (position {position}).")
    else:
        print_line(f"The key {row['kid']} is the next, and signs from {cell(row['signs_from'])} (position {position}).")
    return Exit.DONE


def _rows(keys: SigningKeys, now: datetime) -> list[dict[str, Any]]:
    terms = keys.terms(now)
    signs = next((term.number for term in reversed(terms) if term.signs_from <= now), None)
    return [_row(keys, term, signs) for term in terms]


def _row(keys: SigningKeys, term: Term, signs: int | None) -> dict[str, Any]:
    key = keys.key(term.number)
    if key is None:
        state = "not made"
    elif term.number == signs:
        state = "signs"
    else:
        state = "verifies" if signs is not None and term.number < signs else "next"
    return {
        "number": term.number,
        "kid": None if key is None else key.kid,
        "state": state,
        "signs_from": None if term.signs_from == EPOCH else term.signs_from,
        "over_at": term.over_at,
    }
