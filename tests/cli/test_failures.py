"""How commands fail: one sentence, the documented exit code, no traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import apsw
import pytest

from tests.cli.gatebook import Ended, Gatebook, ended

COMMANDS = (
    ["events"], ["replay"], ["verify"], ["projections", "list"], ["users", "list"], ["users", "show", "1"],
    ["sessions", "list"], ["sessions", "revoke", "1"],
)  # fmt: skip


def one_sentence(said: Ended) -> str:
    assert said.out == ""
    [line] = said.err.splitlines()
    assert line.startswith("gatebook: ")
    assert "Traceback" not in line
    return line


@pytest.mark.parametrize("command", COMMANDS)
def test_a_store_that_cannot_be_opened_ends_in_three(gatebook: Gatebook, command: list[str]) -> None:
    for store, sentence in (
        (f"sqlite:{gatebook.folder}/none.db", "`gatebook serve` makes one"),
        ("postgresql://localhost/book", "sqlite:PATH"),
        (f"sqlite:{gatebook.folder}", "cannot be used"),
    ):
        said = gatebook(*command, store=store)
        assert said.code == 3
        assert sentence in one_sentence(said)
    assert not (gatebook.folder / "none.db").exists()


def test_a_store_that_is_not_ours_stays_as_it_is(gatebook: Gatebook) -> None:
    path = gatebook.folder / "other.db"
    connection = apsw.Connection(str(path))
    connection.execute("CREATE TABLE notes (text)")
    connection.close()
    before = path.read_bytes()
    for command in (*COMMANDS, ["serve"]):
        said = gatebook(*command, store=f"sqlite:{path}")
        assert said.code == 3
        assert "another application's database" in one_sentence(said)
    assert path.read_bytes() == before


def test_a_store_of_a_newer_gatebook_is_refused(gatebook: Gatebook) -> None:
    gatebook.tamper("UPDATE book SET catalogue = catalogue || ',user.teleported'")
    for command in (*COMMANDS, ["serve"]):
        said = gatebook(*command)
        assert said.code == 3
        assert "newer gatebook" in one_sentence(said)


def test_a_corrupt_store_is_refused(gatebook: Gatebook) -> None:
    gatebook.add("alice")
    data = bytearray(gatebook.path.read_bytes())
    data[100:4096] = b"\xff" * 3996
    for rest in ("-wal", "-shm"):
        Path(f"{gatebook.path}{rest}").unlink(missing_ok=True)
    gatebook.path.write_bytes(data)
    for command in (*COMMANDS, ["serve"]):
        said = gatebook(*command)
        assert said.code == 3
        one_sentence(said)


def test_the_wrong_master_key_is_refused_by_what_needs_it(gatebook: Gatebook, monkeypatch: pytest.MonkeyPatch) -> None:
    gatebook.add("alice")
    monkeypatch.setenv("GATEBOOK_MASTER_KEY", "A" * 43 + "=")
    for command in (["users", "list"], ["projections", "list"], ["serve"]):
        said = gatebook(*command)
        assert said.code == 3
        assert "The master key is not the one" in one_sentence(said)


def test_settings_that_are_wrong_end_in_two(gatebook: Gatebook, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "GATEBOOK_BATCHSIZE" in one_sentence(_with(gatebook, monkeypatch, "GATEBOOK_BATCHSIZE", "1"))
    assert "whole number" in one_sentence(_with(gatebook, monkeypatch, "GATEBOOK_BATCH_SIZE", "none"))


def _with(gatebook: Gatebook, monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> Ended:
    with monkeypatch.context() as patched:
        patched.setenv(name, value)
        said = gatebook("users", "list")
    assert said.code == 2
    return said


@pytest.mark.parametrize(
    "arguments",
    [["nope"], ["users", "nope"], ["users", "show"], ["users", "set-level", "alice", "boss"], ["events", "--nope"]],
)
def test_a_command_line_that_is_wrong_ends_in_two(gatebook: Gatebook, arguments: list[str]) -> None:
    said = gatebook(*arguments)
    assert said.code == 2
    one_sentence(said)
    assert gatebook(*arguments, "--json").error["error"] == "usage"


def test_what_is_typed_moves_no_cursor_in_an_error(gatebook: Gatebook) -> None:
    said = gatebook("users", "set-level", "alice", "\x1b[31m\n\x9b")
    assert said.err.replace("\n", "", 1).isprintable()


def test_errors_are_objects_where_objects_are_asked_for(gatebook: Gatebook) -> None:
    said = gatebook("users", "list", "--json", store=f"sqlite:{gatebook.folder}/none.db")
    assert said.error["error"] == "store"
    assert said.error["exit"] == said.code == 3


def test_a_fault_of_ours_is_named_by_its_place_without_what_it_says(
    gatebook: Gatebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("what was typed")

    monkeypatch.setattr("service.cli.users.found", broken)
    said = gatebook("users", "show", "alice")
    assert said.code == 70
    assert "ZeroDivisionError at tests/cli/test_failures.py" in one_sentence(said)
    assert "what was typed" not in said.err


def test_an_interrupted_command_ends_in_130(gatebook: Gatebook, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("service.cli.users.found", interrupted)
    said = gatebook("users", "show", "alice")
    assert (said.code, said.out, said.err) == (130, "", "")


def test_a_foreign_package_is_refused_before_anything_else(gatebook: Gatebook) -> None:
    info = gatebook.folder / "site" / "Events-0.5.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: Events\nVersion: 0.5\n")
    (info / "RECORD").write_text("events/__init__.py,sha256=abc,12\n")
    with gatebook.process("users", "list", PYTHONPATH=str(gatebook.folder / "site")) as process:
        said = ended(process)
    assert said.code == 5
    assert "'Events' owns the package name 'events'" in one_sentence(said)


def test_the_command_needs_no_web_server_to_list_users(gatebook: Gatebook) -> None:
    program = (
        "import sys\nfrom service.cli.process import run\n"
        f"assert run(['users', 'list', '--store', {gatebook.store!r}]) == 0\n"
        "assert not {'quart', 'hypercorn', 'trio_websocket', 'prometheus_client'} & set(sys.modules), sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60, env=os.environ
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_full_output_is_told(gatebook: Gatebook) -> None:
    gatebook.add("alice")
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        done = subprocess.run(
            [str(Path(sys.executable).with_name("gatebook")), "events", "--store", gatebook.store],
            stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=60,
        )  # fmt: skip
    assert done.returncode == 3
    assert done.stderr.splitlines()[0] == "gatebook: The system refused: No space left on device."
