"""What is asked, and what is looked at in the answers: the document read, and the configuration of schemathesis."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final, NamedTuple

from tests.attacks.visitors import ENDLESS
from tests.conformance.running import PATIENCE
from tests.schema.askers import EVERYBODY, LEVELS, THE_CLIENT, Who
from tests.schema.known import STANDING, Values

HALF: Final = 0.5

LEFT_OUT: Final = {
    "missing_required_header": "no operation requires a header",
    "object_level_authorization": "wants all who ask in one run; tests/conformance asks for what is somebody else's",
}
"""Checks of schemathesis that say nothing here, and why. `max_response_time` is off where no time is set: how long an
answer takes says how busy the machine is."""

TAIL: Final = f"GET {ENDLESS}"

ACCEPTED: Final = ("2xx", "3xx", "401", "403", "404", "409", "429")
"""What may come of any request that the document allows: it says neither what exists nor who may. Never a 5xx."""

ACCEPTED_TOO: Final = {
    "POST /api/register": ("422",),  # a name is taken, reserved, or none that PRECIS allows
    "PATCH /api/profile": ("422",),  # … and so here; or the password is wrong
    "POST /api/login": ("406", "422"),  # somebody is logged in already; the contract's word for bad credentials
    "GET /admin/api/projections/{name}": ("400",),  # which indexes and keys there are hangs on the projection
}
"""What may come of these as well."""


class Phases(NamedTuple):
    """How much is asked.

    `given` is what is known to be carried out, and `bounds` what those in the document suggest; `examples` are made up
    for each operation; `walks` go from one to the next; `again` is what was asked before.
    """

    given: bool = True
    bounds: bool = False
    examples: int = 0
    walks: int = 0
    again: bool = False


def configuration(
    document: Mapping[str, Any], http: str, values: Values, phases: Phases, seed: int, asked: Collection[str]
) -> dict[str, Any]:
    """What a run of schemathesis is configured with, as in a schemathesis.toml."""
    passed_over = operations(document).keys() - asked
    return {
        "base-url": http,
        "seed": seed,
        "cache": {"enabled": False},
        "continue-on-failure": True,
        "request-timeout": PATIENCE,
        # Of a tail, the first event is enough: somebody comes and makes one.
        "max-stream-events": 1,
        "output": {"sanitization": {"enabled": False}, "truncation": {"max-recorded-payload-size": 0}},
        "generation": {"mode": "all", "max-examples": max(1, phases.examples), "database": "none"},
        "phases": {
            "examples": {"enabled": phases.given},
            "coverage": {"enabled": phases.bounds},
            "fuzzing": {"enabled": phases.examples > 0},
            # What leads from one operation to another needs both.
            "stateful": {
                "enabled": phases.walks > 0 and not passed_over,
                "generation": {"max-examples": max(1, phases.walks)},
            },
        },
        "dictionaries": {name: {"values": [*some]} for name, some in values.items()},
        "parameters": {name: {"dictionary": some, "probability": HALF} for name, some in STANDING.items()},
        "checks": {
            "positive_data_acceptance": {"expected-statuses": [*ACCEPTED]},
            **{name: {"enabled": False} for name in LEFT_OUT},
        },
        "operations": [
            # Schemathesis holds each event against what the document tells of the whole; `judging` looks at them.
            {"include-name": TAIL, "checks": {"response_schema_conformance": {"enabled": False}}},
            *(
                {
                    "include-name": name,
                    "checks": {"positive_data_acceptance": {"expected-statuses": [*ACCEPTED, *statuses]}},
                }
                for name, statuses in ACCEPTED_TOO.items()
            ),
            *({"include-name": name, "enabled": False} for name in sorted(passed_over)),
        ],
    }


def operations(document: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The operations by method and path."""
    return {
        f"{method.upper()} {path}": operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


def may(who: Who, operation: Mapping[str, Any]) -> bool:
    """Whether the document lets them: they show themselves in one of its ways, and are of its level at least."""
    security: list[dict[str, list[str]]] = operation["security"]
    if not security or {} in security:
        return True
    levels = next((one[who.by] for one in security if who.by in one), None)
    if levels is None:
        return False
    # Where no level is told, an account is needed; a client has none.
    return who == THE_CLIENT or LEVELS[who.level] >= LEVELS[levels[0] if levels else "user"]


def at_home(operation: Mapping[str, Any]) -> Who:
    """The least of those who may."""
    return next(who for who in EVERYBODY if may(who, operation))
