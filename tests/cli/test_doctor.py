"""`gatebook doctor`: what is wrong and what to do, and that it changes nothing."""

from __future__ import annotations

import os
import socket
from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import fields

from events.sqlite import SQLiteLog
from service.batch import BatchRunner, order, raised
from service.cli.clock import LARGEST_SKEW
from service.decisions.administration import NoteAuditRead
from service.guards.versions import TESTED_VERSIONS
from service.settings import Settings, meta_of
from tests.cli.gatebook import Ended, Gatebook


def by_name(said: Ended) -> dict[str, tuple[str, str]]:
    return {one["name"]: (one["state"], one["said"]) for one in said.objects}


def test_all_is_well(gatebook: Gatebook) -> None:
    gatebook.add("alice")
    said = gatebook("doctor", "--json")
    assert (said.code, {one["state"] for one in said.objects}) == (0, {"ok"})
    assert set(by_name(said)) == {
        "settings", "versions", "guards", "room", "master key", "store file", "key file", "store", "read models",
        "keys", "clock", "port http", "port ws", "port metrics",
    }  # fmt: skip
    assert "head at position 1" in by_name(said)["store"][1]
    assert "SQLite 3." in by_name(said)["versions"][1]
    assert gatebook("doctor").out.count("ok    ") == len(said.objects)


