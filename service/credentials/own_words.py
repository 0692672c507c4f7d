"""What of a password is its owner's own words: names, addresses, and the parts of them, which anybody tries first."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

__all__ = ["left_without"]

SHORTEST_WORD: Final = 4
"""Shorter ones stand in too many other words to say anything."""
SERVICE: Final = "gatebook"

_SEPARATORS: Final = re.compile(r"[\W_]+")


def left_without(password: str, own: Iterable[str]) -> str:
    """What is left of a folded password when the words of these folded names are taken out of it, the longest first.

    Words are the names as they are and what stands between their punctuation, so of an address its local part and the
    names of its domain; and the name of this service (NIST SP 800-63B section 3.1.1.2; ASVS 5.0: 6.1.2, 6.2.11).
    """
    words = {SERVICE}
    for name in own:
        words |= {name, *name.split("@"), *_SEPARATORS.split(name)}
    for word in sorted(words, key=lambda word: (-len(word), word)):
        if len(word) >= SHORTEST_WORD:
            password = password.replace(word, "")
    return password
