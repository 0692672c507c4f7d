"""`gatebook events`: what is in the book, for people and for machines, and what comes while one looks."""

import os
import signal
import subprocess
import sys

import pytest

from service.decisions.administration import NoteAuditRead
from tests.cli.gatebook import PATIENCE, Ended, Gatebook, ended, no_secret

ESCAPES = "\x1b[31mred\x1b[0m\r\nnext\x9b2J\x7f\u202eback"


def positions(said: Ended) -> list[int]:
    assert said.code == 0, said.err
    return [one["position"] for one in said.objects]


def test_an_object_holds_the_envelope_and_the_events_own_fields(gatebook: Gatebook) -> None:
    gatebook.add("alice", "--email", "alice@example.org")
    session = gatebook.log_in(1, agent="a browser")
    registered, opened = gatebook("events", "--json").objects
    assert list(registered)[:8] == ["position", "stream", "version", "at", "actor", "door", "command_id", "type"]
    assert (registered["stream"], registered["type"], registered["version"]) == ("user-1", "user.registered", 1)
    assert (registered["username"], registered["email"]) == ("alice", "alice@example.org")
    assert (opened["position"], opened["stream"], opened["agent"]) == (session, f"session-{session}", "a browser")
    assert len(opened["command_id"]) == 32


def test_a_line_holds_them_too(gatebook: Gatebook) -> None:
    gatebook.add("alice", "--nickname", "Al the First")
    [line] = gatebook("events").out.splitlines()
    for part in ("1", "user.registered", "user-1/1", "operator via command-line", 'nickname="Al the First"', "level=1"):
        assert part in line


def test_events_are_chosen_by_position_user_type_and_stream(gatebook: Gatebook) -> None:
    gatebook.add("alice")
    gatebook.add("berta")
    session = gatebook.log_in(1)
    assert positions(gatebook("events", "--json")) == [1, 2, 3]
    assert positions(gatebook("events", "--after", "1", "--json")) == [2, 3]
    assert positions(gatebook("events", "--user", "1", "--json")) == [1, 3]
    assert positions(gatebook("events", "--type", "user.registered", "--json")) == [1, 2]
    assert positions(gatebook("events", "--stream", f"session-{session}", "--json")) == [3]
    assert positions(gatebook("events", "--user", "77", "--json")) == []


def test_numbers_that_no_book_can_hold_find_nothing(gatebook: Gatebook) -> None:
    gatebook.add("alice")
    for flag in ("--user", "--after"):
        for number in (2**63 - 1, 2**63, 10**30):
            said = gatebook("events", flag, str(number), "--json")
            assert (said.code, said.objects) == (0, []), (flag, number, said.err)
    assert positions(gatebook("events", "--after", str(-(10**30)), "--json")) == [1]


def test_events_are_chosen_by_time_both_ends_included(gatebook: Gatebook) -> None:
    for name in ("alice", "berta", "carla"):
        gatebook.add(name)
    first, second, third = (one["at"] for one in gatebook("events", "--json").objects)
    assert positions(gatebook("events", "--since", second, "--json")) == [2, 3]
    assert positions(gatebook("events", "--until", second, "--json")) == [1, 2]
    assert positions(gatebook("events", "--since", first, "--until", first, "--json")) == [1]
    # Without an offset it is UTC; with one it is what it says.
    assert positions(gatebook("events", "--since", third.removesuffix("Z"), "--json")) == [3]
    assert positions(gatebook("events", "--since", third.replace("Z", "-01:00"), "--json")) == []
    assert positions(gatebook("events", "--since", "2000-01-01", "--json")) == [1, 2, 3]
    assert positions(gatebook("events", "--until", "2000-01-01", "--json")) == []
    assert positions(gatebook("events", "--since", "0001-01-01", "--json")) == [1, 2, 3]