def test_it_says_where_each_setting_came_from_and_hides_secrets(
    gatebook: Gatebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = (gatebook.folder / "gatebook.master-key").read_text().strip()
    (gatebook.folder / "gatebook.toml").write_text("batch_size = 7\n")
    monkeypatch.setenv("GATEBOOK_MASTER_KEY", key)
    said = gatebook("doctor", "--config", str(gatebook.folder / "gatebook.toml"), "--json")
    state, settings = by_name(said)["settings"]
    assert state == "ok"
    assert f"batch_size = 7 from the file {gatebook.folder}/gatebook.toml" in settings
    assert "master_key = <hidden> from the environment" in settings
    assert "from the command line" in settings
    assert key not in said.out


def test_a_store_that_is_not_there_yet_is_no_failure(gatebook: Gatebook) -> None:
    said = gatebook("doctor", "--json", store=f"sqlite:{gatebook.folder}/none.db")
    assert (said.code, by_name(said)["store"][0]) == (0, "warn")
    assert not (gatebook.folder / "none.db").exists()


def test_a_folder_that_is_not_there_is_one(gatebook: Gatebook) -> None:
    said = gatebook("doctor", "--json", store=f"sqlite:{gatebook.folder}/none/gatebook.db")
    assert (said.code, by_name(said)["folder"][0]) == (1, "fail")


def test_a_master_key_that_others_can_read_is_told(gatebook: Gatebook) -> None:
    (gatebook.folder / "gatebook.master-key").chmod(0o644)
    said = gatebook("doctor", "--json")
    assert (said.code, by_name(said)["master key"][0]) == (1, "fail")
    assert "chmod 600" in gatebook("doctor").out


@pytest.mark.parametrize("file", ["gatebook.db", "gatebook.keys.db"])
def test_a_store_that_others_can_read_is_a_warning(gatebook: Gatebook, file: str) -> None:
    (gatebook.folder / file).chmod(0o640)
    said = gatebook("doctor", "--json")
    assert (said.code, [one["do"] for one in said.objects if one["state"] == "warn"]) == (
        0,
        [f"chmod 600 {gatebook.folder}/{file}"],
    )


def test_a_folder_that_cannot_be_written_to_is_told(gatebook: Gatebook, monkeypatch: pytest.MonkeyPatch) -> None:
    # Patched, since whoever runs the tests as root may write everywhere.
    monkeypatch.setattr("service.cli.checks.os.access", lambda *_: False)
    said = gatebook("doctor", "--json")
    assert (said.code, by_name(said)["folder"][0]) == (1, "fail")


def test_the_wrong_master_key_is_told(gatebook: Gatebook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEBOOK_MASTER_KEY", "A" * 43 + "=")
    said = gatebook("doctor", "--json")
    assert said.code == 1
    assert by_name(said)["keys"] == (
        "fail", f"The master key is not the one that the key store {gatebook.folder}/gatebook.keys.db was made with.",
    )  # fmt: skip


def test_keys_of_another_making_are_told(gatebook: Gatebook) -> None:
    gatebook.add("alice")
    gatebook.tamper('UPDATE read_users SET document = replace(document, \'"box":"\', \'"box":"AAAA\')')
    said = gatebook("doctor", "--json")
    assert (said.code, by_name(said)["keys"][0]) == (1, "fail")


def test_read_models_that_are_behind_are_told(gatebook: Gatebook) -> None:
    gatebook.add("alice")
    gatebook.tamper("UPDATE read_model SET position = 0 WHERE name = 'users'")
    said = gatebook("doctor", "--json")
    assert (said.code, by_name(said)["read models"]) == (1, ("fail", "behind the book: users"))
    assert gatebook("projections", "rebuild", "users").code == 0
    assert by_name(gatebook("doctor", "--json"))["read models"][0] == "ok"


def written_ahead(gatebook: Gatebook, **ahead: float) -> None:
    """An entry of the future: the clock was ahead when it was written, and is right again."""
    with gatebook.book() as book:
        fast = BatchRunner(book, clock=lambda: datetime.now(UTC) + timedelta(**ahead))
        raised(fast.run([order(NoteAuditRead("nothing"), actor="tester", door="test")])[0])


@pytest.mark.parametrize(
    ("ahead", "how_long", "advice"),
    [
        ({"days": 366}, "365 days", "wait for it, or restore a backup"),
        ({"hours": 30}, "29 hours", "wait for it, or restore a backup"),
        ({"minutes": 10}, "9 minutes", "start with --clock-skew-seconds "),
        ({"seconds": 60}, "5", "start with --clock-skew-seconds "),
    ],
    ids=["a year", "a day", "minutes", "seconds"],
)
def test_entries_of_the_future_are_told_in_plain_words(
    gatebook: Gatebook, ahead: dict[str, float], how_long: str, advice: str
) -> None:
    gatebook.add("alice")
    written_ahead(gatebook, **ahead)
    last = gatebook("events", "--json").objects[-1]["at"][:19]
    assert gatebook("users", "set-level", "alice", "admin").code == 1
    said = gatebook("doctor", "--json")
    state, sentence = by_name(said)["clock"]
    assert (said.code, state) == (1, "fail")
    assert "entries of the future, from position 2 on" in sentence
    assert f"the last of {last}" in sentence
    assert "every write is refused until" in sentence
    assert f"which is {how_long}" in sentence
    [clock] = [one for one in said.objects if one["name"] == "clock"]
    assert "if the clock is wrong, set it right" in clock["do"]
    assert advice in clock["do"]


def test_what_the_doctor_says_about_the_future_helps(gatebook: Gatebook, monkeypatch: pytest.MonkeyPatch) -> None:
    gatebook.add("alice")
    written_ahead(gatebook, minutes=10)
    assert gatebook("users", "set-level", "alice", "admin").code == 1
    [clock] = [one for one in gatebook("doctor", "--json").objects if one["name"] == "clock"]
    monkeypatch.setenv("GATEBOOK_CLOCK_SKEW_SECONDS", clock["do"].partition("--clock-skew-seconds ")[2].split()[0])
    assert gatebook("users", "set-level", "alice", "admin").code == 0
    assert by_name(gatebook("doctor", "--json"))["clock"][0] == "warn"


def test_no_skew_is_advised_that_the_setting_does_not_take() -> None:
    [setting] = [one for one in fields(Settings) if one.name == "clock_skew_seconds"]
    assert meta_of(setting).le == LARGEST_SKEW


def test_a_store_of_another_application_is_told(gatebook: Gatebook) -> None:
    (gatebook.folder / "notes.txt").write_text("not a database" * 100)
    said = gatebook("doctor", "--json", store=f"sqlite:{gatebook.folder}/notes.txt")
    assert (said.code, by_name(said)["store"][0]) == (1, "fail")


def test_a_port_in_use_is_told(gatebook: Gatebook, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setenv("GATEBOOK_HTTP", f"127.0.0.1:{taken.getsockname()[1]}")
        monkeypatch.setenv("GATEBOOK_METRICS", "off")
        said = gatebook("doctor", "--json")
    assert by_name(said)["port http"][0] == "warn"
    assert by_name(said)["port metrics"] == ("ok", "off")
    assert said.code == 0


def test_a_library_that_was_not_tested_is_told(gatebook: Gatebook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TESTED_VERSIONS, "h11", "0.0.1")
    assert by_name(gatebook("doctor", "--json"))["guards"][0] == "warn"


def test_little_room_is_told(gatebook: Gatebook, monkeypatch: pytest.MonkeyPatch) -> None:
    room = os.statvfs(gatebook.folder)
    monkeypatch.setattr("service.cli.checks.ROOM_BYTES", room.f_bavail * room.f_frsize * 1_000)
    assert by_name(gatebook("doctor", "--json"))["room"][0] == "fail"


def test_it_changes_nothing(gatebook: Gatebook) -> None:
    gatebook.add("alice")
    log = SQLiteLog(gatebook.path, create=False)
    state = log.state()
    gatebook("doctor")
    assert log.state() == state
    log.close()
