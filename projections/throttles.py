"""The projection `throttles`: failures counted against a tag, and until when it refuses.

A tag stands for an account seen from one network, for one device of an account, for an address, or for an address that
accounts are registered from.

The keys are HMAC tags under a key that is replaced, and destroyed, after 30 days; nothing here says whom they stand
for.
"""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

from msgspec import Struct
from msgspec.structs import replace

from events.catalogue import (
    LoginFailed,
    LoginThrottled,
    NameRefused,
    SessionOpened,
    ThrottlesForgotten,
    UserRegistered,
)
from events.recorded import Recorded, to_microseconds
from projections.projection import Index


class Throttle(Struct, frozen=True, gc=False, omit_defaults=True):
    """The failures counted so far, the last one's moment, and until when attempts are refused.

    `noted` is the end of the window that a `login.throttled` has already told of.
    """

    failures: int
    failed_at: datetime
    until: datetime | None = None
    noted: datetime | None = None


class Throttles:
    """See the module."""

    name = "throttles"
    revision = 2
    document = Throttle
    indexes: tuple[Index[Throttle], ...] = (Index("failed_at", lambda throttle: to_microseconds(throttle.failed_at)),)
    opened = False
    keyed_by_position = False
    handles: ClassVar[frozenset[type[Struct]]] = frozenset(
        {LoginFailed, LoginThrottled, NameRefused, SessionOpened, ThrottlesForgotten, UserRegistered}
    )

    def keys(self, recorded: Recorded) -> tuple[str, ...]:
        """The throttles that the event moves."""
        match recorded.event:
            # First, and almost always: a login that had nothing to clear.
            case SessionOpened(cleared=cleared):
                return tuple(dict.fromkeys(cleared)) if cleared else ()
            case LoginFailed(throttles=steps) | NameRefused(throttles=steps) | UserRegistered(throttles=steps):
                return tuple(dict.fromkeys(step.key for step in steps))
            case LoginThrottled(key=key):
                return (key,)
            case ThrottlesForgotten(keys=keys):
                return tuple(dict.fromkeys(keys))
            case _:
                return ()

    def evolve(self, key: str, doc: Throttle | None, recorded: Recorded) -> Throttle | None:
        """The throttle after the event."""
        match recorded.event:
            case LoginFailed(throttles=steps) | NameRefused(throttles=steps) | UserRegistered(throttles=steps):
                for step in steps:
                    if step.key == key:
                        doc = Throttle(step.failures, recorded.at, step.until, doc.noted if doc else None)
                return doc
            case LoginThrottled(until=until):
                return doc and replace(doc, noted=until)
            case SessionOpened() | ThrottlesForgotten():
                return None
            case _:
                return doc
