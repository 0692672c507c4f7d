"""How failures are counted and when they refuse: the policy, and the decisions that only throttles are about."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from msgspec import Struct

from events.catalogue import SERVICE_STREAM, LoginThrottled, ThrottlesForgotten, ThrottleStep
from projections.throttles import Throttle
from service.decisions.command import Proposed, Reads, State
from service.errors import Throttled

FORGOTTEN_AFTER: Final = timedelta(days=1)
HALVED_AFTER: Final = timedelta(hours=1)
_MOST_DOUBLINGS: Final = 30
# About 75 bytes each: an entry has room for 65,535.
_MOST_KEYS_AN_EVENT: Final = 500


class Limit(Struct, frozen=True):
    """One throttle that an attempt counts against: its key, the failures that are free, and the longest delay.

    `outlives_success` says that a success leaves what was counted as it is.
    """

    key: str
    free_failures: int
    longest: timedelta
    outlives_success: bool = False


def step(throttle: Throttle | None, limit: Limit, now: datetime) -> ThrottleStep:
    """What one more failure does: from the last free one on it refuses for 1, 2, 4, … seconds, up to the longest.

    Never for ever: there is no lock-out that only an operator could end (OWASP ASVS 5.0, 6.3.1). What was counted
    before is halved by each hour without a failure, so that slips over a long time do not add up to an attack.
    """
    failures = 1 + counted(throttle, now)
    beyond = failures - limit.free_failures
    if beyond < 0:
        return ThrottleStep(limit.key, failures)
    delay = min(timedelta(seconds=2 ** min(beyond, _MOST_DOUBLINGS)), limit.longest)
    return ThrottleStep(limit.key, failures, now + delay)


def counted(throttle: Throttle | None, now: datetime) -> int:
    """The failures that still count at this moment."""
    if throttle is None or now - throttle.failed_at >= FORGOTTEN_AFTER:
        return 0
    quiet = max(now - throttle.failed_at, timedelta(0))
    return throttle.failures >> quiet // HALVED_AFTER


def refusing_until(throttle: Throttle | None, now: datetime) -> datetime | None:
    """The end of the window in which the throttle refuses, if it does at this moment."""
    return throttle.until if throttle and throttle.until and throttle.until > now else None


def heed(state: State, limits: Sequence[Limit]) -> None:
    """Raises Throttled when one of the throttles refuses: others may have failed since the gate has looked."""
    for limit in limits:
        until = refusing_until(state.throttle(limit.key), state.now)
        if until is not None:
            raise Throttled(seconds_until(until, state.now))


def steps(state: State, limits: Sequence[Limit]) -> tuple[ThrottleStep, ...]:
    """What one more that counts does to each of the throttles."""
    return tuple(step(state.throttle(limit.key), limit, state.now) for limit in limits)


def seconds_until(until: datetime, now: datetime) -> int:
    """Whole seconds after which it is over for sure."""
    return int((until - now).total_seconds()) + 1


class NoteThrottled(Struct, frozen=True):
    """Tells, once for each window, that a throttle refused an attempt."""

    key: str

    def reads(self) -> Reads:
        """The throttle."""
        return Reads(throttles=(self.key,))

    def decide(self, state: State) -> Sequence[Proposed]:
        """Nothing when the window is over or was told of: attempts that are refused cannot flood the book."""
        throttle = state.throttle(self.key)
        until = refusing_until(throttle, state.now)
        if throttle is None or until is None or throttle.noted == until:
            return ()
        return (Proposed(SERVICE_STREAM, LoginThrottled(self.key, until)),)


class ForgetThrottles(Struct, frozen=True):
    """Lets throttles go that had no failure for a day."""

    keys: tuple[str, ...]

    def reads(self) -> Reads:
        """The throttles."""
        return Reads(throttles=self.keys)

    def decide(self, state: State) -> Sequence[Proposed]:
        """Each is looked at again: one that failed since stays."""
        idle = tuple(
            key
            for key in self.keys
            if (throttle := state.throttle(key)) is not None
            and state.now - throttle.failed_at >= FORGOTTEN_AFTER
            and refusing_until(throttle, state.now) is None
        )
        return tuple(
            Proposed(SERVICE_STREAM, ThrottlesForgotten(idle[start : start + _MOST_KEYS_AN_EVENT]))
            for start in range(0, len(idle), _MOST_KEYS_AN_EVENT)
        )
