"""`gatebook sessions` and `gatebook users sessions`: what is open, and ending it, beside a running service too."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from projections.catalogue import SESSIONS
from service.batch import BatchRunner, order, raised
from service.decisions.guests import CreateGuest
from service.decisions.login import LogIn
from tests.cli.gatebook import PASSWORD, Ended, Gatebook, ended, no_secret
from tests.conformance.running import FAST, running

FIELDS = ["id", "user_id", "username", "guest", "opened_at", "seen_at", "expires_at", "door", "address", "agent"]
SECRET = "ThisIsTheSecretOfASessionOfSomebodys4242"
LIFETIME = timedelta(days=1)


def guest(gatebook: Gatebook) -> int:
    return gatebook.write(CreateGuest("ab" * 32, LIFETIME, "guests:0"))[0].position


def is_open(gatebook: Gatebook, session: int) -> bool:
    with gatebook.book() as book:
        return book.document(SESSIONS, str(session)) is not None


def endings(gatebook: Gatebook) -> list[tuple[str, str, str, str]]:
    told = gatebook("events", "--type", "session.closed", "--json").objects
    return [(one["stream"], one["reason"], one["actor"], one["door"]) for one in told]


def ids(said: Ended) -> list[int]:
    assert said.code == 0, said.err
    return [one["id"] for one in said.objects]


# Listing


def test_what_is_open_is_listed_accounts_and_guests(gatebook: Gatebook) -> None:
    alice, berta = gatebook.add("alice"), gatebook.add("berta")
    first = gatebook.log_in(alice, agent="a browser", address="192.0.2.7")
    visitor, second = guest(gatebook), gatebook.log_in(berta)
    listed = gatebook("sessions", "list", "--json")
    assert ids(listed) == [first, visitor, second]
    mine, theirs, _ = listed.objects
    assert list(mine) == FIELDS
    assert datetime.fromisoformat(mine["expires_at"]) - datetime.fromisoformat(mine["opened_at"]) == LIFETIME
    times = {name: mine[name] for name in ("opened_at", "seen_at", "expires_at")}
    assert mine == {
        "id": first, "user_id": alice, "username": "alice", "guest": False, **times,
        "door": "test", "address": "192.0.2.7", "agent": "a browser",
    }  # fmt: skip
    assert {name: theirs[name] for name in ("id", "user_id", "username", "guest", "address", "agent")} == {
        "id": visitor, "user_id": visitor, "username": None, "guest": True, "address": None, "agent": None,
    }  # fmt: skip
    head, *rows = gatebook("sessions", "list").out.splitlines()
    assert head.split() == FIELDS
    assert rows[0].split()[:4] == [str(first), str(alice), "alice", "no"]
    assert rows[1].split()[:3] == [str(visitor), str(visitor), "yes"]
    assert rows[2].split()[:4] == [str(second), str(berta), "berta", "no"]
    assert "192.0.2.7" in rows[0]


@pytest.mark.parametrize("command", [["sessions", "list", "--user"], ["users", "sessions"]])
def test_of_one_account_only_its_own_are_listed(gatebook: Gatebook, command: list[str]) -> None:
    alice, berta = gatebook.add("alice", "--email", "al@example.org"), gatebook.add("berta")
    first, _, second = gatebook.log_in(alice), gatebook.log_in(berta), gatebook.log_in(alice)
    guest(gatebook)
    for name in ("alice", "AL@example.org", str(alice), f"id:{alice}"):
        assert ids(gatebook(*command, name, "--json")) == [first, second]
    assert len(gatebook(*command, "alice").out.splitlines()) == 3
    refused = gatebook(*command, "nobody")
    assert (refused.code, refused.out) == (1, "")
    assert refused.err == "gatebook: There is no user of that id, username or e-mail address.\n"


def test_where_nothing_is_open_nothing_is_listed(gatebook: Gatebook) -> None:
    gatebook.add("alice")
    assert gatebook("sessions", "list", "--json").out == ""
    assert gatebook("users", "sessions", "alice", "--json").out == ""
    assert gatebook("sessions", "list").out.split() == FIELDS


def test_what_is_over_by_the_clock_is_not_listed(gatebook: Gatebook, monkeypatch: pytest.MonkeyPatch) -> None:
    alice = gatebook.add("alice")
    lives = gatebook.log_in(alice)
    short = LogIn(alice, alice, "ab" * 32, timedelta(microseconds=1), 100)
    assert gatebook.write(short)
    assert ids(gatebook("sessions", "list", "--json")) == [lives]
    # What was not used for longer than the settings let it.
    monkeypatch.setenv("GATEBOOK_SESSION_IDLE_LIMIT", "7200")
    assert ids(gatebook("sessions", "list", "--json")) == [lives]
    later = datetime.now(UTC) + timedelta(hours=2)

    class Later(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]  # UTC is all that is asked for
            return later

    monkeypatch.setattr("service.cli.sessions.datetime", Later)
    assert ids(gatebook("sessions", "list", "--json")) == []
    monkeypatch.delenv("GATEBOOK_SESSION_IDLE_LIMIT")
    assert ids(gatebook("users", "sessions", "alice", "--json")) == [lives]


@pytest.mark.parametrize("command", [["sessions", "list"], ["sessions", "list", "--user", "alice"]])
def test_there_may_be_more_than_a_page(gatebook: Gatebook, command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.cli.sessions.PAGE", 2)
    alice = gatebook.add("alice")
    opened = [gatebook.log_in(alice) for _ in range(5)]
    assert sorted(ids(gatebook(*command, "--json"))) == opened


def test_what_a_client_said_of_itself_moves_no_cursor(gatebook: Gatebook) -> None:
    gatebook.log_in(gatebook.add("alice"), agent="\x1b[31mred\x1b[0m\r\nnext\x9b2J\u202eback")
    for command in (["sessions", "list"], ["users", "sessions", "alice"]):
        text = gatebook(*command).out
        assert len(text.splitlines()) == 2
        assert text.replace("\n", "").isprintable()
        assert gatebook(*command, "--json").out.isascii()


def test_no_digest_is_told(gatebook: Gatebook) -> None:
    gatebook.log_in(gatebook.add("alice"))
    guest(gatebook)
    for command in (["sessions", "list"], ["users", "sessions", "alice"], ["sessions", "revoke", "2"]):
        for as_json in ([], ["--json"]):
            said = gatebook(*command, *as_json)
            no_secret(said.out, said.err, besides=["guests:0"])


# Revoking


def test_sessions_are_ended_by_their_ids_and_no_others(gatebook: Gatebook) -> None:
    alice = gatebook.add("alice")
    first, second, third = [gatebook.log_in(alice) for _ in range(3)]
    visitor = guest(gatebook)
    said = gatebook("sessions", "revoke", str(first), str(visitor), str(first))
    assert (said.code, said.err) == (0, "")
    assert said.out == (
        f"Session {first} of alice (user {alice}) is ended (position 6).\n"
        f"Session {visitor} of a guest is ended (position 7).\n"
    )
    assert [is_open(gatebook, one) for one in (first, second, third, visitor)] == [False, True, True, False]
    assert endings(gatebook) == [
        (f"session-{first}", "revoked", "operator", "command-line"),
        (f"session-{visitor}", "revoked", "operator", "command-line"),
    ]
    assert gatebook("users", "show", "alice", "--json").objects[0]["open_sessions"] == 2
    assert gatebook("verify").code == 0


def test_for_machines_each_that_ended_is_an_object(gatebook: Gatebook) -> None:
    session = gatebook.log_in(gatebook.add("alice"))
    visitor = guest(gatebook)
    assert gatebook("sessions", "revoke", str(session), str(visitor), "--json").objects == [
        {"id": session, "user_id": 1, "guest": False, "position": 4},
        {"id": visitor, "user_id": visitor, "guest": True, "position": 5},
    ]


def test_all_sessions_of_one_account_are_ended(gatebook: Gatebook) -> None:
    alice, berta = gatebook.add("alice"), gatebook.add("berta")
    first, other, second = gatebook.log_in(alice), gatebook.log_in(berta), gatebook.log_in(alice)
    said = gatebook("sessions", "revoke", "--user", "alice")
    assert (said.code, len(said.out.splitlines())) == (0, 2)
    assert [is_open(gatebook, one) for one in (first, other, second)] == [False, True, False]
    assert {reason for _, reason, *_ in endings(gatebook)} == {"revoked"}
    again = gatebook("sessions", "revoke", "--user", "alice")
    assert (again.code, again.out) == (0, "alice (user 1) has no open session.\n")
    assert gatebook("sessions", "revoke", "--user", "alice", "--json").out == ""
    assert gatebook("sessions", "revoke", "--user", "nobody").code == 1
    # Whoever was put out may come again.
    assert gatebook.log_in(alice)


def test_what_is_not_open_is_told_and_the_others_are_ended_all_the_same(gatebook: Gatebook) -> None:
    alice = gatebook.add("alice")
    session = gatebook.log_in(alice)
    said = gatebook("sessions", "revoke", "98", str(session), "99", str(alice))
    assert said.code == 1
    assert said.out == f"Session {session} of alice (user 1) is ended (position 3).\n"
    assert said.err == f"gatebook: There is no open session of these ids: 98, 99, {alice}.\n"
    again = gatebook("sessions", "revoke", str(session), "--json")
    assert (again.code, again.out) == (1, "")
    assert again.error == {
        "error": "refused", "message": f"There is no open session of the id {session}.", "exit": 1,
    }  # fmt: skip
    assert len(endings(gatebook)) == 1


def test_one_that_is_over_by_the_clock_alone_is_ended_too(gatebook: Gatebook) -> None:
    alice = gatebook.add("alice")
    over = gatebook.write(LogIn(alice, alice, "ab" * 32, timedelta(microseconds=1), 100))[-1].position
    assert gatebook("sessions", "revoke", str(over)).code == 0
    assert not is_open(gatebook, over)


def test_many_ids_go_in_batches(gatebook: Gatebook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEBOOK_BATCH_SIZE", "2")
    alice = gatebook.add("alice")
    opened = [gatebook.log_in(alice) for _ in range(5)]
    said = gatebook("sessions", "revoke", *map(str, opened), "--json")
    assert ids(said) == opened


@pytest.mark.parametrize("arguments", [[], ["3", "--user", "alice"]], ids=["nothing", "both"])
def test_it_has_to_be_said_which(gatebook: Gatebook, arguments: list[str]) -> None:
    session = gatebook.log_in(gatebook.add("alice"))
    refused = gatebook("sessions", "revoke", *arguments)
    assert (refused.code, refused.out) == (2, "")
    assert refused.err == "gatebook: Say which sessions: by their ids, or all of one account's with --user.\n"
    assert is_open(gatebook, session)


@pytest.mark.parametrize("typed", ["x", "0", "01", "-0", "1.0", "1e3", " 2", "2 ", "٣", "9" * 19, "", "2,3", SECRET])
def test_what_is_no_id_is_refused_unrepeated_and_nothing_is_ended(gatebook: Gatebook, typed: str) -> None:
    session = gatebook.log_in(gatebook.add("alice"))
    refused = gatebook("sessions", "revoke", str(session), typed)
    assert (refused.code, refused.out) == (2, "")
    assert "a whole number of at most 18 digits" in refused.err
    assert SECRET not in refused.err
    assert is_open(gatebook, session)


@pytest.mark.parametrize("typed", ["2|" + SECRET, "2|", "|" + SECRET, f"Bearer 2|{SECRET}", f"2|{SECRET[:5]}"])
def test_a_token_is_refused_in_plain_words_and_never_repeated(gatebook: Gatebook, typed: str) -> None:
    session = gatebook.log_in(gatebook.add("alice"))
    assert session == 2
    for as_json in ([], ["--json"]):
        refused = gatebook("sessions", "revoke", typed, *as_json)
        assert (refused.code, refused.out) == (2, "")
        assert "everybody on this machine can read a command line" in refused.err
        assert SECRET[:5] not in refused.err
    assert is_open(gatebook, session)


@pytest.mark.parametrize(
    "arguments",
    [
        ["sessions", "list", "{}"],
        ["sessions", "list", "--user", "{}"],
        ["sessions", "revoke", "--user", "{}"],
        ["users", "sessions", "{}"],
        ["users", "sessions", "alice", "{}"],
        ["users", "show", "alice", "{}"],
        ["events", "--after", "{}"],
        ["{}"],
    ],
    ids=" ".join,
)
def test_a_token_anywhere_else_is_not_repeated_either(gatebook: Gatebook, arguments: list[str]) -> None:
    gatebook.add("alice")
    refused = gatebook(*(one.format(f"2|{SECRET}") for one in arguments))
    assert refused.code in {1, 2}
    assert SECRET not in refused.out + refused.err


def test_where_the_clock_is_behind_nothing_is_ended_and_it_is_said_why(gatebook: Gatebook) -> None:
    session = gatebook.log_in(gatebook.add("alice"))
    with gatebook.book() as book:
        fast = BatchRunner(book, clock=lambda: datetime.now(UTC) + timedelta(days=2))
        raised(fast.run([order(CreateGuest("ab" * 32, LIFETIME), actor="tester", door="test")])[0])
    refused = gatebook("sessions", "revoke", str(session), "--json")
    assert (refused.code, refused.error["error"]) == (1, "unavailable")
    assert "behind the last entry" in refused.error["message"]
    assert is_open(gatebook, session)


# Beside a running service


def test_beside_a_running_service_a_session_is_gone_at_its_next_request(tmp_path: Path) -> None:
    with running(tmp_path, **FAST) as service:
        form = {"username": "alice", "nickname": "Al", "password": PASSWORD}
        assert service.ask("POST", "/api/register", form).status_code == 201
        tokens = []
        for _ in range(4):
            opened = service.ask("POST", "/api/session", {"identifier": "alice", "password": PASSWORD})
            tokens.append(str(opened.json()["token"]))
        numbers = [int(token.partition("|")[0]) for token in tokens]

        def good() -> list[bool]:
            return [service.ask("GET", "/api/session", token=token).status_code == 200 for token in tokens]

        def told(*arguments: str) -> list[dict[str, Any]]:
            done = service.cli(*arguments, "--json")
            assert done.returncode == 0, done.stderr
            return [json.loads(line) for line in done.stdout.splitlines()]

        listed = told("sessions", "list")
        assert [(one["id"], one["username"], one["door"], one["address"]) for one in listed] == [
            (number, "alice", "account-api", "127.0.0.1") for number in numbers
        ]
        assert good() == [True] * 4
        assert [one["id"] for one in told("sessions", "revoke", str(numbers[1]))] == [numbers[1]]
        assert good() == [True, False, True, True]
        assert len(told("users", "sessions", "alice")) == 3
        assert len(told("sessions", "revoke", "--user", "alice")) == 3
        assert good() == [False] * 4
        assert told("sessions", "list") == []
        refused = service.cli("sessions", "revoke", tokens[0])
        assert refused.returncode == 2
        assert tokens[0].partition("|")[2] not in refused.stdout + refused.stderr


def test_the_real_command_ends_a_session(gatebook: Gatebook) -> None:
    session = gatebook.log_in(gatebook.add("alice"))
    with gatebook.process("sessions", "revoke", str(session)) as process:
        said = ended(process)
    assert (said.code, said.err) == (0, "")
    assert said.out == f"Session {session} of alice (user 1) is ended (position 3).\n"
    with gatebook.process("sessions", "revoke", str(session)) as process:
        assert ended(process).code == 1
