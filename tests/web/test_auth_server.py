"""The auth-server door where the service cannot decide, and where two come at once."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
import trio

from events.catalogue import GuestCreated, SessionOpened, SessionSeen, UserRegistered
from events.errors import StoreUnavailableError
from service.gate.attempts import Client
from tests.web.serving import Web, web
from tests.web.test_account import Broken

COOKIE = "__Host-gatebook"


async def authenticate(at: Web, token: str | None = None, cookie: str | None = None) -> httpx.Response:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    if cookie is not None:
        headers["Cookie"] = f"{COOKIE}={cookie}"
    return await at.client.post("/api/authenticate", headers=headers)


async def log_in(at: Web, token: str) -> httpx.Response:
    form = {"email": "alice", "password": "correct horse"}
    return await at.client.post("/api/login", data=form, headers={"Authorization": f"Bearer {token}"})


def undecided(answer: httpx.Response) -> None:
    assert answer.status_code == 503
    assert answer.json().keys() == {"message"}
    assert int(answer.headers["Retry-After"]) >= 1
    assert "Set-Cookie" not in answer.headers


async def test_a_store_that_cannot_say_makes_nobody_a_guest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with web(tmp_path) as at:
        await at.register()
        token = str((await authenticate(at)).json()["at"])
        cookie = at.client.cookies.get(COOKIE)

        with monkeypatch.context() as broken:
            broken.setattr(at.house.gate.lookups, "_book", Broken())
            undecided(await authenticate(at, token))
            undecided(await authenticate(at, cookie=cookie))
            undecided(await log_in(at, token))
        assert (await authenticate(at, token)).json() == {"at": token}
        assert len(at.events("guest.created")) == 1


async def test_nobody_is_made_a_guest_when_nothing_can_be_written(tmp_path: Path) -> None:
    async with web(tmp_path) as at:
        at.house.writer._stopping = True
        undecided(await authenticate(at))
        at.house.writer._stopping = False
        assert (await authenticate(at)).status_code == 200


async def test_nothing_is_written_that_no_cookie_could_tell_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with web(tmp_path) as at:
        await at.register()
        guest = await at.house.guests.admit(Client("auth-server"))

        def unreadable(_: str) -> dict[str, bytes]:
            raise StoreUnavailableError("no keys")

        with monkeypatch.context() as broken:
            broken.setattr(at.house.book.keyring, "service_keys", unreadable)
            undecided(await authenticate(at))
            undecided(await log_in(at, guest.token))
        assert [type(one.event) for one in at.events()] == [UserRegistered, GuestCreated]
        at.house.clock.pass_by(seconds=1)
        assert (await log_in(at, guest.token)).status_code == 200


async def test_a_guest_who_comes_again_was_seen(tmp_path: Path) -> None:
    async with web(tmp_path) as at:
        token = str((await authenticate(at)).json()["at"])
        at.house.clock.pass_by(hours=2)
        await authenticate(at, token)
        await authenticate(at, token)
        assert [type(one.event) for one in at.events()] == [GuestCreated, SessionSeen]


async def test_one_guest_logs_in_once_however_many_ask_at_once(tmp_path: Path) -> None:
    async with web(tmp_path) as at:
        await at.register()
        token = str((await authenticate(at)).json()["at"])
        answers: list[httpx.Response] = []

        async def ask() -> None:
            answers.append(await log_in(at, token))

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(ask)
        assert sorted(answer.status_code for answer in answers) == [200, 401, 401, 401, 401]
        assert len([one for one in at.events() if type(one.event) is SessionOpened]) == 1
