"""The HTTP doors on a loopback port, over a gate with a real store, and a client that speaks to them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import trio

from events.follow import Arrivals, Follower
from events.log import Query
from events.recorded import Recorded
from service.audit import Audit
from service.book import open_book, parse_address
from service.children import command
from service.credentials.clients import Clients
from service.decisions.administration import SetLevel
from service.guards import bind_tcp
from service.guards.hypercorn import serve_http
from service.metrics import Metrics
from service.past import Past
from service.readers import Readers
from service.rebuilds import Rebuilds
from service.sockets.registry import ENDING, Registry
from service.tails import TailLimits, Tails
from service.web.admin import Admin
from service.web.app import Doors, create_app
from service.web.cookies import SessionCookies
from service.web.origins import Origins
from tests.conformance.told import holding
from tests.house import House, house

ALICE = {"username": "alice", "nickname": "Al", "password": "correct horse", "email": "alice@example.org"}
LOGIN = {"identifier": "alice", "password": "correct horse"}
AGENT = "test client"
REBUILD_CHILD = tuple(command("service.rebuild_child"))
WATCH_SECONDS = 0.005


@dataclass
class Web:
    """What a test can reach: the house behind the doors, the application, the address, and a client."""

    house: House
    app: Doors
    port: int
    client: httpx.AsyncClient
    audit: Audit
    readers: Readers
    cookies: SessionCookies
    reasons: list[str]
    metrics: Metrics
    tails: Tails
    stopping: trio.Event

    async def ask(self, method: str, path: str, body: Any = None, *, token: str | None = None) -> httpx.Response:
        """One request; a body that is not bytes goes as JSON."""
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        if isinstance(body, bytes):
            return await self.client.request(
                method, path, content=body, headers=headers | {"Content-Type": "application/json"}
            )
        return await self.client.request(method, path, json=body, headers=headers)

    async def get(self, path: str, token: str | None = None) -> httpx.Response:
        return await self.ask("GET", path, token=token)

    async def register(self, **changes: Any) -> int:
        """Registers Alice, or somebody much like her."""
        answer = await self.ask("POST", "/api/register", ALICE | changes)
        assert answer.status_code == 201, answer.text
        return int(answer.json()["id"])

    async def log_in(self, **changes: Any) -> str:
        answer = await self.ask("POST", "/api/session", LOGIN | changes)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["token"])

    async def admin(self) -> str:
        """Registers an admin and logs in; the token."""
        names = {"username": "warden", "nickname": "Warden", "email": "warden@example.org"}
        user_id = await self.register(**names)
        await self.house.writer.submit(SetLevel(user_id, 2), actor="operator", door="cli")
        return await self.log_in(identifier="warden")

    def events(self, kind: str | None = None) -> list[Recorded]:
        """What stands in the book."""
        return self.house.book.log.read(Query(type=kind))


@asynccontextmanager
async def web(
    folder: Path,
    *,
    past_seconds: float = 60.0,
    page: int = 100,
    body_bytes: int = 65_536,
    development: bool = False,
    trusted: tuple[str, ...] = (),
    clients: tuple[str, ...] = (),
    rebuild_child: Sequence[str] = REBUILD_CHILD,
    tail_limits: TailLimits | None = None,
    **options: Any,
) -> AsyncIterator[Web]:
    """The doors, open until the block ends; options are those of `tests.house.house`.

    Every answer that `client` gets is held against the document at /openapi.json.
    """
    address = parse_address(f"sqlite:{folder}/gatebook.db")
    async with house(folder, **options) as inside:
        readers = Readers(lambda: open_book(address))
        audit = Audit(inside.writer, clock=inside.clock)
        reasons: list[str] = []
        metrics = Metrics()
        past = Past(address, readers, seconds=past_seconds)
        lookups, projections = inside.gate.lookups, inside.book.projections
        rebuilds = Rebuilds(address, inside.writer, metrics, inside.clock, child=rebuild_child)
        arrivals, registry = Arrivals(), Registry(lookups.lives, metrics)
        tails = Tails(readers, lookups, arrivals, registry, metrics, tail_limits)
        admin = Admin(readers, inside.writer, lookups, audit, past, rebuilds, tails, projections, page=page)
        cookies = SessionCookies(inside.cookies, inside.clock, development=development)
        app = create_app(
            inside.gate,
            inside.guests,
            admin,
            lambda: reasons,
            metrics,
            cookies=cookies,
            tokens=inside.tokens,
            clients=Clients(clients),
            origins=Origins(trusted),
            body_bytes=body_bytes,
        )
        stopping = trio.Event()
        async with trio.open_nursery() as core, serving(app, stopping) as port:
            core.start_soon(rebuilds.run)
            core.start_soon(arrivals.watch, inside.book.log, WATCH_SECONDS)
            core.start_soon(registry.run, Follower(inside.book.log, arrivals, Query(type=ENDING)))
            core.start_soon(tails.end_at, stopping)
            base = f"http://127.0.0.1:{port}"
            async with httpx.AsyncClient(base_url=base, headers={"User-Agent": AGENT}, trust_env=False) as client:
                client.event_hooks = await holding(client)
                yield Web(inside, app, port, client, audit, readers, cookies, reasons, metrics, tails, stopping)
            core.cancel_scope.cancel()
        readers.close()


@asynccontextmanager
async def serving(app: Doors, stopping: trio.Event | None = None) -> AsyncIterator[int]:
    """The application on a free port of the loopback address."""
    stopping = trio.Event() if stopping is None else stopping
    sockets = bind_tcp("127.0.0.1", 0)
    port = int(sockets[0].getsockname()[1])

    async def run(task_status: trio.TaskStatus[None]) -> None:
        await serve_http(app, sockets=sockets, stopping=stopping, render=app.unheard, task_status=task_status)

    async with trio.open_nursery() as nursery:
        await nursery.start(run)
        yield port
        nursery.cancel_scope.cancel()
