"""A `gatebook serve` of its own process, that can be killed and started again over the same store."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import trio

from service.book import StoreAddress

GATEBOOK: Final = str(Path(sys.executable).with_name("gatebook"))
PATIENCE: Final = 60.0
"""Seconds after which whatever is waited for will not come."""

# The lowest that Argon2id knows, and no throttling: clients are to write, not to wait.
CHEAP: Final = {
    "GATEBOOK_ARGON2_MEMORY_KIB": "8",
    "GATEBOOK_ARGON2_TIME": "1",
    "GATEBOOK_THROTTLE_ACCOUNT_FAILURES": "10000",
    "GATEBOOK_THROTTLE_ADDRESS_FAILURES": "1000000",
    "GATEBOOK_GUESTS_PER_ADDRESS": "100000",
    "GATEBOOK_METRICS": "off",
    "GATEBOOK_LOG_FORMAT": "json",
    "GATEBOOK_LOG_LEVEL": "warning",
}


class Service:
    """One store in a folder, and the process that serves it at the moment."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.address = StoreAddress(folder / "gatebook.db")
        self.http = ""
        self.ws = ""
        self._log = folder / "serve.log"
        self._process: trio.Process | None = None

    async def start(self) -> None:
        """Starts it, on free loopback ports, and waits until it says where it listens."""
        flags = ["--store", f"sqlite:{self.address.path}", "--http", "127.0.0.1:0", "--ws", "127.0.0.1:0", "--json"]
        with self._log.open("ab") as log:
            self._process = await trio.lowlevel.open_process(
                [GATEBOOK, "serve", *flags], stdout=subprocess.PIPE, stderr=log, env=environment()
            )
        with trio.fail_after(PATIENCE):
            listening = await self._told("listening")
        self.http, self.ws = f"http://{listening['http']}", f"ws://{listening['ws']}"

    async def kill(self) -> None:
        """SIGKILL: nothing of it runs any more, nothing of it is told."""
        assert self._process is not None
        assert self._process.returncode is None, f"it ended by itself:\n{self.log()}"
        self._process.kill()
        await self._process.wait()

    async def stop(self) -> int:
        """SIGTERM; the code that it ended with."""
        assert self._process is not None
        self._process.terminate()
        with trio.fail_after(PATIENCE):
            return await self._process.wait()

    async def end(self) -> None:
        """Makes sure that nothing is left of it, whatever happened."""
        if self._process is None:
            return
        with trio.CancelScope(shield=True):
            if self._process.returncode is None:
                self._process.kill()
            await self._process.wait()
            if self._process.stdout is not None:
                await self._process.stdout.aclose()

    async def cli(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        """`gatebook …` on the same store."""
        command = [GATEBOOK, *arguments, "--store", f"sqlite:{self.address.path}"]
        with trio.fail_after(PATIENCE):
            return await trio.run_process(
                command, capture_stdout=True, capture_stderr=True, check=False, env=environment()
            )

    def copy(self, folder: Path) -> StoreAddress:
        """The store's files as they lie there, so that looking at them does not mend them."""
        folder.mkdir()
        for file in self.folder.glob("gatebook.*"):
            if not file.name.endswith(("-shm", "-lock")):
                shutil.copy2(file, folder)
        return StoreAddress(folder / "gatebook.db")

    def log(self) -> str:
        """What it said on stderr."""
        return self._log.read_text()

    def errors(self) -> list[str]:
        """The lines of its log that tell of a fault."""
        return [line for line in self.log().splitlines() if '"level": "error"' in line or "Traceback" in line]

    async def _told(self, name: str) -> dict[str, str]:
        assert self._process is not None
        assert self._process.stdout is not None
        heard = b""
        async for part in self._process.stdout:
            heard += part
            *lines, _ = heard.split(b"\n")
            for line in lines:
                said = json.loads(line)
                if name in said:
                    found: dict[str, str] = said[name]
                    return found
        raise AssertionError(f"it did not start:\n{self.log()}")


def environment() -> dict[str, str]:
    """Ours, without settings of a gatebook that whoever runs this has, and with cheap ones."""
    return {name: value for name, value in os.environ.items() if not name.startswith("GATEBOOK_")} | CHEAP
