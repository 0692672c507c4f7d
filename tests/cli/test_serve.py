"""`gatebook serve`: that it says what to try next, that this works, and how it fails to start."""

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from service.app import Listening
from service.cli.place import Place, settings_of
from service.cli.serving import what_next
from service.settings import SECRET_SETTINGS, Settings, flag_of
from service.web.cookies import IN_DEVELOPMENT
from tests.cli.gatebook import PASSWORD, PATIENCE, Gatebook, ended

ANYWHERE = ["--http", "127.0.0.1:0", "--ws", "127.0.0.1:0", "--metrics", "off"]


def test_what_it_says_to_try_next_works_and_other_processes_are_seen_at_once(gatebook: Gatebook) -> None:
    with gatebook.process("serve", *ANYWHERE) as serving:
        assert serving.stdout is not None
        said: list[str] = []
        while not said or "Ctrl-C stops it." not in said[-1]:
            said.append(serving.stdout.readline())
            assert said[-1], serving.communicate()
        tries = said[next(number for number, line in enumerate(said) if line.startswith("Try next")) :]
        register, log_in, *commands = [line.strip() for line in tries if line.startswith("  ")]
        assert json.loads(_typed(register, gatebook.folder)) == {"id": 1}
        user = json.loads(_typed(log_in, gatebook.folder))["user"]
        assert (user["username"], user["level"]) == ("alice", 1)
        assert [line.split(" ", 1)[1] for line in commands] == [
            "events", "sessions list", "users add keeper --level admin", "projections show users 1", "verify",
        ]  # fmt: skip
        assert "session.opened" in _typed(commands[0], gatebook.folder)
        assert "alice" in _typed(commands[1], gatebook.folder)
        made = gatebook("users", "add", "keeper", "--level", "admin", "--password-stdin", stdin=PASSWORD.encode())
        assert made.code == 0
        as_keeper = log_in.replace("alice", "keeper").replace("a gate and a book", PASSWORD)
        assert json.loads(_typed(as_keeper, gatebook.folder))["user"]["level"] == 2
        assert "username=alice" in _typed(commands[3], gatebook.folder)
        assert "The book is sound." in _typed(commands[4], gatebook.folder)
        end = ended(serving, signal.SIGTERM)
    assert end.code == 0
    assert "Traceback" not in end.err


def _typed(line: str, folder: Path) -> str:
    done = subprocess.run(shlex.split(line), cwd=folder, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_for_machines_it_says_where_it_listens(gatebook: Gatebook) -> None:
    with gatebook.process("serve", "--json", *ANYWHERE, "--store", gatebook.store) as serving:
        assert serving.stdout is not None
        told = json.loads(serving.stdout.readline())
        host, _, port = told["listening"]["http"].rpartition(":")
        socket.create_connection((host, int(port)), timeout=PATIENCE).close()
        assert told["listening"]["metrics"] is None
        assert told["store"] == str(gatebook.path.resolve())
        assert ended(serving, signal.SIGINT).code == 0


def test_in_development_it_shouts(gatebook: Gatebook) -> None:
    with gatebook.process("serve", "--json", *ANYWHERE, "--store", gatebook.store, GATEBOOK_DEVELOPMENT="1") as serving:
        assert serving.stdout is not None
        assert "listening" in serving.stdout.readline()
        end = ended(serving, signal.SIGTERM)
    assert end.code == 0
    shouted, logged = [json.loads(line) for line in end.err.splitlines() if "DEVELOPMENT" in line]
    assert shouted == {"warning": IN_DEVELOPMENT}
    assert (logged["level"], logged["event"], logged["sentence"]) == ("warning", "development", IN_DEVELOPMENT)


def test_in_development_it_shouts_at_people_in_red(gatebook: Gatebook) -> None:
    ours, theirs = os.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "service.cli", "serve", *ANYWHERE, "--store", gatebook.store, "--development", "true"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
        env=os.environ | {"TERM": "xterm-256color", "COLUMNS": "300"},
    ) as serving:
        os.close(theirs)
        assert serving.stdout is not None
        try:
            while line := serving.stdout.readline():
                if "Ctrl-C stops it." in line:
                    break
            shown = os.read(ours, 65_536).decode()
        finally:
            serving.kill()
    os.close(ours)
    assert f"\x1b[1;31m{IN_DEVELOPMENT}\x1b[0m" in shown


