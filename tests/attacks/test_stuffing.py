"""Stuffing in little: `make stuffing` does it with ten thousand accounts and passwords that cost what they should."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.attacks.stuffing import attacks

CHEAP: dict[str, Any] = {"argon2_memory_kib": 8, "argon2_time": 1, "throttle_address_failures": 20}


def test_guesses_are_few_and_the_owner_comes_in_throughout(tmp_path: Path) -> None:
    """ASVS 5.0: 6.1.1, 6.3.1, 2.4.1; CWE-307: at two processes one more is evaluated than is free, and no more."""
    found = attacks(tmp_path, accounts=300, guesses=50, processes=2, **CHEAP)
    assert [attack.wrong for attack in found] == [()] * 3
    assert [attack.tried for attack in found] == [50, 50, 300]
    assert all(attack.evaluated and attack.throttled and attack.owner_in for attack in found)
    # Right ones are let in as long as nothing refuses them, and no longer.
    assert found[-1].let_in < 3
