"""What is installed is what was published: each package by its hash, from wherever this machine installs from."""

from __future__ import annotations

import json

from tests.npm.installing import HERE


def test_the_lock_has_a_hash_for_each_package_and_names_no_place() -> None:
    named = json.loads((HERE / "package.json").read_text(encoding="utf-8"))["dependencies"]
    packages = json.loads((HERE / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    assert packages.pop("")["dependencies"] == named
    assert {name: packages[f"node_modules/{name}"]["version"] for name in named} == named
    for package in packages.values():
        assert package["integrity"].startswith("sha512-")
        assert "resolved" not in package


def test_the_published_client_is_the_one_that_the_door_is_for() -> None:
    named = json.loads((HERE / "package.json").read_text(encoding="utf-8"))["dependencies"]
    assert (named["@fantaptik/react-auth"], named["@fantaptik/socket"]) == ("0.1.1", "0.1.0")
