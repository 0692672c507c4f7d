"""The passwords that are tried first: refused at registration and change, unless a setting says otherwise."""

import runpy
from functools import cache
from importlib.util import find_spec
from pathlib import Path

__all__ = ["common_passwords"]

_SHORTEST = 8


@cache
def common_passwords() -> frozenset[str]:
    """Return some eleven thousand leaked passwords of at least eight characters, case-folded.

    They come from the list that the `zxcvbn` distribution ships (NIST SP 800-63B section 3.1.1.2 and ASVS 6.2.4 ask for
    such a list; shorter ones are refused anyway). Takes some 50 ms, once.
    """
    package = find_spec("zxcvbn")
    if package is None or not package.submodule_search_locations:
        raise ModuleNotFoundError("The list of common passwords comes with the distribution zxcvbn: install it.")
    # Only the file with the list is run: the package itself would keep tables of 94,000 words in memory, unused by us.
    lists = runpy.run_path(str(Path(package.submodule_search_locations[0]) / "frequency_lists.py"))["FREQUENCY_LISTS"]
    return frozenset(password.casefold() for password in lists["passwords"] if len(password) >= _SHORTEST)
