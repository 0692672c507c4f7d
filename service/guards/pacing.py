"""How fast one connection's messages are taken: at a rate, and a second's worth of them at once.

Whoever sends more is read more slowly, and TCP holds the rest back in the sender's own memory: that costs nobody else
anything, loses nothing, and an honest client in a hurry (a server that asks about many sessions, say) is not punished.
Closing instead would have it connect again, which costs us more than its messages did (CWE-770; ASVS 5.0: 2.4.1).
"""

from __future__ import annotations

from typing import Final

BURST_SECONDS: Final = 1.0
"""So much of the rate may come at once."""


class Pace:
    """A token bucket as one number: until when what came has used up the rate (the generic cell rate algorithm)."""

    __slots__ = ("_each", "_used_until")

    def __init__(self, per_second: float) -> None:
        self._each = 1 / per_second
        self._used_until = 0.0

    def delay(self, now: float) -> float:
        """Takes one message at that moment; the seconds to wait before the next is read, 0 where there is no hurry."""
        self._used_until = max(self._used_until, now) + self._each
        return max(0.0, self._used_until - now - BURST_SECONDS)
