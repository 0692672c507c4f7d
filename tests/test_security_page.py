"""docs/security.md claims nothing without a test, and no test claims what does not stand there."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
CLAIMS = PAGE[PAGE.index("## OWASP ASVS") : PAGE.index("### Not claimed")]
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", PAGE)))
NUMBER = re.compile(r"\b\d{1,2}\.\d{1,2}\.\d{1,2}\b")


def functions_in(path: Path) -> set[str]:
    """The names of the tests in a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def claimed_by_tests() -> Iterator[tuple[str, str]]:
    """Each number of the standard that the docstring of a test names, and where."""
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            said = ast.get_docstring(node) or "" if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else ""
            for sentence in re.findall(r"ASVS[^;:(]*(?::[^;:(]*)?", said):
                for first, last in re.findall(r"(\d+\.\d+\.\d+)(?: to (\d+\.\d+\.\d+))?", sentence):
                    for number in between(first, last or first):
                        yield number, f"{path.name}::{node.name}"  # type: ignore[attr-defined]  # a function has a name


def between(first: str, last: str) -> Iterator[str]:
    """`3.4.3` to `3.4.6`: each number from the one to the other."""
    section, _, start = first.rpartition(".")
    for number in range(int(start), int(last.rpartition(".")[2]) + 1):
        yield f"{section}.{number}"


def test_the_page_names_tests() -> None:
    assert len(NAMED) > 50


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_every_test_that_the_page_names_is_there(file: str, name: str) -> None:
    path = ROOT / file
    assert path.is_file()
    assert not name or name in functions_in(path)


def test_every_row_names_its_requirements_and_a_test() -> None:
    rows = [line.split(" | ") for line in CLAIMS.splitlines() if line.startswith("| ") and "---" not in line][1:]
    assert len(rows) > 40
    for numbers, _, shown in rows:
        assert NUMBER.findall(numbers), numbers
        assert "`tests/" in shown, numbers


def test_what_a_test_claims_stands_on_the_page() -> None:
    listed = set(NUMBER.findall(CLAIMS))
    claimed = list(claimed_by_tests())
    assert len(claimed) > 30
    assert {(number, where) for number, where in claimed if number not in listed} == set()


def test_nothing_is_claimed_and_not_claimed() -> None:
    refused = PAGE[PAGE.index("### Not claimed") :]
    assert set(NUMBER.findall(CLAIMS)) & set(NUMBER.findall(refused)) == set()
