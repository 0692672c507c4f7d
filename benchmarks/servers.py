"""The servers that are measured, each a process of its own: gatebook, a bare Quart-Trio hello, a bare socket echo.

Each prints one JSON line with its ports once it answers, and stops when standard input ends. Gatebook answers a line on
standard input with another: `commands CALLERS SECONDS` lets that many callers inside its own process submit commands
for that long; `endings` tells when each session that has ended did, by `perf_counter`, which all processes share.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import ClassVar

import msgspec
import trio
from hypercorn.config import Config
from hypercorn.trio import serve as hypercorn_serve
from quart_trio import QuartTrio
from trio_websocket import ConnectionClosed, WebSocketRequest, serve_websocket

from benchmarks.commands import submit_for
from benchmarks.descriptors import allow_descriptors
from events.catalogue import SessionClosed
from service.address import Address
from service.app import Listening, serve
from service.batch import BatchRunner, Clock, Order, Outcome
from service.book import Book, StoreAddress, open_book
from service.guards import bind_tcp
from service.logs import configure_logs
from service.parts import Parts, assemble
from service.settings import Settings

ANY_PORT = Address("127.0.0.1", 0)


def say(**words: object) -> None:
    """One JSON line."""
    print(msgspec.json.encode(words).decode(), flush=True)


async def asked() -> AsyncIterator[str]:
    """The lines of standard input."""
    async for line in trio.wrap_file(sys.stdin):
        yield line


class NotingRunner(BatchRunner):
    """Notes when the endings of sessions were committed."""

    ended: ClassVar[dict[str, float]] = {}

    def run(self, orders: Sequence[Order]) -> list[Outcome]:
        outcomes = super().run(orders)
        moment = perf_counter()
        for outcome in outcomes:
            if isinstance(outcome, tuple):
                self.ended.update({one.stream: moment for one in outcome if isinstance(one.event, SessionClosed)})
        return outcomes


async def gatebook(store: Path, connections: int) -> None:
    """gatebook over a store, as `gatebook serve` runs it, for so many connections on each listener."""
    configure_logs("json", "warning")
    settings = Settings(
        # How fast it answers is measured, not how fast it may be asked; and what only waits answers no pings.
        messages_per_second=1_000_000, ping_seconds=3_600,
        store=f"sqlite:{store}", http=ANY_PORT, ws=ANY_PORT, metrics=None, log_level="warning",
        max_connections_ws=connections,
    )  # fmt: skip
    assembled: list[Parts] = []
    stopping = trio.Event()

    def keeping(settings: Settings, address: StoreAddress, book: Book, clock: Clock) -> Parts:
        parts = assemble(settings, address, book, clock)
        skew = timedelta(seconds=settings.clock_skew_seconds)
        parts.writer._open_runner = lambda: NotingRunner(open_book(address), clock=clock, skew=skew)  # noqa: SLF001 - nothing else tells when a commit was
        assembled.append(parts)
        return parts

    def ready(listening: Listening) -> None:
        say(http=int(listening.http.rpartition(":")[2]), ws=int(listening.ws.rpartition(":")[2]))

    async def answer() -> None:
        async for line in asked():
            match line.split():
                case ["commands", callers, seconds]:
                    parts = assembled[0]
                    say(rate=await submit_for(parts.writer, parts.book, int(callers), float(seconds)))
                case ["endings"]:
                    say(**NotingRunner.ended)
        stopping.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(serve, settings, ready=ready, stopping=stopping, assembling=keeping))
        nursery.start_soon(answer)


async def hello() -> None:
    """The peer of a session check: a bare Quart-Trio application on Hypercorn as it comes, answering a constant."""
    app = QuartTrio("hello")

    @app.get("/hello")
    async def answer() -> dict[str, str]:
        return {"hello": "world"}

    [sock] = bind_tcp("127.0.0.1", 0)
    config = Config()
    config.errorlog = None
    port = sock.getsockname()[1]
    config.bind = [f"fd://{sock.detach()}"]
    async with trio.open_nursery() as nursery:
        await nursery.start(hypercorn_serve, app, config)
        say(http=port)
        async for _ in asked():
            pass
        nursery.cancel_scope.cancel()


async def echo() -> None:
    """The peer of `auth.authenticate`: trio-websocket as it comes, sending back what it gets."""

    async def converse(asked: WebSocketRequest) -> None:
        connection = await asked.accept()
        try:
            while True:
                await connection.send_message(await connection.get_message())
        except ConnectionClosed:
            return

    async with trio.open_nursery() as nursery:
        server = await nursery.start(serve_websocket, converse, "127.0.0.1", 0, None)
        say(ws=server.port)
        async for _ in asked():
            pass
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    allow_descriptors()
    match sys.argv[1:]:
        case ["gatebook", store]:
            trio.run(gatebook, Path(store), 500)
        case ["gatebook", store, connections]:
            trio.run(gatebook, Path(store), int(connections))
        case ["hello"]:
            trio.run(hello)
        case ["echo"]:
            trio.run(echo)
        case _:
            sys.exit("python -m benchmarks.servers gatebook STORE [CONNECTIONS] | hello | echo")
