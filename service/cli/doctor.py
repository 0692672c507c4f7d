"""`gatebook doctor`: settings, versions, store, keys, ports and clock: what is wrong, and what to do about it."""

from __future__ import annotations

import sys
from typing import Final

from cyclopts import App

from service.cli.checks import Check, State
from service.cli.exits import Exit
from service.cli.place import HERE, Place, settings_of
from service.cli.speech import console_for, flowing, print_line, print_object

EXAMPLES: Final = """\
Examples: `gatebook doctor` · `gatebook doctor --json`

It changes nothing, and works whether the service runs or not. Each line is ok, warn or fail, with what to do; where
anything fails, the exit code is 1. Settings that are wrong by themselves end in exit code 2, as everywhere."""

_COLOURS: Final[dict[State, str]] = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def _doctor(*, place: Place = HERE) -> int:
    """Say what is wrong and what to do about it."""
    from service.cli.checks import check_all

    failed = False
    for check in check_all(settings_of(place), place):
        failed = failed or check.state == "fail"
        _print(check, as_json=place.json)
    return Exit.REFUSED if failed else Exit.DONE


doctor: Final = App(name="doctor", default_command=_doctor, help_epilogue=flowing(EXAMPLES))


def _print(check: Check, *, as_json: bool) -> None:
    if as_json:
        print_object(check)
        return
    if not sys.stdout.isatty():
        print_line(f"{check.state:<4}  {check.name:<15}  {check.said}")
    else:
        from rich.text import Text

        from service.logs import one_line

        line = Text.assemble(
            (f"{check.state:<4}  ", _COLOURS[check.state]), one_line(f"{check.name:<15}  {check.said}")
        )
        console_for(sys.stdout).print(line, soft_wrap=True)
    if check.do:
        print_line(f"      {'':<15}  → {check.do}")
