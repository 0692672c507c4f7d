"""The document of a running service held against its answers, for long: `make schema` runs it.

Starts a service of its own over a temporary store, asks for every operation as nobody, a guest, a user, an admin and a
client, with what the document allows and with what it does not, and prints what it asked, and all that was wrong with
how to see it again. Ends with 1 when anything was, or nothing was asked.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from contextlib import closing
from pathlib import Path

from tests.schema.askers import EVERYBODY
from tests.schema.holding import Holding, served
from tests.schema.plan import Phases


def main() -> int:
    """The command."""
    names = {str(who): who for who in EVERYBODY}
    parser = argparse.ArgumentParser(prog="python -m tests.schema", description=__doc__)
    parser.add_argument(
        "--examples", type=int, default=100, help="how many requests are made up for each operation (default: 100)"
    )
    parser.add_argument(
        "--as",
        dest="everybody",
        action="append",
        choices=names,
        help="who asks; may be said again (default: everybody)",
    )
    parser.add_argument(
        "--operation", action="append", default=[], metavar="'GET /verify'",
        help="what is asked for; may be said again (default: everything)",
    )  # fmt: skip
    parser.add_argument(
        "--seed", type=int, default=None, help="what requests are drawn from (default: another each time)"
    )
    asked = parser.parse_args()
    seed = asked.seed if asked.seed is not None else random.SystemRandom().randrange(1_000_000)
    _tell(f"seed {seed}")
    everybody = EVERYBODY if asked.everybody is None else [names[name] for name in asked.everybody]
    with (
        tempfile.TemporaryDirectory(prefix="gatebook-schema-") as folder,
        served(Path(folder)) as service,
        closing(Holding(service, seed=seed, tell=_tell)) as holding,
    ):
        unknown = {*asked.operation} - holding.operations.keys()
        if unknown:
            parser.error(f"there is no {', '.join(unknown)}; there are {', '.join(holding.operations)}")
        phases = Phases(bounds=True, examples=asked.examples, walks=asked.examples)
        holding.everything(phases, everybody, asked.operation)
    _tell(holding.report.told(seed, asked.examples))
    return 1 if holding.report.wrong or not holding.report.asked else 0


def _tell(sentence: str) -> None:
    print(sentence, flush=True)  # noqa: T201 - a command says what it found


if __name__ == "__main__":
    sys.exit(main())
