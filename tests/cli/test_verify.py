"""`gatebook verify`: sound books, and the first fault of others, named."""

import pytest

from tests.cli.gatebook import Gatebook

TAMPERED = "UPDATE log SET entry = CAST(replace(CAST(entry AS TEXT), 'tester', 'nobody') AS BLOB) WHERE position = 2"


def test_a_sound_book_ends_well(gatebook: Gatebook) -> None:
    gatebook.add("alice")
    gatebook.log_in(1)
    sound = gatebook("verify")
    assert (sound.code, sound.err) == (0, "")
    assert sound.out.endswith("The book is sound.\n")
    [told] = gatebook("verify", "--json").objects
    assert (told["ok"], told["position"], told["fault"], told["left_out"]) == (True, 2, None, [])
    assert len(told["root"]) == 64
    assert [one["name"] for one in told["read_models"]] == ["users", "names", "sessions", "throttles", "activity"]
    assert all(one["maintained"] == one["recomputed"] == one["replayed"] for one in told["read_models"])


def test_an_empty_book_is_sound(gatebook: Gatebook) -> None:
    assert gatebook("verify", "--json").objects[0]["position"] == 0


@pytest.mark.parametrize(
    ("statement", "position"),
    [
        (TAMPERED, 2),
        ("UPDATE log SET leaf = zeroblob(32) WHERE position = 3", 3),
        ("UPDATE log SET user_id = 7 WHERE position = 1", 1),
        ("DELETE FROM log WHERE position = 2", 2),
    ],
)
def test_a_tampered_entry_is_named_by_its_position(gatebook: Gatebook, statement: str, position: int) -> None:
    gatebook.add("alice")
    gatebook.log_in(1)
    gatebook.add("berta")
    gatebook.tamper(statement)
    [told] = gatebook("verify", "--json").objects
    assert (told["ok"], told["fault"]["position"]) == (False, position)
    faulty = gatebook("verify")
    assert faulty.code == 1
    assert f"FAULT at position {position}: " in faulty.out


def test_a_book_without_its_head_is_named(gatebook: Gatebook) -> None:
    gatebook.add("alice")
    gatebook.tamper("DELETE FROM head")
    faulty = gatebook("verify", "--json")
    assert (faulty.code, faulty.objects[0]["fault"]["table"]) == (1, "head")


def test_a_tampered_read_model_is_told_and_a_rebuild_mends_it(gatebook: Gatebook) -> None:
    gatebook.add("alice")
    gatebook.tamper("UPDATE read_users SET document = replace(document, '\"level\":1', '\"level\":2')")
    faulty = gatebook("verify")
    assert (faulty.code, "DIFFERS" in faulty.out, "FAULT" in faulty.out) == (1, True, True)
    assert "it was not what the book says, and now is" in gatebook("projections", "rebuild", "users").out
    assert gatebook("verify").code == 0


def test_without_keys_it_says_what_was_left_out(gatebook: Gatebook) -> None:
    gatebook.add("alice")
    (gatebook.folder / "gatebook.master-key").unlink()
    [told] = gatebook("verify", "--json").objects
    assert told["ok"] is True
    assert "names was not compared" in told["left_out"][0]
    assert "names was not compared" in gatebook("verify").err
