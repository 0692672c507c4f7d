"""The projection `activity`: how many logins, failures, registrations, guests and endings each hour of UTC saw."""

from __future__ import annotations

from datetime import date
from functools import lru_cache
from typing import ClassVar

from msgspec import Struct

from events.catalogue import GuestCreated, LoginFailed, LoginThrottled, SessionClosed, SessionOpened, UserRegistered
from events.recorded import Recorded
from projections.projection import Index


class Activity(Struct, frozen=True, gc=False):
    """One hour's counts. `hour` is its first moment, `2026-11-21T01`, in UTC; `endings` counts guests' sessions too."""

    hour: str
    registrations: int = 0
    logins: int = 0
    failures: int = 0
    throttled: int = 0
    endings: int = 0
    guests: int = 0


class ActivityByHour:
    """See the module."""

    name = "activity"
    revision = 2
    document = Activity
    indexes: tuple[Index[Activity], ...] = ()
    opened = False
    keyed_by_position = False
    handles: ClassVar[frozenset[type[Struct]]] = frozenset(
        {UserRegistered, SessionOpened, LoginFailed, LoginThrottled, SessionClosed, GuestCreated}
    )

    def keys(self, recorded: Recorded) -> tuple[str, ...]:
        """The hour in which the event was recorded."""
        return _hour(recorded.at.toordinal(), recorded.at.hour)

    def evolve(self, key: str, doc: Activity | None, recorded: Recorded) -> Activity | None:
        """The hour with one more of the event's kind."""
        hour = doc or Activity(key)
        kind = type(recorded.event)
        return Activity(
            key,
            hour.registrations + (kind is UserRegistered),
            hour.logins + (kind is SessionOpened),
            hour.failures + (kind is LoginFailed),
            hour.throttled + (kind is LoginThrottled),
            hour.endings + (kind is SessionClosed),
            hour.guests + (kind is GuestCreated),
        )


@lru_cache(maxsize=4)
def _hour(day: int, hour: int) -> tuple[str]:
    """The key of an hour; entries come in the order of time, so that the last few are all that is ever asked for."""
    return (f"{date.fromordinal(day).isoformat()}T{hour:02}",)
