"""`gatebook users`: accounts from the command line, over the same store as the service."""

import pytest

from events.sealing import open_value
from projections.catalogue import SESSIONS, USERS
from service.credentials.passwords import HashingCost, Passwords
from service.decisions.administration import NoteAuditRead
from tests.cli.gatebook import PASSWORD, Gatebook, no_secret


def matches(gatebook: Gatebook, user_id: int, password: str) -> bool:
    with gatebook.book() as book:
        encoded = open_value(book.document(USERS, str(user_id)).password_hash, book.keyring)
        return Passwords(HashingCost(8, 1, 1), workers=1).verify_now(encoded, password).matches


def test_an_account_is_made_shown_and_listed(gatebook: Gatebook) -> None:
    made = gatebook(
        "users", "add", "alice", "--nickname", "Al", "--email", "al@example.org", "--level", "admin",
        "--password-stdin", stdin=PASSWORD.encode() + b"\n",
    )  # fmt: skip
    assert (made.code, made.out) == (0, "alice (user 1) was made, with level admin (position 1).\n")
    [shown] = gatebook("users", "show", "alice", "--json").objects
    assert shown | {"created_at": "", "last_contact": ""} == {
        "id": 1, "username": "alice", "nickname": "Al", "email": "al@example.org", "level": "admin", "active": True,
        "open_sessions": 0, "created_at": "", "last_contact": "",
    }  # fmt: skip
    assert gatebook("users", "show", "1", "--json").objects == [shown]
    assert gatebook("users", "show", "AL@example.org", "--json").objects == [shown]
    assert gatebook("users", "list", "--json").objects == [shown]
    assert "al@example.org" in gatebook("users", "list").out
    assert matches(gatebook, 1, PASSWORD)
    assert gatebook("events", "--json").objects[0]["actor"] == "operator"
    assert gatebook("events", "--json").objects[0]["door"] == "command-line"


def test_lists_are_of_one_level_where_that_is_asked(gatebook: Gatebook) -> None:
    gatebook.add("alice", "--level", "admin")
    gatebook.add("berta")
    assert [one["username"] for one in gatebook("users", "list", "--level", "admin", "--json").objects] == ["alice"]
    assert [one["username"] for one in gatebook("users", "list", "--level", "user", "--json").objects] == ["berta"]


def test_every_field_that_breaks_its_rule_is_named(gatebook: Gatebook) -> None:
    refused = gatebook("users", "add", "al", "--email", "nowhere", "--password-stdin", "--json", stdin=b"short")
    assert refused.code == 1
    assert refused.error["error"] == "invalid_fields"
    assert [one["field"] for one in refused.error["fields"]] == ["username", "password", "email"]
    assert gatebook("events").out == ""


def test_a_name_that_is_taken_is_refused(gatebook: Gatebook) -> None:
    gatebook.add("alice")
    refused = gatebook("users", "add", "ALICE", "--nickname", "Else", "--password-stdin", stdin=PASSWORD.encode())
    assert (refused.code, refused.err) == (1, "gatebook: This username is taken.\n")


def test_a_common_password_and_ones_own_name_are_refused(gatebook: Gatebook) -> None:
    common = gatebook("users", "add", "alice", "--password-stdin", stdin=b"password1")
    assert (common.code, "most common" in common.err) == (1, True)
    gatebook.add("constance")
    own = gatebook("users", "set-password", "constance", "--password-stdin", stdin=b"Constance\n")
    assert (own.code, "names and addresses of yours" in own.err) == (1, True)


@pytest.mark.parametrize(
    ("stdin", "sentence"),
    [
        (b"\xff\xfe not text", "not UTF-8"),
        (b"x" * 65_537, "longer than 65,536 bytes"),
        (b"", "at least 8 characters"),
        (b"two lines\nof it", "control"),
    ],
)
def test_standard_input_that_is_no_password_is_refused(gatebook: Gatebook, stdin: bytes, sentence: str) -> None:
    refused = gatebook("users", "add", "alice", "--password-stdin", stdin=stdin)
    assert refused.code in {1, 2}
    assert sentence in refused.err
    assert gatebook("events").out == ""


def test_a_line_end_as_windows_writes_it_is_no_part_of_the_password(gatebook: Gatebook) -> None:
    gatebook("users", "add", "alice", "--password-stdin", stdin=PASSWORD.encode() + b"\r\n")
    assert matches(gatebook, 1, PASSWORD)


