"""How many files and sockets a process may have open."""

from __future__ import annotations

import resource


def allow_descriptors() -> int:
    """Raises this process's bound as far as it may go; what it is then."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard
