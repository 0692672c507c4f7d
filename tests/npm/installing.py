"""Installs what package-lock.json says, once for each lock, beside the checkout's other caches."""

from __future__ import annotations

import functools
import hashlib
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
CACHE = HERE.parent.parent / ".cache" / "npm-client"
FILES = ["package.json", "package-lock.json", ".npmrc"]
OLDEST_NODE = 18
PATIENCE = 600.0
"""Seconds that a slow registry may take."""


def missing() -> str | None:
    """What this machine lacks to run the published client, in words; None when it has everything."""
    lacking = [program for program in ("node", "npm") if shutil.which(program) is None]
    if lacking:
        return f"the published client needs Node {OLDEST_NODE} or newer with npm: {' and '.join(lacking)} not found"
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    major = re.match(r"v(\d+)\.", version)
    if major is None or int(major[1]) < OLDEST_NODE:
        return f"the published client needs Node {OLDEST_NODE} or newer, and this is {version}"
    return None


@functools.cache
def installed() -> Path:
    """The folder with the node_modules; what npm says, as an error, when it cannot install them."""
    lock = hashlib.sha256(b"".join((HERE / name).read_bytes() for name in FILES)).hexdigest()
    folder = CACHE / lock[:16]
    if not folder.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(dir=CACHE))
        try:
            for name in FILES:
                shutil.copy(HERE / name, made)
            npm = subprocess.run(["npm", "ci"], cwd=made, capture_output=True, text=True, check=False, timeout=PATIENCE)
            assert npm.returncode == 0, f"npm ci:\n{npm.stdout}{npm.stderr}"
            # Whole or not at all: a folder by this name is never half an installation.
            made.rename(folder)
        except OSError:
            if not folder.exists():  # another run of the tests was quicker
                raise
        finally:
            shutil.rmtree(made, ignore_errors=True)
    return folder