def test_without_a_terminal_the_password_must_be_on_standard_input(gatebook: Gatebook) -> None:
    refused = gatebook("users", "add", "alice", stdin=PASSWORD.encode())
    assert (refused.code, "--password-stdin" in refused.err) == (2, True)


@pytest.mark.parametrize(("again", "code"), [(PASSWORD, 0), ("something else", 2)])
def test_on_a_terminal_the_password_is_asked_for_twice(gatebook: Gatebook, again: str, code: int) -> None:
    made = gatebook("users", "add", "alice", typed=(PASSWORD, again))
    assert made.code == code
    assert len(gatebook("events", "--json").objects) == (1 if code == 0 else 0)


def test_another_password_ends_all_sessions(gatebook: Gatebook) -> None:
    user = gatebook.add("alice")
    session = gatebook.log_in(user)
    changed = gatebook("users", "set-password", "alice", "--password-stdin", stdin=b"another good one, longer")
    assert changed.out == "alice (user 1) has another password; sessions ended: 1 (position 4).\n"
    assert matches(gatebook, user, "another good one, longer")
    assert not matches(gatebook, user, PASSWORD)
    with gatebook.book() as book:
        assert book.document(SESSIONS, str(session)) is None


def test_the_last_admin_stays_one(gatebook: Gatebook) -> None:
    gatebook.add("alice", "--level", "admin")
    gatebook.add("berta")
    for command in (["set-level", "alice", "user"], ["deactivate", "alice"]):
        refused = gatebook("users", *command, "--json")
        assert (refused.code, refused.error["error"]) == (1, "last_admin")
    assert gatebook("users", "set-level", "berta", "admin").out == (
        "berta (user 2) now has the level admin (position 3).\n"
    )
    assert gatebook("users", "set-level", "berta", "admin").out == "berta (user 2) had already the level admin.\n"
    assert gatebook("users", "set-level", "alice", "user", "--json").objects[0]["level"] == "user"


def test_an_account_is_deactivated_with_a_reason_and_comes_back(gatebook: Gatebook) -> None:
    gatebook.add("alice")
    gatebook.log_in(1)
    gone = gatebook("users", "deactivate", "alice", "--reason", "left the company", "--json")
    assert (gone.objects[0]["active"], gone.objects[0]["open_sessions"], gone.objects[0]["position"]) == (False, 0, 4)
    [told] = gatebook("events", "--type", "user.deactivated", "--json").objects
    assert told["reason"] == "left the company"
    assert b"left the company" not in gatebook.path.read_bytes()
    again = gatebook("users", "deactivate", "alice")
    assert (again.code, again.err) == (1, "gatebook: This user is deactivated already.\n")
    assert gatebook("users", "reactivate", "alice").out == "alice (user 1) can log in again (position 5).\n"


def test_who_is_not_there_is_not_found(gatebook: Gatebook) -> None:
    for name in ("nobody", "17", "id:1", "name:alice", "nobody@example.org", "0", "\0", "x" * 10_000, "\udcff"):
        refused = gatebook("users", "show", name)
        assert (refused.code, refused.err) == (
            1,
            "gatebook: There is no user of that id, username or e-mail address.\n",
        )


def test_a_number_that_is_an_id_and_a_name_has_to_be_said_which(gatebook: Gatebook) -> None:
    gatebook.write(*[NoteAuditRead("nothing")] * 1_000)
    gatebook.add("1001")
    gatebook.add("1003")
    alice = gatebook.add("alice")
    assert alice == 1003
    refused = gatebook("users", "set-level", "1003", "admin")
    assert (refused.code, "id:… or name:…" in refused.err) == (2, True)
    assert gatebook("users", "show", "id:1003", "--json").objects[0]["username"] == "alice"
    assert gatebook("users", "show", "name:1003", "--json").objects[0]["id"] == 1002
    assert gatebook("users", "show", "1001", "--json").objects[0]["username"] == "1001"


def test_no_command_says_a_password_or_its_hash(gatebook: Gatebook) -> None:
    gatebook.add("alice", "--level", "admin")
    gatebook.log_in(1)
    for arguments in (
        ["users", "list"], ["users", "show", "1"], ["events"], ["events", "--sealed"], ["replay"], ["doctor"],
        ["replay", "--projection", "users"], ["replay", "--projection", "sessions"], ["projections", "show", "users"],
        ["projections", "show", "sessions"], ["projections", "show", "users", "1", "--at", "2"], ["verify"],
    ):  # fmt: skip
        for json in ([], ["--json"]):
            said = gatebook(*arguments, *json)
            assert said.code == 0, (arguments, said.err)
            assert said.out
            no_secret(said.out, said.err)
