"""The write lock: one holder, a bound on the waiting, and nothing lost by whoever gave up."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from events.write_lock import WriteLock

SOON = 0.02
LONG = 10.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lock"


@pytest.fixture
def lock(path: Path) -> Iterator[WriteLock]:
    lock = WriteLock(path)
    yield lock
    lock.close()


@pytest.fixture
def other(path: Path) -> Iterator[WriteLock]:
    other = WriteLock(path)
    yield other
    other.close()


def test_one_holds_it_and_the_next_comes_after(lock: WriteLock, other: WriteLock) -> None:
    assert lock.acquire(0)
    assert not other.acquire(SOON)
    lock.release()
    assert other.acquire(LONG)
    assert not lock.acquire(SOON)


def test_a_waiter_is_let_in_as_soon_as_it_is_free(lock: WriteLock, other: WriteLock) -> None:
    assert lock.acquire(0)
    timer = threading.Timer(SOON, lock.release)
    timer.start()
    assert other.acquire(LONG)
    timer.join()


def test_one_that_gave_up_takes_nothing_from_the_others(lock: WriteLock, other: WriteLock, path: Path) -> None:
    assert lock.acquire(0)
    for _ in range(3):
        assert not other.acquire(SOON)
    waiting = [thread for thread in threading.enumerate() if thread.name == "write-lock"]
    assert len(waiting) == 1, "those that gave up left more than one place in the queue"
    lock.release()
    waiting[0].join(LONG)
    assert lock.acquire(0), "what nobody wants any more is kept locked"
    lock.release()
    assert other.acquire(0)


def test_whoever_comes_back_takes_the_place_that_was_left(lock: WriteLock, other: WriteLock) -> None:
    assert lock.acquire(0)
    assert not other.acquire(SOON)
    timer = threading.Timer(SOON, lock.release)
    timer.start()
    assert other.acquire(LONG)
    timer.join()
    assert not lock.acquire(SOON)
    other.release()
    assert lock.acquire(LONG)


def test_what_comes_in_the_moment_of_giving_up_is_given_back(
    lock: WriteLock, other: WriteLock, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert lock.acquire(0)
    wait = other._taken.wait

    def too_late(seconds: float) -> bool:
        lock.release()
        assert wait(LONG)
        return False

    monkeypatch.setattr(other._taken, "wait", too_late)
    assert not other.acquire(SOON)
    assert lock.acquire(0)


def test_closing_releases_it_and_ends_the_waiting(lock: WriteLock, path: Path) -> None:
    holder, gone = WriteLock(path), WriteLock(path)
    assert holder.acquire(0)
    assert not gone.acquire(SOON)
    waiting = [thread for thread in threading.enumerate() if thread.name == "write-lock"]
    gone.close()
    holder.close()
    for thread in waiting:
        thread.join(LONG)
    assert lock.acquire(LONG)


def test_only_the_owner_opens_it(lock: WriteLock, path: Path) -> None:
    assert path.stat().st_mode & 0o777 == 0o600
