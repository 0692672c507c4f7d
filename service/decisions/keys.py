"""What an operator does to the service's own keys."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from events.catalogue import SERVICE_STREAM, KeyPurpose, KeyRotated
from service.decisions.command import Proposed, Reads, State


class RotateKey(Struct, frozen=True):
    """Has the service's key of that purpose followed by another; `at_once` makes all before it worthless."""

    purpose: KeyPurpose
    at_once: bool = False

    def reads(self) -> Reads:
        """Nothing."""
        return Reads()

    def decide(self, state: State) -> Sequence[Proposed]:  # noqa: ARG002 - every command decides over a state
        """Always one event. The key itself is no matter of the book: whoever needs it first makes it."""
        return (Proposed(SERVICE_STREAM, KeyRotated(self.purpose, self.at_once)),)
