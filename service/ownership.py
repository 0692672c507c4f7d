"""Refuses to start in an environment where `events`, `projections` or `service` belongs to somebody else.

The names are plain words, and other distributions install packages of the same names (`Events` and `service` are two).
pip then mixes their files with ours without a word; an authentication service must not run on such a mixture.
"""

import re
import sys
from collections.abc import Sequence
from importlib.machinery import PathFinder
from importlib.metadata import Distribution
from pathlib import Path

__all__ = ["PACKAGES", "ForeignPackageError", "refuse_foreign_packages"]

DISTRIBUTION = "gatebook"
PACKAGES = ("events", "projections", "service")

_HOME = Path(__file__).resolve().parent.parent
_OWN_ENVIRONMENT = "give gatebook an environment of its own (python3 -m venv)"


class ForeignPackageError(Exception):
    """Somebody else's code sits where one of our packages should be.

    Raised by `refuse_foreign_packages` at start-up and by nothing else. Its text is one sentence for whoever started
    gatebook. `package` is the name that is claimed twice; `distribution` is who else installed it, None when the
    foreign package came from no installed distribution.
    """

    def __init__(self, message: str, *, package: str, distribution: str | None) -> None:
        super().__init__(message)
        self.package = package
        self.distribution = distribution


def refuse_foreign_packages(path: Sequence[str] | None = None) -> None:
    """Check that our package names are ours, on `path` (default: `sys.path`).

    Costs a few milliseconds: the installed distributions' lists of files are searched as text, never parsed.

    Raises:
        ForeignPackageError: another installed distribution owns one of the names, or Python would import the name
            from outside gatebook's own folder.
    """
    search = list(sys.path if path is None else path)
    for distribution in Distribution.discover(path=search):
        package = _claimed(distribution)
        if package is not None and not _is_ours(distribution):
            name = distribution.name
            message = (
                f"The installed distribution {name!r} owns the package name {package!r}, which gatebook needs:"
                f" {_OWN_ENVIRONMENT}, or uninstall the other one (pip uninstall {name}) and install gatebook again."
            )
            raise ForeignPackageError(message, package=package, distribution=name)
    for package in PACKAGES:
        found = _origin(package, search)
        if found != _HOME / package / "__init__.py":
            message = (
                f"The package {package!r} would be imported from {found or 'nowhere'} and not from gatebook's folder"
                f" {_HOME}: {_OWN_ENVIRONMENT}, and take the other folder off the import path (see PYTHONPATH)."
            )
            raise ForeignPackageError(message, package=package, distribution=None)


def _is_ours(distribution: Distribution) -> bool:
    return re.sub(r"[-_.]+", "-", distribution.name or "").lower() == DISTRIBUTION


# One installed file a line, in RECORD relative to site-packages: `events/slots.py,sha256=…` or `events.py,…`.
_FILE_OF_OURS = re.compile(rf"^(?:\./)?({'|'.join(PACKAGES)})(?:/|\.py,|\.pyc,)", re.MULTILINE)


def _claimed(distribution: Distribution) -> str | None:
    """Return which of our names the distribution says it installed, if any."""
    listed = _FILE_OF_OURS.search(distribution.read_text("RECORD") or "")
    if listed is not None:
        return listed.group(1)
    # Older installers, and editable installs, leave this list of import names instead.
    top_level = (distribution.read_text("top_level.txt") or "").split()
    return next((name for name in top_level if name in PACKAGES), None)


def _origin(package: str, search: Sequence[str]) -> Path | None:
    """Return the file that `import package` runs, or None when there is none."""
    loaded = sys.modules.get(package)
    if loaded is not None and loaded.__file__ is not None:
        return Path(loaded.__file__).resolve()
    spec = PathFinder.find_spec(package, search)
    return None if spec is None or spec.origin is None else Path(spec.origin).resolve()
