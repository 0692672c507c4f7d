"""The start-up check refuses foreign packages under our names."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from service.ownership import ForeignPackageError, refuse_foreign_packages


def install(site: Path, name: str, **files: str) -> None:
    """Leave the traces that pip leaves of a distribution."""
    info = site / f"{name}-0.5.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.5\n")
    for file, text in files.items():
        (info / file.replace("_txt", ".txt")).write_text(text)


def test_our_own_environment_is_accepted() -> None:
    refuse_foreign_packages()


@pytest.mark.parametrize(
    ("name", "record", "package"),
    [
        ("Events", "Events-0.5.dist-info/METADATA,,\nevents/__init__.py,sha256=abc,12\nevents/events.py,,\n", "events"),
        ("service", "service/__init__.py,sha256=abc,12\nservice-0.5.dist-info/RECORD,,\n", "service"),
        ("single-file", "projections.py,sha256=abc,12\n", "projections"),
    ],
)
def test_a_distribution_with_files_under_our_name_is_refused(
    tmp_path: Path, name: str, record: str, package: str
) -> None:
    install(tmp_path, name, RECORD=record)
    with pytest.raises(ForeignPackageError) as caught:
        refuse_foreign_packages([str(tmp_path), *sys.path])
    assert caught.value.distribution == name
    assert caught.value.package == package
    assert f"pip uninstall {name}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_distribution_that_only_lists_its_import_names_is_refused(tmp_path: Path) -> None:
    install(tmp_path, "old-events", top_level_txt="_helper\nevents\n")
    with pytest.raises(ForeignPackageError, match="'old-events' owns the package name 'events'"):
        refuse_foreign_packages([str(tmp_path), *sys.path])


def test_names_that_only_resemble_ours_are_accepted(tmp_path: Path) -> None:
    record = "events_extra/__init__.py,,\nservices.py,,\nother/events/__init__.py,,\n../../bin/service,,\n"
    install(tmp_path, "neighbour", RECORD=record, top_level_txt="events_extra\nservices\nother\n")
    refuse_foreign_packages([str(tmp_path), *sys.path])


@pytest.mark.parametrize("name", ["gatebook", "Gatebook"])
def test_gatebook_itself_may_own_its_packages(tmp_path: Path, name: str) -> None:
    install(tmp_path, name, RECORD="events/__init__.py,,\nprojections/__init__.py,,\nservice/__init__.py,,\n")
    refuse_foreign_packages([str(tmp_path), *sys.path])


@pytest.mark.parametrize("imported", [False, True], ids=["not imported yet", "imported"])
def test_a_folder_that_comes_first_on_the_import_path_is_refused(tmp_path: Path, *, imported: bool) -> None:
    """Shown in a process of its own, as a service would be started in it."""
    foreign = tmp_path / "events"
    foreign.mkdir()
    (foreign / "__init__.py").touch()
    program = f"{'import events' if imported else ''}\nfrom service.ownership import *\nrefuse_foreign_packages()"
    root = Path(__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{root}"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    last_line = done.stderr.splitlines()[-1]
    assert last_line.startswith("service.ownership.ForeignPackageError: The package 'events' would be imported from")
    assert str(foreign) in last_line


def test_a_package_that_is_not_there_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "events", raising=False)
    with pytest.raises(ForeignPackageError, match="would be imported from nowhere"):
        refuse_foreign_packages([str(tmp_path)])