@pytest.mark.parametrize("listener", ["--http", "--ws"])
def test_in_development_it_listens_on_this_machine_alone(gatebook: Gatebook, listener: str) -> None:
    fresh = gatebook.folder / "fresh.db"
    said = gatebook("serve", "--development", "1", listener, "0.0.0.0:0", store=f"sqlite:{fresh}")
    assert (said.code, said.out) == (2, "")
    assert "http and ws listen on this machine alone" in said.err
    assert len(said.err.splitlines()) == 1
    assert not fresh.exists()


def test_a_port_in_use_ends_in_four_before_a_store_is_made(gatebook: Gatebook) -> None:
    fresh = gatebook.folder / "fresh.db"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = gatebook(
            "serve", "--http", f"127.0.0.1:{port}", "--ws", "127.0.0.1:0", "--metrics", "off",
            store=f"sqlite:{fresh}",
        )  # fmt: skip
    assert (said.code, said.out) == (4, "")
    assert "another program is using it" in said.err
    assert len(said.err.splitlines()) == 1
    assert not fresh.exists()


def test_a_folder_that_is_not_there_ends_in_three(gatebook: Gatebook) -> None:
    said = gatebook("serve", *ANYWHERE, store=f"sqlite:{gatebook.folder}/none/gatebook.db")
    assert (said.code, "does not exist" in said.err) == (3, True)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--batch-size", "many"], "--batch-size on the command line must be a whole number"),
        (["--bach-size", "1"], "Did you mean --batch-size?"),
        (["--http", "nowhere"], "HOST:PORT"),
        (["--http", "127.0.0.1:1", "--ws", "127.0.0.1:1"], "each listener needs a port of its own"),
        (["--master-key", "x"], "--master-key"),
    ],
)
def test_settings_that_are_wrong_end_in_two(gatebook: Gatebook, arguments: list[str], sentence: str) -> None:
    said = gatebook("serve", *arguments)
    assert (said.code, said.out) == (2, "")
    assert sentence in said.err
    assert len(said.err.splitlines()) == 1


def test_every_setting_is_a_flag_but_the_secret_ones(gatebook: Gatebook) -> None:
    said = gatebook("serve", "--help").out
    for name in Settings.__struct_fields__:
        assert (f"{flag_of(name)} " in said) == (name not in SECRET_SETTINGS), name


def test_what_to_try_next_works_where_nobody_registers(gatebook: Gatebook) -> None:
    with gatebook.process("serve", *ANYWHERE, "--registration", "closed") as serving:
        assert serving.stdout is not None
        said: list[str] = []
        while not said or "Ctrl-C stops it." not in said[-1]:
            said.append(serving.stdout.readline())
            assert said[-1], serving.communicate()
        make, log_in, *_ = [line.strip() for line in said[said.index("\n") :] if line.startswith("  ")]
        made = subprocess.run(
            ["sh", "-c", make], cwd=gatebook.folder, capture_output=True, text=True, check=False, timeout=PATIENCE
        )
        assert "alice (user 1) was made" in made.stdout, made.stderr
        assert json.loads(_typed(log_in, gatebook.folder))["user"]["username"] == "alice"


def test_what_to_try_next_names_the_same_store(gatebook: Gatebook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEBOOK_STORE", "sqlite:/tmp/a book/gatebook.db")
    place = Place()
    lines = what_next(Listening("0.0.0.0:8000", "0.0.0.0:8001", None), settings_of(place), place)
    assert "  metrics   off" in lines
    assert any("http://127.0.0.1:8000/api/register" in line for line in lines)
    assert any(line.endswith(" verify --store 'sqlite:/tmp/a book/gatebook.db'") for line in lines)
