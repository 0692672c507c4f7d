"""The processes of a measurement: servers, who loads them, and who holds their sockets open."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from benchmarks.load import Plan, Result

T = TypeVar("T")


class Child:
    """A process to which lines are told, and which answers with one JSON object a line."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def hear(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        heard: dict[str, Any] = json.loads(self._process.stdout.readline())
        return heard

    def ask(self, line: str) -> dict[str, Any]:
        self.tell(line)
        return self.hear()

    @cached_property
    def ports(self) -> dict[str, int]:
        """What a server says first."""
        return self.hear()

    def resident(self) -> float:
        """KiB of memory in use, by its own child processes too."""
        return sum(_resident(pid) for pid in (self._process.pid, *_children(self._process.pid)))


def _resident(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text("ascii")
    return float(next(line for line in status.splitlines() if line.startswith("VmRSS:")).split()[1])


def _children(pid: int) -> list[int]:
    """Whatever any of its threads has started."""
    found = [task.read_text("ascii") for task in Path(f"/proc/{pid}/task").glob("*/children")]
    return [int(child) for line in found for child in line.split()]


@contextmanager
def child(module: str, *arguments: str) -> Iterator[Child]:
    """`python -m benchmarks.MODULE …`, which ends when its standard input does."""
    process = subprocess.Popen(
        [sys.executable, "-m", f"benchmarks.{module}", *arguments],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield Child(process)
    except BaseException:
        process.kill()
        raise
    finally:
        process.communicate(timeout=60)


@contextmanager
def running(*arguments: str) -> Iterator[Child]:
    """A server that answers."""
    with child("servers", *arguments) as server:
        assert server.ports
        yield server


def load(plan: Plan) -> Result:
    with loading(plan) as result:
        return result()


@contextmanager
def loading(plan: Plan) -> Iterator[Callable[[], Result]]:
    """A load beside whatever the block does; what is yielded waits for its result."""
    with at_work("load", plan, Result) as result:
        yield result


@contextmanager
def at_work(module: str, plan: Struct, said: type[T]) -> Iterator[Callable[[], T]]:
    """`python -m benchmarks.MODULE`, which reads one plan and says one thing, beside whatever the block does."""
    process = subprocess.Popen(
        [sys.executable, "-m", f"benchmarks.{module}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    process.stdin.write(msgspec.json.encode(plan))
    process.stdin.close()
    process.stdin = None

    def result() -> T:
        answer, _ = process.communicate(timeout=90)
        return msgspec.json.decode(answer, type=said)

    try:
        yield result
    finally:
        process.wait(timeout=90)
