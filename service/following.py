"""Following the log for as long as the service runs, through whatever trouble passes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import structlog
import trio

from events.errors import CorruptStoreError, StoreError, UndecodableEntryError
from events.follow import Follower
from events.recorded import Recorded

log = structlog.get_logger("gatebook.following")

AGAIN_SECONDS: Final = 1.0


async def keep_following(
    follower: Follower,
    heard: Callable[[list[Recorded]], Awaitable[None]],
    unread: Callable[[UndecodableEntryError], None],
) -> None:
    """Hands over what is appended, page by page. Ends only by CorruptStoreError: the store says that it is damaged.

    `unread` hears of each entry that cannot be decoded, which is passed by: a newer gatebook beside this one may have
    written it, and this one then writes no more, but still answers whoever asks.
    """
    while True:
        try:
            try:
                page = await follower.page()
            except UndecodableEntryError as error:
                page = follower.up_to(error.position)
                unread(error)
            await heard(page)
        except CorruptStoreError:
            raise
        except StoreError as error:
            # The doors and readiness say so too; it may pass.
            log.warning("cannot_follow", reason=str(error))
            await trio.sleep(AGAIN_SECONDS)
        await trio.lowlevel.checkpoint()
