"""How soon the open sockets of a session hear that it is over, and what open sockets cost."""

from __future__ import annotations

import http.client
import json
import random
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from time import perf_counter, sleep
from typing import Self

import apsw
import msgspec
from msgspec import Struct

from benchmarks.books import PASSWORD, make_admin, make_book, open_sessions
from benchmarks.descriptors import allow_descriptors
from benchmarks.holders import Hear, Open, Say
from benchmarks.processes import Child, child, running
from benchmarks.table import Measured
from benchmarks.wire import is_whole_frame, masked_text, upgrade
from service.batch import BatchRunner, order, raised
from service.book import open_book, parse_address
from service.decisions.administration import RevokeSession

SPARE = 500
"""Descriptors that a process needs beside those of the sockets."""
SESSIONS, EACH = 1_000, 5
USERS, OF_ONE, ENDED = 100, 100, 20
PAUSE = 0.02
RESUMED, OVER = '"success":true', "fantaptik/react-auth/close"
AIM = "50 ms"

Place = Callable[[str], Path]
"""Makes an empty folder of that name."""


class Ending(Struct, frozen=True):
    """When a session's ending was handed in, and when each of its sockets heard of it, by `perf_counter`."""

    session: str
    handed: float
    heard: list[float]

    @property
    def last(self) -> float:
        return max(self.heard)


