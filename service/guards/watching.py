"""Looks at all open sockets now and then: who does not read, who has gone without a word, who is here for nothing.

One task for all of them, since a deadline of its own for each write costs a fifth of an echo, and a task for each
connection a tenth of its memory. trio-websocket has a `ping`, but pings nobody by itself, and TCP notices a host that
vanished after minutes or hours (CWE-772).
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from typing import Final

import trio
from trio_websocket import ConnectionClosed
from wsproto.connection import ConnectionState
from wsproto.frame_protocol import CloseReason as Code

from service.guards.conversation import Conversation
from service.guards.limits import SocketLimits
from service.guards.reporting import Hooks

LOOK_SECONDS: Final = 1.0
"""The longest time between two looks."""
AT_ONCE: Final = 50
"""Clients that something is sent to before whatever else waits has its turn."""
NO_SESSION: Final = "No session was shown in time."


async def watch(conversations: Collection[Conversation], limits: SocketLimits, hooks: Hooks) -> None:
    """Watches the conversations, a collection that changes, until cancelled."""
    async with trio.open_nursery() as nursery:
        while True:
            await trio.sleep(min(LOOK_SECONDS, limits.write_seconds / 4, limits.ping_seconds / 4))
            sent = 0
            for conversation in tuple(conversations):
                if _look_at(conversation, limits, hooks, nursery):
                    sent += 1
                    if sent % AT_ONCE == 0:
                        await trio.lowlevel.checkpoint()


def _look_at(conversation: Conversation, limits: SocketLimits, hooks: Hooks, nursery: trio.Nursery) -> bool:
    """Looks at one; says whether something is being sent to it."""
    now, wire = trio.current_time(), conversation.wire
    wire.cut_if_writing_since(now - limits.write_seconds)
    if wire.state is not ConnectionState.OPEN or conversation.stopping:
        return False
    if conversation.expected_by < now:
        conversation.expect(None)
        hooks.refused("unused")
        nursery.start_soon(_close, conversation)
        return True
    silence = wire.silent_for(now)
    if silence < limits.ping_seconds or wire.writing:
        return False
    if conversation.pinged_at < now - silence:
        conversation.pinged_at = now
        nursery.start_soon(_ping, conversation)
        return True
    if conversation.pinged_at <= now - limits.ping_seconds:
        hooks.refused("silent")
        wire.cut()
    return False


async def _ping(conversation: Conversation) -> None:
    with suppress(ConnectionClosed):
        await conversation.wire.ask_for_life()


async def _close(conversation: Conversation) -> None:
    with suppress(ConnectionClosed):
        await conversation.wire.fail(Code.POLICY_VIOLATION, NO_SESSION)
