"""The versions of the libraries that the guards were tested with, and which of them are not what is installed."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Final

TESTED_VERSIONS: Final[dict[str, str]] = {
    "h11": "0.16.0",
    "Hypercorn": "0.18.0",
    "Quart": "0.22.0",
    "quart-trio": "0.12.0",
    "trio": "0.35.0",
    "trio-websocket": "0.12.2",
    "wsproto": "1.3.2",
}
"""Distribution name to version. The guards override undocumented methods of most of these."""


def untested_versions() -> list[str]:
    """One sentence for each library whose installed version is another than the tested one; empty when all is well."""
    sentences = []
    for name, tested in TESTED_VERSIONS.items():
        try:
            installed = version(name)
        except PackageNotFoundError:
            sentences.append(f"{name} is not installed; the guards were tested with {tested}.")
            continue
        if installed != tested:
            sentences.append(f"{name} {installed} is installed; the guards were tested with {tested}.")
    return sentences