def revocations(place: Place) -> Iterator[Measured]:
    """From a session's revocation to the notification of its sockets, one after the other on an idle machine."""
    sessions = min(SESSIONS, (allow_descriptors() - SPARE) // EACH)
    store = make_book(place("revocations"), USERS)
    tokens = open_sessions(store, USERS, 2 * sessions // USERS)
    ours, again = tokens[:sessions], tokens[sessions:]
    make_admin(store, USERS)
    with _served(store, [token for token in ours for _ in range(EACH)]) as (service, holder):
        with _Web(service, USERS) as admin:
            ended = [_ended(holder, at, token, admin.revoke) for at, token in enumerate(ours)]
        committed = service.ask("endings")
        holder.ask(_line(Say([_resume(token) for token in again for _ in range(EACH)], RESUMED)))
        with _Elsewhere(store) as elsewhere:
            of_others = [_ended(holder, at, token, elsewhere.revoke) for at, token in enumerate(again)]
    floor = _commits_and_echoes(place("floor"), sessions)
    about = f"{sessions:,} sessions, {EACH} sockets each{_fewer(sessions < SESSIONS)}"
    yield from _rows(f"revoked to each told ({about})", [heard - one.handed for one in ended for heard in one.heard])
    yield from _rows("revoked to last told", [one.last - one.handed for one in ended], floor, "a bare commit and echo")
    yield from _rows("its commit to last told", [one.last - committed[f"session-{one.session}"] for one in ended])
    yield from _rows("revoked elsewhere to last told", [one.last - one.handed for one in of_others])
    yield from _rows("its commit elsewhere to last told", elsewhere.since_commit(of_others))


def open_sockets(place: Place) -> Iterator[Measured]:
    """What an open socket costs in memory, and how long it takes to tell all of one user's hundred."""
    users = min(USERS, (allow_descriptors() - SPARE) // OF_ONE)
    store = make_book(place("sockets"), users + 1)
    tokens = open_sessions(store, users, OF_ONE)
    make_admin(store, users + 1)
    with _served(store, tokens) as (service, holder):
        ours = service.grown / len(tokens)
        with _Web(service, users + 1) as admin:
            ended = [_all_ended(holder, admin, user) for user in range(1, min(ENDED, users) + 1)]
    with running("echo") as echo, child("holders") as holder:
        before = echo.resident()
        holder.ask(_line(Open(echo.ports["ws"], "/", [_resume(token) for token in tokens], "session")))
        bare = (echo.resident() - before) / len(tokens)
        echoed = [holder.ask(_line(Say(["x" * 40] * OF_ONE, "x")))["seconds"] for _ in range(ENDED)]
    what = f"memory of one of {len(tokens):,} open sockets{_fewer(users < USERS)}"
    yield Measured(what, "KiB", ours, bare, "bare trio-websocket", ours / bare)
    yield from _rows(f"{OF_ONE} sessions of one user to last told", ended, echoed, f"{OF_ONE} echoes at once")


class Service(Struct, frozen=True):
    """A service all of whose sockets hold their sessions, and the KiB that they took."""

    server: Child
    grown: float

    def ask(self, line: str) -> dict[str, float]:
        return self.server.ask(line)


@contextmanager
def _served(store: Path, tokens: Sequence[str]) -> Iterator[tuple[Service, Child]]:
    with running("gatebook", str(store), str(len(tokens))) as server, child("holders") as holder:
        before = server.resident()
        holder.ask(_line(Open(server.ports["ws"], "/react-auth", [_resume(token) for token in tokens], RESUMED)))
        yield Service(server, server.resident() - before), holder


class _Web:
    """An admin's HTTP connection, which stays open."""

    def __init__(self, service: Service, user: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", service.server.ports["http"], timeout=30)
        self._headers = {"Content-Type": "application/json"}
        said = self._ask("POST", "/api/session", {"identifier": f"user-{user}", "password": PASSWORD})
        self._headers["Authorization"] = f"Bearer {said['token']}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def revoke(self, session: str) -> None:
        self._ask("DELETE", f"/admin/api/sessions/{session}")

    def deactivate(self, user: int) -> None:
        self._ask("POST", f"/admin/api/users/{user}/deactivate")

    def _ask(self, method: str, path: str, body: dict[str, str] | None = None) -> dict[str, str]:
        self._connection.request(method, path, None if body is None else json.dumps(body), self._headers)
        answer = self._connection.getresponse()
        said = answer.read()
        assert answer.status < 300, said
        found: dict[str, str] = json.loads(said or "{}")
        return found


class _Elsewhere:
    """Another process than the service's, which writes to the same store."""

    def __init__(self, store: Path) -> None:
        self._runner = BatchRunner(open_book(parse_address(f"sqlite:{store}")))
        self._committed: dict[str, float] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.close()

    def revoke(self, session: str) -> None:
        [outcome] = self._runner.run([order(RevokeSession(int(session)), actor="operator", door="benchmark")])
        self._committed[session] = perf_counter()
        raised(outcome)

    def since_commit(self, endings: Sequence[Ending]) -> list[float]:
        return [one.last - self._committed[one.session] for one in endings]


def _ended(holder: Child, at: int, token: str, revoke: Callable[[str], None]) -> Ending:
    _pause()
    session = token.partition("|")[0]
    handed = perf_counter()
    revoke(session)
    heard = holder.ask(_line(Hear([*range(EACH * at, EACH * (at + 1))], OVER)))["heard"]
    return Ending(session, handed, heard)


def _all_ended(holder: Child, admin: _Web, user: int) -> float:
    _pause()
    handed = perf_counter()
    admin.deactivate(user)
    heard = holder.ask(_line(Hear([*range(OF_ONE * (user - 1), OF_ONE * user)], OVER)))["heard"]
    return float(max(heard) - handed)


def _pause() -> None:
    """Each at a moment of its own: whoever looks at intervals must not be met in step."""
    sleep(random.uniform(0, PAUSE))  # noqa: S311 - nothing is secret


def _commits_and_echoes(folder: Path, times: int) -> list[float]:
    """The least that it could take: one commit of one row to a bare SQLite file, one round trip of a bare socket."""
    connection = apsw.Connection(str(folder / "raw.db"))
    connection.pragma("journal_mode", "wal")
    connection.pragma("synchronous", "full")
    connection.execute("CREATE TABLE entry (position INTEGER PRIMARY KEY, entry BLOB)")
    taken = []
    with running("echo") as echo, closing(socket.create_connection(("127.0.0.1", echo.ports["ws"]))) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.sendall(upgrade(echo.ports["ws"], "/"))
        assert b" 101 " in client.recv(4096)
        for _ in range(times):
            _pause()
            started = perf_counter()
            connection.execute("INSERT INTO entry (entry) VALUES (?)", (bytes(200),))
            client.sendall(masked_text(OVER))
            assert is_whole_frame(client.recv(4096))
            taken.append(perf_counter() - started)
    connection.close()
    return taken


def _rows(
    what: str, seconds: Sequence[float], beside: Sequence[float] = (), beside_what: str = ""
) -> Iterator[Measured]:
    """Median and 99th percentile in milliseconds; of few, the worst."""
    high = ("p99", 0.99, AIM) if len(seconds) >= 100 else (f"worst of {len(seconds)}", 1.0, AIM)
    for name, share, aim in (("p50", 0.5, ""), high):
        ours = _percentile(seconds, share)
        if beside:
            bare = _percentile(beside, share)
            yield Measured(f"{what}, {name}", "ms", ours, bare, beside_what, ours / bare, aim)
        else:
            yield Measured(f"{what}, {name}", "ms", ours, aim=aim)


def _fewer(is_so: bool) -> str:
    return ", all that this machine's limit of descriptors allows" if is_so else ""


def _percentile(seconds: Sequence[float], share: float) -> float:
    return sorted(seconds)[min(int(len(seconds) * share), len(seconds) - 1)] * 1000


def _resume(token: str) -> str:
    return json.dumps({"type": "fantaptik/react-auth/socket/resume", "session": token})


def _line(asked: Open | Say | Hear) -> str:
    return msgspec.json.encode(asked).decode()
