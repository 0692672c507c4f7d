"""The projections that gatebook keeps, and what it takes to fold them."""

from __future__ import annotations

from typing import Final

from projections.activity import ActivityByHour
from projections.names import Names, Tagger
from projections.projection import AnyProjection
from projections.sessions import Sessions
from projections.throttles import Throttles
from projections.users import Users

USERS: Final = Users()
SESSIONS: Final = Sessions()
THROTTLES: Final = Throttles()
ACTIVITY: Final = ActivityByHour()


def all_projections(tagger: Tagger) -> tuple[AnyProjection, ...]:
    """Every projection; `names` folds with the tagger."""
    return (USERS, Names(tagger), SESSIONS, THROTTLES, ACTIVITY)
