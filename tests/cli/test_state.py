"""`gatebook replay` and `gatebook projections`: the state as it was, as it is, and built anew."""

import pytest

from tests.cli.gatebook import Gatebook


@pytest.fixture
def lived_in(gatebook: Gatebook) -> Gatebook:
    """Alice (user 1) registered, logged in at 2, and became an admin at 3; Berta is user 4."""
    gatebook.add("alice")
    gatebook.log_in(1)
    gatebook("users", "set-level", "alice", "admin")
    gatebook.add("berta")
    return gatebook


def documents(gatebook: Gatebook, *arguments: str) -> dict[str, int]:
    said = gatebook("replay", "--json", *arguments)
    assert said.code == 0, said.err
    return {one["projection"]: one["documents"] for one in said.objects}


def test_the_state_is_told_as_it_was_at_a_position(lived_in: Gatebook) -> None:
    assert documents(lived_in, "--at", "0") == dict.fromkeys(["users", "names", "sessions", "throttles", "activity"], 0)
    assert documents(lived_in, "--at", "1")["sessions"] == 0
    assert documents(lived_in, "--at", "2")["sessions"] == 1
    assert documents(lived_in)["users"] == 2
    assert "After position 4, recorded at 20" in lived_in("replay").out


def test_the_state_is_told_as_it_was_at_a_moment(lived_in: Gatebook) -> None:
    at = lived_in("events", "--json").objects[2]["at"]
    [alice] = lived_in("replay", "--at", at, "--projection", "users", "--json").objects
    assert (alice["key"], alice["document"]["username"], alice["document"]["level"]) == ("1", "alice", 2)
    assert lived_in("replay", "--at", "2000-01-01", "--projection", "users").out == ""
    assert documents(lived_in, "--at", "2999-01-01")["users"] == 2


def test_a_replay_gives_what_the_read_models_hold(lived_in: Gatebook) -> None:
    replayed = {one["projection"]: one["digest"] for one in lived_in("replay", "--json").objects}
    assert replayed == {one["name"]: one["digest"] for one in lived_in("projections", "list", "--json").objects}
    for name in replayed:
        shown = lived_in("projections", "show", name, "--json").objects
        again = lived_in("replay", "--projection", name, "--json").objects
        assert sorted(shown, key=lambda one: str(one["key"])) == sorted(again, key=lambda one: str(one["key"]))


def test_without_keys_names_are_left_out(lived_in: Gatebook) -> None:
    (lived_in.folder / "gatebook.master-key").unlink()
    assert "names" not in documents(lived_in)
    refused = lived_in("replay", "--projection", "names")
    assert (refused.code, "folds with keys" in refused.err) == (1, True)
    [alice, _] = lived_in("replay", "--projection", "users", "--json").objects
    assert alice["document"]["username"]["sealed"] is True


def test_one_document_is_shown_as_it_is_and_as_it_was(lived_in: Gatebook) -> None:
    def level(*arguments: str) -> int:
        [one] = lived_in("projections", "show", "users", "1", *arguments, "--json").objects
        return int(one["document"]["level"])

    assert [level(), level("--at", "2"), level("--at", "3")] == [2, 1, 2]
    gone = lived_in("projections", "show", "users", "4", "--at", "3")
    assert (gone.code, gone.err) == (1, "gatebook: The projection users has no document under that key then.\n")
    assert lived_in("projections", "show", "users", "no-key").code == 1


def test_documents_are_found_by_an_index(lived_in: Gatebook) -> None:
    def keys(name: str, index: str, value: str) -> list[str]:
        said = lived_in("projections", "show", name, "--index", index, "--value", value, "--json")
        return [one["key"] for one in said.objects]

    assert keys("users", "level", "2") == ["1"]
    assert keys("users", "level", "1") == ["4"]
    assert keys("sessions", "user", "1") == ["2"]
    assert keys("sessions", "user", "x") == []
    refused = lived_in("projections", "show", "users", "--index", "name", "--value", "1")
    assert (refused.code, refused.err) == (1, "gatebook: users has the indexes level, active_admin.\n")


def test_read_models_are_listed_with_where_they_stand(lived_in: Gatebook) -> None:
    listed = lived_in("projections", "list", "--json").objects
    assert {(one["position"], one["lag"]) for one in listed} == {(4, 0)}
    assert listed[0]["indexes"] == ["level", "active_admin"]
    for name in ("users", "names", "sessions", "throttles", "activity"):
        assert name in lived_in("projections", "list").out


def test_all_are_rebuilt_and_nothing_changes(lived_in: Gatebook) -> None:
    before = lived_in("projections", "list").out
    rebuilt = lived_in("projections", "rebuild", "--all", "--json").objects
    assert [(one["projection"], one["changed"]) for one in rebuilt] == [
        (name, False) for name in ("users", "names", "sessions", "throttles", "activity")
    ]
    assert lived_in("projections", "list").out == before
    assert lived_in("verify").code == 0


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["replay", "--at", "5"], 1, "The book ends at position 4."),
        (["replay", "--at", "9" * 40], 1, "The book ends at position 4."),
        (["replay", "--at", "soon"], 2, "--at takes a time"),
        (["replay", "--projection", "user"], 1, "did you mean users?"),
        (["projections", "show", "x"], 1, "there are users, names"),
        (["projections", "show", "users", "--index", "level"], 2, "--index and --value go together"),
        (["projections", "show", "users", "--at", "2"], 2, "gatebook replay --at"),
        (["projections", "rebuild"], 2, "Name one projection, or give --all."),
        (["projections", "rebuild", "users", "--all"], 2, "Name one projection, or give --all."),
    ],
)
def test_what_is_not_there_is_refused(lived_in: Gatebook, arguments: list[str], code: int, sentence: str) -> None:
    refused = lived_in(*arguments)
    assert (refused.code, refused.out) == (code, "")
    assert sentence in refused.err