def test_a_long_book_is_read_page_by_page(gatebook: Gatebook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEBOOK_READ_PAGE", "2")
    gatebook.write(*[NoteAuditRead("nothing")] * 5)
    assert positions(gatebook("events", "--json")) == [1, 2, 3, 4, 5]
    assert positions(gatebook("events", "--after", "3", "--json")) == [4, 5]


def test_personal_fields_stay_sealed_when_that_is_asked(gatebook: Gatebook) -> None:
    gatebook.add("alice")
    [sealed] = gatebook("events", "--sealed", "--json").objects
    assert sealed["username"] == {"sealed": True, "reason": "left sealed, as asked for"}
    text = gatebook("events", "--sealed").out
    assert "username=(sealed)" in text
    assert "alice" not in text


def test_without_keys_the_book_is_shown_sealed(gatebook: Gatebook) -> None:
    gatebook.add("alice")
    (gatebook.folder / "gatebook.master-key").unlink()
    shown = gatebook("events", "--json")
    assert shown.code == 0
    assert shown.objects[0]["username"] == {"sealed": True, "reason": "the keys are not at hand"}
    assert "personal fields stay sealed" in shown.err


def test_what_was_typed_moves_no_cursor(gatebook: Gatebook) -> None:
    gatebook.add("alice")
    gatebook.log_in(1, agent=ESCAPES)
    text = gatebook("events").out
    assert len(text.splitlines()) == 2
    assert text.replace("\n", "").isprintable()
    said = gatebook("events", "--json").out
    assert said.isascii()
    assert said.replace("\n", "").isprintable()
    assert gatebook("events", "--json").objects[1]["agent"] == ESCAPES
    for arguments in (["projections", "show", "sessions"], ["replay", "--projection", "sessions"]):
        assert gatebook(*arguments).out.replace("\n", "").isprintable()
        assert gatebook(*arguments, "--json").out.replace("\n", "").isprintable()


def test_markup_is_printed_as_it_stands(gatebook: Gatebook) -> None:
    gatebook.add("alice", "--nickname", "[bold]b[/bold] :smile:")
    assert "[bold]b[/bold] :smile:" in gatebook("users", "list").out
    assert "[bold]b[/bold] :smile:" in gatebook("events").out


def test_an_entry_that_cannot_be_decoded_is_shown_as_such_and_ends_nothing(gatebook: Gatebook) -> None:
    for name in ("alice", "berta", "carla"):
        gatebook.add(name)
    gatebook.tamper("UPDATE log SET entry = x'7b7d' WHERE position = 2")
    shown = gatebook("events", "--json")
    assert positions(shown) == [1, 2, 3]
    assert shown.objects[1]["undecodable"] is True
    assert "cannot be decoded" in gatebook("events").out.splitlines()[1]


def test_following_shows_what_another_process_writes_and_ends_well(gatebook: Gatebook) -> None:
    gatebook.add("alice")
    for number, arguments in ((signal.SIGTERM, ["--json"]), (signal.SIGINT, [])):
        with gatebook.process("events", "--follow", "--type", "user.registered", *arguments) as process:
            assert process.stdout is not None
            assert "alice" in process.stdout.readline()
            # This process is the other one.
            name = f"berta{number}"
            user = gatebook.add(name)
            seen = process.stdout.readline()
            while str(user) not in seen or name not in seen:
                seen = process.stdout.readline()
                assert seen
            said = ended(process, number)
            assert (said.code, said.err) == (0, "")
            no_secret(said.out)


def test_a_reader_that_goes_is_no_error(gatebook: Gatebook) -> None:
    # More than a pipe holds, so that the writer is still writing when the reader goes.
    gatebook.write(*[NoteAuditRead("x" * 200)] * 1_000)
    with gatebook.process("events", "--json") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith('{"position": 1,')
        process.stdout.close()
        assert process.wait(PATIENCE) == 141
        assert process.stderr.read() == ""


def test_a_reader_that_goes_ends_the_following_at_the_next_event(gatebook: Gatebook) -> None:
    gatebook.add("alice")
    with gatebook.process("events", "--follow") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert "alice" in process.stdout.readline()
        process.stdout.close()
        gatebook.add("berta")
        assert process.wait(PATIENCE) == 141
        assert process.stderr.read() == ""


def test_lines_are_not_coloured_where_nobody_watches(gatebook: Gatebook) -> None:
    gatebook.add("alice")
    with gatebook.process("events") as process:
        assert "\x1b" not in ended(process).out


def test_a_terminal_gets_colours_and_still_no_escape_of_somebody_elses(gatebook: Gatebook) -> None:
    gatebook.add("alice")
    gatebook.log_in(1, agent=ESCAPES)
    ours, theirs = os.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "service.cli", "events", "--store", gatebook.store],
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        env=os.environ | {"TERM": "xterm-256color", "COLUMNS": "200"},
    ) as process:
        os.close(theirs)
        read = b""
        try:
            while part := os.read(ours, 65_536):
                read += part
        except OSError:
            # Linux says so when the other end of a terminal is closed.
            pass
        assert process.wait(PATIENCE) == 0
    os.close(ours)
    text = read.decode()
    assert "\x1b[1m" in text
    assert "\x1b[31mred" not in text
    assert "\\x1b[31mred" in text
    assert "\x9b" not in text


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--type", "user.registred"], "did you mean user.registered?"),
        (["--since", "yesterday"], "--since takes a time in ISO 8601"),
        (["--until", "2026-13-01"], "--until takes a time in ISO 8601"),
        (["--follow", "--until", "2026-01-01"], "leave one of them out"),
        (["--after", "x"], "--after"),
        (["17"], "more than the command takes: 17"),
    ],
)
def test_what_does_not_go_together_is_refused(gatebook: Gatebook, arguments: list[str], sentence: str) -> None:
    refused = gatebook("events", *arguments)
    assert (refused.code, refused.out) == (2, "")
    assert sentence in refused.err
    assert len(refused.err.splitlines()) == 1
