"""How a measurement is told: what was measured, ours, beside what, the ratio, the aim."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

import msgspec
from msgspec import Struct
from rich.console import Console
from rich.table import Table


class Measured(Struct, frozen=True, omit_defaults=True):
    """One row. `ours` and `beside` are medians over the rounds, `ratio` that of the ratios round by round."""

    what: str
    unit: str
    ours: float
    beside: float | None = None
    beside_what: str = ""
    ratio: float | None = None
    aim: str = ""


def compared(what: str, unit: str, pairs: Sequence[tuple[float, float]], beside_what: str, aim: str) -> Measured:
    """A row out of rounds that each measured us and the other one after the other."""
    ours, beside = (median(side) for side in zip(*pairs, strict=True))
    return Measured(what, unit, ours, beside, beside_what, median(us / other for us, other in pairs), aim)


def show(rows: Sequence[Measured], *, as_json: bool) -> None:
    """Prints the rows: a table for people, one JSON object a line for programs."""
    if as_json:
        for row in rows:
            print(msgspec.json.encode(row).decode())
        return
    table = Table("measured", "unit", "gatebook", "beside it", "", "ratio", "aim")
    for row in rows:
        beside = "" if row.beside is None else _number(row.beside)
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        table.add_row(row.what, row.unit, _number(row.ours), beside, row.beside_what, ratio, row.aim)
    Console().print(table)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
