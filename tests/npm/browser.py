"""Browsers without a screen, in which the published client runs: what they are told to do, and what they tell."""

from __future__ import annotations

import json
import os
import select
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.conformance.running import PATIENCE, Running, fresh
from tests.npm.installing import installed

DRIVER = Path(__file__).with_name("driver.js")
TYPE = "fantaptik/react-auth/"

Told = dict[str, Any]


def anything(_: Told) -> bool:
    return True


class Tab:
    """One tab. What happens in it is told by kind, and each kind is heard in its own order.

    `state` is the Redux store, `posted` an HTTP request with its answer, `sent` and `received` are messages of its
    socket, `notified` is what the application hears that is no reply, `connected`, `disconnected` and `closed` (with
    the code) tell of the socket.
    """

    def __init__(self, browser: Browser, name: str) -> None:
        self._browser = browser
        self._name = name
        self._told: dict[str, list[Told]] = defaultdict(list)
        self._heard: dict[str, int] = defaultdict(int)

    def log_in(self, username: str, password: str) -> None:
        self._do("log_in", username=username, password=password)

    def log_out(self) -> None:
        self._do("log_out")

    def post(self, path: str, bearer: str | None = None, **fields: str) -> Told:
        """A form that another script of the page posts, and the answer."""
        self._do("post", path=path, fields=fields, bearer=bearer)
        return self.next("posted", lambda told: told["path"] == path)

    def close(self) -> None:
        self._do("close")
        self.next("gone")

    def next(self, kind: str, fits: Callable[[Told], bool] = anything) -> Told:
        """The next of its kind that fits; those before it are passed over. Fails when none comes."""
        deadline = time.monotonic() + PATIENCE
        while True:
            while self._heard[kind] < len(self._told[kind]):
                told = self._told[kind][self._heard[kind]]
                self._heard[kind] += 1
                if fits(told):
                    return told
            self._browser.driver.hear(deadline, lambda: f"{self._name} waits for {kind}, and heard {dict(self._told)}")

    def posted(self, type_: str) -> Told:
        """The next HTTP request of this type, with its answer."""
        return self.next("posted", lambda told: told["type"] == TYPE + type_)

    def asked(self, type_: str) -> Any:
        """What was answered to the next message of this type."""
        sent = self.next("sent", lambda told: unpacked(told["message"])["type"] == TYPE + type_)
        number = sent["message"]["id"]
        return unpacked(self.next("received", lambda told: told["message"].get("id") == number)["message"])

    def count(self, kind: str) -> int:
        """How often it was told until now."""
        return len(self._told[kind])

    def take(self, told: Told) -> None:
        self._told[told["told"]].append(told)

    def _do(self, command: str, **details: Any) -> None:
        self._browser.driver.say(command=command, browser=self._browser.name, tab=self._name, **details)


class Browser:
    """Tabs that share cookies and storage."""

    def __init__(self, driver: Driver, service: Running, enveloper: str) -> None:
        self.driver = driver
        self.name = fresh("browser")
        self._service = service
        self._enveloper = enveloper
        self._tabs: dict[str, Tab] = {}

    def open(self) -> Tab:
        """A new tab with the application in it; the same as loading it anew, when another one was closed."""
        name = fresh("tab")
        self._tabs[name] = tab = Tab(self, name)
        self.driver.tabs[self.name, name] = tab
        self.driver.say(
            command="open", browser=self.name, tab=name, http=self._service.http, ws=self._service.ws,
            enveloper=self._enveloper,
        )  # fmt: skip
        return tab

    def close(self) -> None:
        for tab in self._tabs.values():
            if tab.count("gone") == 0:
                tab.close()


class Driver:
    """The process in which all browsers of a test run live."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.tabs: dict[tuple[str, str], Tab] = {}
        self.trouble: list[str] = []
        """What pages wrote into their consoles, and promises that were rejected and not caught."""
        self._process = process
        self._rest = b""

    def say(self, **command: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command).encode() + b"\n")
        self._process.stdin.flush()

    def hear(self, deadline: float, failure: Callable[[], str]) -> None:
        """Waits until something more was told."""
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        ready, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
        assert ready, f"{failure()}; trouble: {self.trouble}"
        part = os.read(descriptor, 65_536)
        assert part, f"the driver has ended; {failure()}; trouble: {self.trouble}"
        *lines, self._rest = (self._rest + part).split(b"\n")
        for line in lines:
            told = json.loads(line)
            if told["told"] == "trouble":
                self.trouble.append(told["said"])
            else:
                self.tabs[told["browser"], told["tab"]].take(told)


@contextmanager
def driving() -> Iterator[Driver]:
    """Starts the driver, and ends it."""
    with subprocess.Popen(
        ["node", str(DRIVER), str(installed())], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        try:
            yield Driver(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()


def unpacked(message: Told) -> Told:
    """The message that an envelope holds, or the message itself when it travels bare, without its number."""
    held = message.get("data")
    return held if isinstance(held, dict) else {name: value for name, value in message.items() if name != "id"}
