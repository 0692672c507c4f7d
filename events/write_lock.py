"""The file lock at which the writers of several processes queue, with a bound on the waiting.

`flock` queues fairly but knows no time limit, so where the lock is taken, a thread waits in its place. A process that
was stopped while it held the lock then costs the others a refusal, and does not stop them too.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from threading import Event, Lock, Thread


class WriteLock:
    """An exclusive lock on a file of its own. Used by one thread at a time; OSError where the file cannot be locked."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._state = Lock()
        self._taken = Event()
        self._waiting = False
        self._wanted = False

    def acquire(self, seconds: float) -> bool:
        """Takes the lock, waiting for others no longer than that; says whether it did."""
        with self._state:
            if not self._waiting:
                try:
                    fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    self._send_a_waiter()
                else:
                    return True
            # One that was given up on may still be waiting; its place in the queue is ours.
            self._wanted = True
        taken = False
        try:
            taken = self._taken.wait(seconds)
        finally:
            with self._state:
                self._wanted = False
                if self._taken.is_set() and not taken:
                    # It came in the very moment in which the waiting ended.
                    self.release()
        return taken

    def release(self) -> None:
        """Lets the next writer in."""
        fcntl.flock(self._file, fcntl.LOCK_UN)

    def close(self) -> None:
        """Closes the file, and so releases the lock."""
        os.close(self._file)

    def _send_a_waiter(self) -> None:
        # A descriptor of its own: the lock is the file's, and the thread may outlive ours.
        waiter = Thread(target=self._wait, args=(os.dup(self._file),), name="write-lock", daemon=True)
        self._taken.clear()
        waiter.start()
        self._waiting = True

    def _wait(self, file: int) -> None:
        fcntl.flock(file, fcntl.LOCK_EX)
        with self._state:
            self._waiting = False
            if self._wanted:
                self._taken.set()
            else:
                fcntl.flock(file, fcntl.LOCK_UN)
            os.close(file)
