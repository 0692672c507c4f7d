"""The service: every task that it runs, and how it stops.

```
core    writer · password workers · watch · registry of sockets · metrics follower · housekeeping · rebuilds
doors   http · sockets · metrics listener · end of the tails
stop    signals
```

The doors stand on the core, so they go first: they accept no more, answer what they accepted, tell their sockets, and
are gone; only then is the core cancelled, and the writer writes what still waits.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from typing import Final

import structlog
import trio

from projections.rebuild import rebuild
from service.batch import Clock, utc_now
from service.book import Book, StoreAddress, fresh_table, open_book, parse_address
from service.guards import Certificate, untested_versions
from service.listeners import Listening, bind_all, certificate_of, open_doors
from service.parts import Parts, assemble
from service.settings import Settings
from service.web.cookies import IN_DEVELOPMENT

__all__ = ["STOP_SIGNALS", "SWITCH_SECONDS", "Listening", "prepare", "serve"]

log = structlog.get_logger("gatebook.app")

STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
# How long a thread keeps the interpreter from one that waits for it. The writer gives it up at every statement, and
# beside a busy event loop would wait Python's default of 5 ms to have it back, several times in each batch.
SWITCH_SECONDS: Final = 0.0001


async def serve(
    settings: Settings,
    *,
    ready: Callable[[Listening], None] = lambda _: None,
    said: Callable[[str], None] = lambda _: None,
    clock: Clock = utc_now,
    stopping: trio.Event | None = None,
    assembling: Callable[[Settings, StoreAddress, Book, Clock], Parts] = assemble,
) -> None:
    """Runs the service until SIGTERM or SIGINT, or until `stopping` is set; a second signal cuts the stop short.

    `ready` hears the addresses once requests are answered; `said` hears sentences for whoever starts it (a master key
    was made, a read model is rebuilt); `assembling` is for who wants the parts at hand beside the doors. Raises
    ListenError, TLSError and StoreError when it cannot start; DurabilityError or CorruptStoreError, as an exception
    group, when it had to end.
    """
    for sentence in untested_versions():
        log.warning("untested_version", sentence=sentence)
    if settings.development:
        log.warning("development", sentence=IN_DEVELOPMENT)
    stopping = trio.Event() if stopping is None else stopping
    address = parse_address(settings.store, settings.master_key, settings.master_key_file)
    certificate = certificate_of(settings)
    with ExitStack() as opened:
        sockets = bind_all(settings, opened)
        prepare(address, said)
        book = open_book(address)
        opened.callback(book.close)
        parts = assembling(settings, address, book, clock)
        opened.callback(parts.readers.close)
        sys.setswitchinterval(SWITCH_SECONDS)
        async with trio.open_nursery() as core:
            await _start_core(settings, parts, core)
            async with _heeding_signals(stopping, certificate), trio.open_nursery() as doors:
                await open_doors(settings, parts, sockets, certificate, stopping, doors)
                log.info("listening", http=sockets.listening.http, ws=sockets.listening.ws)
                ready(sockets.listening)
            log.info("doors_closed")
            core.cancel_scope.cancel()
    log.info("stopped")


def prepare(address: StoreAddress, said: Callable[[str], None] = lambda _: None) -> None:
    """Makes the store where there is none, and rebuilds the read models that an older gatebook wrote."""
    book = open_book(address, create=True, said=said)
    try:
        for projection in book.outdated():
            said(f"the read model {projection.name} was written by another revision; it is rebuilt from the book")
            rebuild(book.log, fresh_table(book, projection), keyring=book.keyring)
    finally:
        book.close()


async def _start_core(settings: Settings, parts: Parts, core: trio.Nursery) -> None:
    """Starts what the doors stand on."""
    await core.start(parts.writer.run)
    await core.start(parts.passwords.run)
    core.start_soon(parts.arrivals.watch, parts.book.log, settings.poll_milliseconds / 1000)
    core.start_soon(parts.registry.run, parts.endings)
    core.start_soon(parts.observation.follow, parts.follower, parts.registry.doubt)
    core.start_soon(parts.housekeeping.run, parts.observation.housekeeping, parts.registry.doubt)
    core.start_soon(parts.rebuilds.run)


@asynccontextmanager
async def _heeding_signals(stopping: trio.Event, certificate: Certificate | None) -> AsyncIterator[None]:
    """Sets `stopping` at the first signal to stop, and cancels the block at the second; SIGHUP is for a certificate."""
    heeded = STOP_SIGNALS if certificate is None else (*STOP_SIGNALS, signal.SIGHUP)
    async with trio.open_nursery() as nursery:

        async def listen(task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
            with trio.open_signal_receiver(*heeded) as signals:
                task_status.started()
                async for number in signals:
                    if certificate is not None and number == signal.SIGHUP:
                        certificate.read_anew()
                    elif stopping.is_set():
                        log.warning("stop_cut_short", signal=signal.Signals(number).name)
                        nursery.cancel_scope.cancel()
                        return
                    else:
                        log.info("stopping", signal=signal.Signals(number).name)
                        stopping.set()

        await nursery.start(listen)
        yield
        nursery.cancel_scope.cancel()
