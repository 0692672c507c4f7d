"""What the command line prints: lines and tables for people, objects for machines, errors as one sentence.

Nothing that somebody typed can move a cursor, end a line or colour the terminal: for people it is escaped, for machines
JSON is written in ASCII alone. Colours and bars are for terminals only.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Final, TextIO

import msgspec

from service.cli.exits import Exit
from service.logs import one_line

if TYPE_CHECKING:
    from rich.console import Console

ROWS_THAT_MEASURE: Final = 1_000
UNBOUNDED: Final = 100_000
"""Columns of an output that nobody watches: no line is ever folded or cut."""

Progress = Callable[[int, int], None]
"""Hears how far it is and how far it goes."""


def flowing(text: str) -> str:
    """Paragraphs whose lines flow together, for a help text that is folded to whatever width there is."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


def json_line(item: object) -> str:
    """The object as one line of JSON in ASCII: whatever is in it, it moves no cursor."""
    # DEL is the one control character that ASCII alone does not escape.
    return json.dumps(msgspec.to_builtins(item), ensure_ascii=True).replace("\x7f", "\\u007f")


def print_object(item: object) -> None:
    """One object for machines, on a line of its own."""
    sys.stdout.write(json_line(item) + "\n")


def print_line(text: str = "") -> None:
    """One line for people; what is in it is escaped."""
    sys.stdout.write(one_line(text) + "\n")


def note(text: str) -> None:
    """One line beside the output, on stderr."""
    sys.stderr.write(one_line(text) + "\n")


def shout(text: str, *, as_json: bool) -> None:
    """What nobody may overlook, on stderr: bold and red where a person watches."""
    if as_json:
        sys.stderr.write(json_line({"warning": text}) + "\n")
    elif sys.stderr.isatty():
        from rich.text import Text

        console_for(sys.stderr).print(Text(one_line(text), style="bold red"), soft_wrap=True)
    else:
        note(text)


def cell(value: object) -> str:
    """A value as people read it, on one line."""
    if value is None or value in ((), [], {}):
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict) and value.get("sealed") is True:
        return "(sealed)"
    if isinstance(value, list | tuple) and all(isinstance(one, str) for one in value):
        return ", ".join(map(one_line, value))
    if isinstance(value, dict | list | tuple):
        return json_line(value)
    built = msgspec.to_builtins(value)
    return one_line(built if isinstance(built, str) else str(built))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table for people, as wide as it is: nothing is cut, and a line that is too long is the terminal's to fold.

    Columns are as wide as the first rows make them, so that a table of any length is printed as it is read.
    """
    from rich.cells import cell_len

    remaining = iter(rows)
    first = [[cell(value) for value in row] for row in islice(remaining, ROWS_THAT_MEASURE)]
    widths = [max(map(cell_len, column)) for column in zip(columns, *first, strict=True)]

    def line(cells: Sequence[str]) -> str:
        padded = (text + " " * max(0, width - cell_len(text)) for text, width in zip(cells, widths, strict=True))
        return "  ".join(padded).rstrip()

    if sys.stdout.isatty():
        from rich.text import Text

        console_for(sys.stdout).print(Text(line(columns), style="bold"), soft_wrap=True)
    else:
        sys.stdout.write(line(columns) + "\n")
    for row in chain(first, ([cell(value) for value in row] for row in remaining)):
        sys.stdout.write(line(row) + "\n")


def console_for(stream: TextIO) -> Console:
    """A console that interprets nothing in what it prints, and never folds what nobody watches."""
    from rich.console import Console

    width = None if stream.isatty() else UNBOUNDED
    return Console(file=stream, markup=False, highlight=False, emoji=False, soft_wrap=width is not None, width=width)


@contextmanager
def progress_bar(label: str) -> Iterator[Progress]:
    """A bar on stderr when a person watches, nothing otherwise."""
    if not sys.stderr.isatty():
        yield lambda _at, _end: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, console=console_for(sys.stderr), transient=True) as bar:
        task = bar.add_task(label, total=None)
        yield lambda at, end: bar.update(task, completed=at, total=end)


def print_error(message: str, code: Exit, *, as_json: bool, **more: Any) -> None:
    """The error on stderr: one sentence, or one object."""
    if as_json:
        error: Mapping[str, Any] = {"error": code.name.lower(), "message": message, "exit": int(code), **more}
        sys.stderr.write(json_line(error) + "\n")
    else:
        sys.stderr.write(f"gatebook: {one_line(message)}\n")
