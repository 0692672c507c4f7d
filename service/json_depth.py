"""How deep a JSON message is nested, told in one fast pass before anything decodes it.

Decoders recurse; a message of nothing but brackets is the oldest way to exhaust one. Here no recursion follows the
message: strings are cut out, brackets become steps up and down, and their running sum is the depth.
"""

from __future__ import annotations

import re
from itertools import accumulate
from typing import Final

LIMIT: Final = 32
"""Levels that a message of ours may have; the deepest that any contract needs is four."""

# Possessive and with an optional end, so that no input, closed or not, is looked at twice.
_STRING: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_STEPS: Final = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
_NO_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))


def too_deep(data: bytes, limit: int = LIMIT) -> bool:
    """Tell whether arrays and objects are nested deeper than `limit` levels; brackets inside strings do not count.

    The data need not be JSON: whatever it is, the answer is what a decoder would have to recurse to.
    """
    if data.count(b"[") + data.count(b"{") <= limit:
        return False
    steps = _STRING.sub(b"", data).translate(_STEPS, _NO_BRACKETS)
    return max(accumulate(memoryview(steps).cast("b")), default=0) > limit
