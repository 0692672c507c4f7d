"""What people install: the three packages, typed, with the command, and nothing else."""

import email
import tarfile
import tomllib
import zipfile
from email.message import Message
from importlib import metadata
from pathlib import Path

import pytest
from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PACKAGES = ["events", "projections", "service"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Build the wheel as pip would, in this process."""
    [path] = WheelBuilder(str(ROOT)).build(directory=str(tmp_path_factory.mktemp("wheel")), versions=["standard"])
    with zipfile.ZipFile(path) as built:
        return built


@pytest.fixture(scope="module")
def described(wheel: zipfile.ZipFile) -> Message:
    """Read the wheel's metadata."""
    assert wheel.filename is not None
    with zipfile.ZipFile(wheel.filename) as opened:
        [name] = [name for name in opened.namelist() if name.endswith(".dist-info/METADATA")]
        return email.message_from_bytes(opened.read(name))


@pytest.fixture(scope="module")
def project() -> dict[str, object]:
    table: dict[str, object] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return table


def test_the_wheel_holds_the_three_packages_and_nothing_else(
    wheel: zipfile.ZipFile, project: dict[str, object]
) -> None:
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert tops == {*PACKAGES, f"gatebook-{project['version']}.dist-info"}


@pytest.mark.parametrize("package", PACKAGES)
def test_each_package_is_typed_and_whole(wheel: zipfile.ZipFile, package: str) -> None:
    packed = set(wheel.namelist())
    assert f"{package}/py.typed" in packed
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / package).rglob("*.py")}
    assert modules == {name for name in packed if name.startswith(f"{package}/") and name.endswith(".py")}


def test_the_wheel_carries_the_licence_and_the_command(wheel: zipfile.ZipFile, project: dict[str, object]) -> None:
    info = f"gatebook-{project['version']}.dist-info"
    assert wheel.filename is not None
    with zipfile.ZipFile(wheel.filename) as opened:
        assert "Apache License" in opened.read(f"{info}/licenses/LICENSE").decode()
        assert "gatebook = service.cli:main" in opened.read(f"{info}/entry_points.txt").decode()


def test_the_metadata_says_what_this_is(described: Message, project: dict[str, object]) -> None:
    assert described["Name"] == "gatebook"
    assert described["Version"] == project["version"]
    assert described["License-Expression"] == "Apache-2.0"
    assert SpecifierSet(described["Requires-Python"]) == SpecifierSet(">=3.11")
    assert "Typing :: Typed" in described.get_all("Classifier", [])
    assert described.get_payload(decode=True) == (ROOT / "README.md").read_bytes()


def test_the_dependencies_are_locked_at_versions_they_allow(described: Message) -> None:
    locked = dict(
        line.split(" ")[0].split("==")
        for line in (ROOT / "requirements/runtime.txt").read_text(encoding="utf-8").splitlines()
        if "==" in line.split(" ")[0]
    )
    wanted = [Requirement(text) for text in described.get_all("Requires-Dist", [])]
    runtime = [requirement for requirement in wanted if requirement.marker is None]
    assert "pyjwt" in {requirement.name for requirement in runtime}
    for requirement in runtime:
        assert locked[canonicalize_name(requirement.name)] in requirement.specifier, requirement


def test_the_installed_version_is_the_one_in_the_project_file(project: dict[str, object]) -> None:
    assert metadata.version("gatebook") == project["version"]


def test_the_changelog_speaks_of_what_is_to_come_first() -> None:
    headings = [
        line for line in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").splitlines() if line.startswith("## ")
    ]
    assert headings[0] == "## [Unreleased]"


def test_the_source_archive_can_test_itself(tmp_path: Path) -> None:
    [path] = SdistBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"Makefile", "LICENSE", "pyproject.toml", "requirements/test.txt", "tests/conftest.py"} <= names
    assert not [name for name in names if name.startswith((".venv/", ".git/"))]
