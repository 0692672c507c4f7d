"""What the metrics hear: of every batch that this process wrote, and of every event that any process appended."""

from __future__ import annotations

from collections.abc import Callable

import structlog
import trio

from events.catalogue import GuestCreated, LoginFailed, SessionClosed, SessionOpened
from events.errors import UndecodableEntryError
from events.follow import Follower
from events.recorded import Recorded
from service.batch import Outcome
from service.errors import InternalError, Refused
from service.following import keep_following
from service.guards import Hooks
from service.housekeeping import Told
from service.metrics import Metrics
from service.writer import BatchTold

log = structlog.get_logger("gatebook.observation")

DONE = "done"


class Observation:
    """Turns what happens into metrics. Synchronous and quick: the writer's answers wait for it."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def batch(self, told: BatchTold) -> None:
        """Counts one batch: its commands by outcome, its size, its time."""
        metrics = self._metrics
        metrics.batch_size.observe(len(told.orders))
        metrics.batch_seconds.observe(told.seconds)
        for one, outcome in zip(told.orders, told.outcomes, strict=True):
            metrics.commands.labels(type(one.command).__name__, outcome_word(outcome)).inc()
            if isinstance(outcome, InternalError) and outcome.projection is not None:
                metrics.fold_failures.labels(outcome.projection).inc()

    def housekeeping(self, told: Told) -> None:
        """Counts the sessions that one round of housekeeping ended."""
        if told.sessions:
            self._metrics.expiry_closes.inc(told.sessions)

    async def follow(self, follower: Follower, unread: Callable[[], None] = lambda: None) -> None:
        """Counts what is appended by whichever process, as it comes. Ends only where the store says it is damaged.

        What cannot be decoded is not counted; `unread` hears that there was such an entry.
        """

        async def heard(page: list[Recorded]) -> None:
            for recorded in page:
                self._count(recorded)
            self._metrics.log_position.set(follower.position)
            self._metrics.follower_lag.labels("metrics").set(follower.lag())
            await trio.lowlevel.checkpoint()

        def passed_by(error: UndecodableEntryError) -> None:
            log.error("entry_not_counted", position=error.position, reason=error.reason)
            unread()

        await keep_following(follower, heard, passed_by)

    def hooks(self, listener: str) -> Hooks:
        """What a guard tells of one listener's connections."""
        metrics = self._metrics
        return Hooks(
            failed=lambda _: metrics.connections_failed.labels(listener).inc(),
            refused=lambda why: metrics.connections_refused.labels(listener, why).inc(),
            slowed=metrics.messages_slowed.labels(listener).inc,
            unforwarded=lambda why: metrics.unforwarded.labels(listener, why).inc(),
            connections=metrics.connections.labels(listener).set,
        )

    def _count(self, recorded: Recorded) -> None:
        match recorded.event:
            case SessionOpened():
                self._metrics.sessions_opened.labels(recorded.door).inc()
                self._metrics.logins.labels(recorded.door, DONE).inc()
            case GuestCreated():
                self._metrics.guests_created.labels(recorded.door).inc()
            case SessionClosed(reason=reason):
                self._metrics.sessions_closed.labels(reason).inc()
            case LoginFailed(reason=reason):
                self._metrics.logins.labels(recorded.door, reason).inc()
            case _:
                pass


def outcome_word(outcome: Outcome) -> str:
    """One word for what became of a command: done, or the refusal's code."""
    if isinstance(outcome, tuple):
        return DONE
    return outcome.code if isinstance(outcome, Refused) else "internal_error"
