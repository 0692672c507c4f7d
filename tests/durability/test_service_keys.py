"""The service's own keys are written beside the writer: a full or failing disk means there what it means everywhere."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import apsw
import pytest
import trio
import trio.testing

from events.errors import DurabilityError
from service.batch import BatchRunner
from service.book import Book, open_book
from service.credentials.cookies import CookieClaims, Cookies
from service.credentials.devices import Devices
from service.credentials.signing_keys import SigningKeys
from service.errors import Unavailable
from service.gate.throttling import ThrottlePolicy, Throttling
from service.housekeeping import Housekeeping
from service.writer import Writer
from tests.durability.desk import WALS
from tests.durability.disk import Act, noting
from tests.durability.look import laid_out
from tests.durability.traffic import NOON


def signing_keys(book: Book) -> SigningKeys:
    return SigningKeys(book.log, book.keyring, lambda: NOON)


def test_a_key_that_finds_no_room_makes_an_attempt_unavailable(tmp_path: Path) -> None:
    disk = noting()
    book = open_book(laid_out({}, tmp_path / "store"), create=True, vfs=disk.name)
    throttling = Throttling(book.keyring, ThrottlePolicy())
    disk.failing = lambda act: apsw.SQLITE_FULL if act.kind == "write" else None

    with pytest.raises(Unavailable):
        throttling.limits("user 1", "203.0.113.7", NOON)
    disk.failing = lambda _: None
    assert throttling.limits("user 1", "203.0.113.7", NOON) == throttling.limits("user 1", "203.0.113.7", NOON)
    book.close()


@pytest.mark.parametrize("age", [timedelta(0), timedelta(days=31)], ids=["made", "replaced"])
async def test_a_key_whose_sync_fails_ends_the_service_and_is_not_tried_again(
    tmp_path: Path, age: timedelta, autojump_clock: trio.testing.MockClock
) -> None:
    disk = noting()
    address = laid_out({}, tmp_path / "store")
    book = open_book(address, create=True, vfs=disk.name)
    writer = Writer(lambda: BatchRunner(open_book(address)), batch_size=1, most_waiting=1, observer=lambda _: None)
    throttling = Throttling(book.keyring, ThrottlePolicy())
    if age:
        throttling.limits("user 1", None, NOON)
    failed: list[Act] = []

    def failing(act: Act) -> int | None:
        if act.file != WALS["keys"] or act.kind not in {"sync", "folder"}:
            return None
        failed.append(act)
        return apsw.SQLITE_IOERR_FSYNC

    disk.failing = failing
    with pytest.raises(DurabilityError), trio.fail_after(60):
        await Housekeeping(
            book,
            writer,
            throttling,
            Cookies(book.keyring),
            Devices(book.keyring),
            signing_keys(book),
            lambda: NOON + age,
        ).run()
    assert len(failed) == 1

    disk.failing = lambda _: None
    book.close()


@pytest.mark.parametrize("by", ["housekeeping", "a request"])
async def test_a_key_of_cookies_whose_sync_fails_ends_the_service_too(
    tmp_path: Path, by: str, autojump_clock: trio.testing.MockClock
) -> None:
    disk = noting()
    address = laid_out({}, tmp_path / "store")
    book = open_book(address, create=True, vfs=disk.name)
    writer = Writer(lambda: BatchRunner(open_book(address)), batch_size=1, most_waiting=1, observer=lambda _: None)
    throttling = Throttling(book.keyring, ThrottlePolicy())
    throttling.rotate(NOON)
    cookies = Cookies(book.keyring, lambda: NOON)
    failed: list[Act] = []

    def failing(act: Act) -> int | None:
        if act.file != WALS["keys"] or act.kind not in {"sync", "folder"}:
            return None
        failed.append(act)
        return apsw.SQLITE_IOERR_FSYNC

    disk.failing = failing
    if by == "a request":
        for _ in range(3):
            with pytest.raises(Unavailable):
                cookies.seal(CookieClaims("1|a", 1, 0))
    with pytest.raises(DurabilityError), trio.fail_after(60):
        await Housekeeping(
            book, writer, throttling, cookies, Devices(book.keyring), signing_keys(book), lambda: NOON
        ).run()
    assert len(failed) == 1

    disk.failing = lambda _: None
    book.close()


def test_a_key_of_cookies_that_finds_no_room_is_made_when_there_is_some(tmp_path: Path) -> None:
    disk = noting()
    book = open_book(laid_out({}, tmp_path / "store"), create=True, vfs=disk.name)
    now = [NOON]
    cookies, claims = Cookies(book.keyring, lambda: now[0]), CookieClaims("1|a", 1, 0)
    disk.failing = lambda act: apsw.SQLITE_FULL if act.kind == "write" else None
    with pytest.raises(Unavailable):
        cookies.seal(claims)

    disk.failing = lambda _: None
    now[0] += timedelta(seconds=1)
    sealed = cookies.seal(claims)
    assert Cookies(book.keyring, lambda: now[0]).open(sealed) == claims
    book.close()


async def test_a_signing_key_whose_sync_fails_ends_the_service_too(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    disk = noting()
    address = laid_out({}, tmp_path / "store")
    book = open_book(address, create=True, vfs=disk.name)
    writer = Writer(lambda: BatchRunner(open_book(address)), batch_size=1, most_waiting=1, observer=lambda _: None)
    throttling, cookies, devices, keys = (
        Throttling(book.keyring, ThrottlePolicy()),
        Cookies(book.keyring),
        Devices(book.keyring),
        signing_keys(book),
    )
    failed: list[Act] = []

    def failing(act: Act) -> int | None:
        if act.file != WALS["keys"] or act.kind not in {"sync", "folder"}:
            return None
        failed.append(act)
        return apsw.SQLITE_IOERR_FSYNC

    throttling.rotate(NOON)
    cookies.rotate(NOON)
    devices.seal.rotate(NOON)
    disk.failing = failing
    for _ in range(3):
        with pytest.raises(Unavailable):
            keys.signing()
    with pytest.raises(DurabilityError), trio.fail_after(60):
        await Housekeeping(book, writer, throttling, cookies, devices, keys, lambda: NOON).run()
    assert len(failed) == 1

    disk.failing = lambda _: None
    book.close()
