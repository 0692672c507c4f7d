"""A `gatebook serve` of its own process, on free loopback ports, over a store in a folder; and what a client needs."""

from __future__ import annotations

import itertools
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.conformance.told import held

COMMAND = os.environ.get("CONFORMANCE_COMMAND", str(Path(sys.executable).with_name("gatebook"))).split()
"""What is tested: the command beside this Python, or the one that the variable names."""

PATIENCE = 30.0
"""Seconds after which whatever is waited for will not come."""

FAST: dict[str, Any] = {
    "argon2_memory_kib": 8,
    "argon2_time": 1,
    "throttle_address_failures": 1_000_000,
    "guests_per_address": 100_000,
    "metrics": "off",
}
"""Settings under which a suite is quick, and its guests and failed logins do not stand in the way of its next test."""

_numbers = itertools.count(1)


def fresh(prefix: str = "user") -> str:
    """A name that no other test has."""
    return f"{prefix}{next(_numbers)}"


@dataclass(frozen=True)
class Running:
    """A service that answers: its addresses, its store, its log and its process."""

    http: str
    """`http://127.0.0.1:PORT`"""
    ws: str
    """`ws://127.0.0.1:PORT`"""
    store: Path
    log: Path
    process: subprocess.Popen[bytes]
    variables: Mapping[str, str] = field(default_factory=dict)
    """Settings that it has from its environment; commands on its store have them too."""

    def ask(self, method: str, path: str, body: Any = None, *, token: str | None = None) -> httpx.Response:
        """One HTTP request, its body JSON, with a bearer token or none."""
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        return httpx.request(method, f"{self.http}{path}", json=body, headers=headers, trust_env=False)

    def cli(self, *arguments: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
        """Runs `gatebook …` on the same store; `given` is its standard input."""
        return subprocess.run(
            [*COMMAND, *arguments, "--store", f"sqlite:{self.store}"],
            input=given, capture_output=True, text=True, check=False, timeout=PATIENCE,
            env=_environment(self.variables),
        )  # fmt: skip

    def events(self, *arguments: str) -> list[dict[str, Any]]:
        """What `gatebook events` tells of the book, oldest first."""
        told = self.cli("events", "--json", *arguments)
        assert told.returncode == 0, told.stderr
        return [json.loads(line) for line in told.stdout.splitlines()]

    def errors(self) -> list[str]:
        """The lines of the log that tell of a fault."""
        return [line for line in self.log.read_text().splitlines() if '"level":"error"' in line.replace(" ", "")]


@contextmanager
def running(
    folder: Path,
    *,
    ports: tuple[int, int] | None = None,
    variables: Mapping[str, str] | None = None,
    faults: bool = False,
    **settings: Any,
) -> Iterator[Running]:
    """Starts `gatebook serve` with these settings, waits until it is ready, and ends it as an operator would.

    Every HTTP answer that its clients get is held against its own /openapi.json; see `tests.conformance.told`.
    `ports`, for HTTP and sockets, are for a service that comes back where it was; without them, free ones are found.
    `variables` are settings for its environment.
    Fails when it does not become ready, when a line of its log tells of a fault, unless `faults` are what is tested, or
    when it does not end well.
    """
    http, ws = free_ports(2) if ports is None else ports
    store, log = folder / "gatebook.db", folder / "serve.log"
    if log.exists():
        # Another one runs on the same store, or ran.
        log = folder / f"serve-{http}.log"
    settings = {"log_format": "json", **settings}
    flags = [part for name, value in settings.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    command = [
        *COMMAND, "serve", "--store", f"sqlite:{store}", "--http", f"127.0.0.1:{http}", "--ws", f"127.0.0.1:{ws}",
        *flags,
    ]  # fmt: skip
    variables = variables or {}
    with log.open("wb") as stderr:
        process = subprocess.Popen(command, stdout=stderr, stderr=stderr, env=_environment(variables), cwd=folder)
        service = Running(f"http://127.0.0.1:{http}", f"ws://127.0.0.1:{ws}", store, log, process, variables)
        try:
            _wait_until_ready(service, ws)
            with held(service.http):
                yield service
            assert process.poll() is None, f"it ended by itself:\n{log.read_text()}"
        finally:
            code = _end(process)
        assert code == 0, f"it ended with {code}:\n{log.read_text()}"
        assert faults or service.errors() == []


def _wait_until_ready(service: Running, ws: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        assert service.process.poll() is None, f"it did not start:\n{service.log.read_text()}"
        try:
            ready = httpx.get(f"{service.http}/health/ready", trust_env=False).status_code == 200
            socket.create_connection(("127.0.0.1", ws)).close()
        except (httpx.TransportError, OSError):
            ready = False
        if ready:
            return
        time.sleep(0.02)  # a process of its own: there is nothing to wait on
    raise AssertionError(f"it is not ready after {PATIENCE} s:\n{service.log.read_text()}")


def _end(process: subprocess.Popen[bytes]) -> int:
    process.terminate()
    try:
        return process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def free_ports(number: int) -> list[int]:
    """Ports of the loopback address that nobody listens on."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Ours with these, and without settings that whoever runs the tests has for a gatebook of their own."""
    return {name: value for name, value in os.environ.items() if not name.startswith("GATEBOOK_")} | dict(variables)
