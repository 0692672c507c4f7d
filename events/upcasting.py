"""Upcasting: event shapes that were released once and have been replaced since, raised to today's on reading.

An entry is never rewritten. When a released type must change, the old wire name stays here with a function from its
plain JSON object to the present one's, and a golden line in the tests holds it to that for ever. None was replaced so
far.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

Upcaster = Callable[[dict[str, Any]], dict[str, Any]]

UPCASTERS: Final[dict[str, Upcaster]] = {}


def upcast(event: Mapping[str, Any], upcasters: Mapping[str, Upcaster] = UPCASTERS) -> dict[str, Any] | None:
    """The event object in a present shape, raised step by step; None when no upcaster knows its wire name."""
    raised: dict[str, Any] | None = None
    current = dict(event)
    # Each step must lead to another wire name: a retired name never comes back, so this ends.
    for _ in range(len(upcasters) + 1):
        upcaster = upcasters.get(current.get("type", ""))
        if upcaster is None:
            return raised
        current = raised = upcaster(current)
    raise ValueError("the upcasters lead round in a circle")
