"""`python -m benchmarks`: measures, and prints ratios."""

from __future__ import annotations

import argparse

from rich.console import Console

from benchmarks.measures import Bench, bench
from benchmarks.table import Measured, show

MEASURES = (
    "commands", "commands_under_load", "replayed", "logins", "checks", "checks_beside_logins", "authentications",
    "revocations", "open_sockets", "growth",
)  # fmt: skip


def main() -> None:
    """Runs the measures that were asked for, all by default, and prints their rows."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Ratios, measured side by side.")
    parser.add_argument("--only", choices=MEASURES, nargs="+", default=MEASURES, help="measure these alone")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of one round of one side (default: 3)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds, of which the median counts (default: 3)")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    arguments = parser.parse_args()
    rows: list[Measured] = []
    console = Console(stderr=True)
    with bench(arguments.seconds, arguments.rounds) as running:
        for name in arguments.only:
            with console.status(f"measuring {name}"):
                rows += getattr(Bench, name)(running)
    show(rows, as_json=arguments.json)


if __name__ == "__main__":
    main()
