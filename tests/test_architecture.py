"""The rules of the house that a program can check: who imports whom, and what no file may name."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# Written in pieces, so that this file does not name what it forbids.
REGISTRY_HOSTS = [
    "".join(pieces)
    for pieces in [
        ("py", "pi", ".org"),
        ("python", "hosted", ".org"),
        ("registry", ".npmjs", ".org"),
        ("registry", ".yarnpkg", ".com"),
        ("deb", ".debian", ".org"),
        ("archive", ".ubuntu", ".com"),
        ("crates", ".io"),
        ("docker", ".io"),
        ("gh", "cr", ".io"),
    ]
]
OUTSIDE = Path("..", "shared").as_posix()


def committed_files() -> list[Path]:
    """Return every file that git knows in this checkout."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: nothing says which files are committed")
    listed = subprocess.run(
        # The owner of the folder may be another than the one who runs the tests (a container does that).
        ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z"],
        cwd=ROOT,
        # A hook that runs the tests hands down these variables, which would point git elsewhere.
        env={name: value for name, value in os.environ.items() if not name.startswith("GIT_")},
        capture_output=True,
        check=True,
        timeout=60,
    )
    return [
        ROOT / os.fsdecode(name) for name in listed.stdout.split(b"\0") if name and (ROOT / os.fsdecode(name)).is_file()
    ]


def test_imports_go_one_way() -> None:
    # In a process of its own: it configures logging for itself, and thereby switches off the loggers that there are.
    lint = "import sys; from importlinter.cli import lint_imports as lint; sys.exit(lint(no_cache=True))"
    linted = subprocess.run(
        [sys.executable, "-c", lint], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )
    assert linted.returncode == 0, linted.stdout + linted.stderr


def test_no_committed_file_names_a_package_registry_or_a_place_outside() -> None:
    files = committed_files()
    assert ROOT / "pyproject.toml" in files
    forbidden = re.compile("|".join(map(re.escape, [*REGISTRY_HOSTS, OUTSIDE])).encode())
    found = [
        f"{file.relative_to(ROOT)}: {match.group().decode()}"
        for file in files
        for match in forbidden.finditer(file.read_bytes())
    ]
    assert found == []


@pytest.mark.parametrize("line", ["--index-url https://x", "--extra-index-url=x", "--find-links x", "apsw @ https://x"])
def test_a_lock_line_with_a_host_would_be_noticed(line: str) -> None:
    assert names_a_place(line)


@pytest.mark.parametrize("name", ["runtime", "test", "check"])
def test_the_lock_files_name_no_place_and_hash_everything(name: str) -> None:
    lock = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
    assert [line for line in lock.splitlines() if names_a_place(line)] == []
    requirements = re.findall(r"^[a-z0-9].*$", lock, re.MULTILINE | re.IGNORECASE)
    assert requirements
    assert [line for line in requirements if not re.match(r"[a-z0-9.-]+==\S+ (;.* )?\\$", line)] == []
    assert lock.count("--hash=sha256:") >= len(requirements)


def names_a_place(line: str) -> bool:
    """Tell whether a line of a lock file says where to download from."""
    return re.search(r"://| @ |^-(?!-hash)|index-url|find-links|trusted-host", line.strip()) is not None and not (
        line.strip().startswith("--hash=sha256:")
    )
