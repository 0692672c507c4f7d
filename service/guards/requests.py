"""The application's part of one connection: a task for the present request, and the messages that it is given."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio
from hypercorn.config import Config
from hypercorn.trio.task_group import TaskGroup
from hypercorn.typing import AppWrapper, ASGIReceiveEvent, ASGISendEvent, Scope


class Requests(TaskGroup):
    """The nursery of one connection: the application's task for the present request."""

    def __init__(self, on_failed: Callable[[str, BaseException], None]) -> None:
        super().__init__()
        self.on_failed = on_failed
        self.present = trio.CancelScope()

    def give_up(self) -> None:
        """The client has gone: nobody is left to read the answer that is being made."""
        self.present.cancel()

    async def spawn_app(
        self,
        app: AppWrapper,
        config: Config,  # noqa: ARG002 -- Hypercorn hands it over; nothing here depends on it
        scope: Scope,
        send: Callable[[ASGISendEvent | None], Awaitable[None]],
    ) -> Callable[[ASGIReceiveEvent], Awaitable[None]]:
        """Start the application on a request; returns where its messages are to be put."""
        exchange = Exchange()
        self.present = trio.CancelScope()
        assert self._nursery is not None  # noqa: S101 -- for the type checker: we are inside `async with`
        self._nursery.start_soon(self._answer, app, scope, exchange, send)
        return exchange.put

    async def _answer(
        self,
        app: AppWrapper,
        scope: Scope,
        exchange: Exchange,
        send: Callable[[ASGISendEvent | None], Awaitable[None]],
    ) -> None:
        with self.present:
            try:
                await app(scope, exchange.receive, send, trio.to_thread.run_sync, trio.from_thread.run)
            except* Exception as failures:  # noqa: BLE001 -- answered with 500 below, if nothing was answered yet
                self.on_failed("the application failed", failures)
        await send(None)


class Exchange:
    """The messages of one request on their way to the application: its body, and perhaps that the client has gone."""

    def __init__(self) -> None:
        self._messages: list[ASGIReceiveEvent] = []
        self._waiting = trio.lowlevel.ParkingLot()

    async def put(self, message: ASGIReceiveEvent) -> None:
        """Add a message; there are never more than two, so none waits for room."""
        self._messages.append(message)
        self._waiting.unpark_all()

    async def receive(self) -> ASGIReceiveEvent:
        """The next message, waiting for it."""
        while not self._messages:
            await self._waiting.park()
        return self._messages.pop(0)
