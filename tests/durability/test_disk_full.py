"""No room: nothing is written and nothing is lost, reads go on, and writing begins again by itself."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import apsw
import httpx
import pytest

from service.errors import Unavailable
from tests.durability.desk import CALLERS, EACH, WALS, desk
from tests.durability.disk import Act, noting
from tests.durability.look import Part, faults
from tests.durability.process import PATIENCE, Service

PASSWORD = "a gate and a book"


@pytest.mark.parametrize("part", ["log", "keys"])
@pytest.mark.parametrize("code", [apsw.SQLITE_FULL, apsw.SQLITE_IOERR_WRITE], ids=["full", "broken"])
async def test_what_cannot_be_written_is_refused_until_it_can(
    tmp_path: Path, part: Part, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.writer.PROBE_SECONDS", 0.02)
    full = True

    def failing(act: Act) -> int | None:
        return code if full and act.kind == "write" and act.file == WALS[part] else None

    disk = noting()
    async with desk(tmp_path / "store", disk) as at_desk:
        await at_desk.register_many()
        disk.failing = failing
        for _ in range(3):
            with pytest.raises(Unavailable) as refused:
                await at_desk.register()
        reads = at_desk.book.log.head().position
        full = False
        await at_desk.writer.writes_again()
        await at_desk.register_many()
        address = at_desk.address

    wrong = faults(address, at_desk.events())

    assert wrong == []
    assert str(address.path.parent) in refused.value.reason
    assert reads == CALLERS * EACH
    # What was refused left no gap.
    assert max(one.position for one in at_desk.events()) == 2 * CALLERS * EACH


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of 4 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount, umount = shutil.which("mount"), shutil.which("umount")
    if os.geteuid() != 0 or mount is None or umount is None:
        pytest.skip("a file system of its own takes root, to mount it; full disks were tried through the VFS alone")
    mounted = subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("nothing may be mounted here; full disks were tried through the VFS alone")
    try:
        yield folder
    finally:
        subprocess.run([umount, "--lazy", str(folder)], check=True)


async def test_a_service_on_a_full_disk_reads_on_and_writes_again_when_there_is_room(small_disk: Path) -> None:
    service = Service(small_disk)
    ballast = small_disk / "ballast"
    try:
        await service.start()
        async with httpx.AsyncClient(base_url=service.http, trust_env=False, timeout=PATIENCE) as client:
            alice = await _register(client, "alice")
            assert alice.status_code == 201
            login = await client.post("/api/session", json={"identifier": "alice", "password": PASSWORD})
            token = {"Authorization": f"Bearer {login.json()['token']}"}

            _fill(ballast)
            number, refused = 0, alice
            while refused.status_code == 201:
                # What lies in the write-ahead log already has room for some more.
                number += 1
                refused = await _register(client, f"guest{number}")
            assert refused.status_code == 503
            assert refused.headers["Retry-After"]
            assert (
                await client.post("/api/session", json={"identifier": "alice", "password": PASSWORD})
            ).status_code == 503
            assert (await client.delete("/api/session", headers=token)).status_code == 503
            assert (await client.get("/api/session", headers=token)).status_code == 200
            assert (await client.get("/health/live")).status_code == 200
            ready = await client.get("/health/ready")
            assert ready.status_code == 503
            assert "no room" in ready.json()["reasons"][0]
            verified = await service.cli("verify")
            assert verified.returncode == 0, verified

            ballast.unlink()
            await _until_ready(client)
            assert (await client.get("/api/session", headers=token)).status_code == 200
            assert (await _register(client, f"guest{number}")).status_code == 201
            assert (await _register(client, "alice")).status_code == 422
        verified = await service.cli("verify")
        assert verified.returncode == 0, verified
        assert await service.stop() == 0
        told = await service.cli("events", "--json", "--type", "user.registered")
        assert told.stdout.count(b"\n") == 1 + number
    finally:
        await service.end()


async def _register(client: httpx.AsyncClient, name: str) -> httpx.Response:
    body = {"username": name, "nickname": f"{name} the Great", "password": PASSWORD}
    return await client.post("/api/register", json=body)


def _fill(ballast: Path) -> None:
    """Takes all the room that there is."""
    with ballast.open("wb", buffering=0) as file:
        for size in (65_536, 1_024):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue


async def _until_ready(client: httpx.AsyncClient) -> None:
    deadline = time.monotonic() + PATIENCE
    while (await client.get("/health/ready")).status_code != 200:
        assert time.monotonic() < deadline, "it does not write again"
