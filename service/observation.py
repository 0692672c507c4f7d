"""What the metrics hear: of every batch that this process wrote, and of every event that any process appended."""

from __future__ import annotations

from typing import Final

import structlog
import trio

from events.catalogue import GuestCreated, LoginFailed, SessionClosed, SessionOpened
from events.errors import CorruptStoreError, StoreError, UndecodableEntryError
from events.follow import Follower
from events.recorded import Recorded
from service.batch import Outcome
from service.errors import InternalError, Refused
from service.guards import Hooks
from service.housekeeping import Told
from service.metrics import Metrics
from service.writer import BatchTold

log = structlog.get_logger("gatebook.observation")

DONE = "done"
AGAIN_SECONDS: Final = 1.0


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

    async def follow(self, follower: Follower) -> None:
        """Counts what is appended by whichever process, as it comes. Ends only where the store says it is damaged.

        What cannot be decoded is not counted: a newer gatebook beside this one may have written it, and this one then
        writes no more, but still answers whoever asks.
        """
        while True:
            try:
                await self._count_next(follower)
            except CorruptStoreError:
                raise
            except StoreError as error:
                # The doors and readiness say so too; it may pass.
                log.warning("cannot_follow", reason=str(error))
                await trio.sleep(AGAIN_SECONDS)
            await trio.lowlevel.checkpoint()

    async def _count_next(self, follower: Follower) -> None:
        try:
            page = await follower.page()
        except UndecodableEntryError as error:
            log.error("entry_not_counted", position=error.position, reason=error.reason)  # noqa: TRY400 - the sentence says it all
            page = follower.up_to(error.position)
        for recorded in page:
            self._count(recorded)
        self._metrics.log_position.set(follower.position)
        self._metrics.follower_lag.labels("metrics").set(follower.lag())

    def hooks(self, listener: str) -> Hooks:
        """What a guard tells of one listener's connections."""
        metrics = self._metrics
        return Hooks(
            failed=lambda _: metrics.connections_failed.labels(listener).inc(),
            refused=lambda why: metrics.connections_refused.labels(listener, why).inc(),
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
