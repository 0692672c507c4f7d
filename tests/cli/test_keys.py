"""`gatebook keys`: which keys sign, and having the next one follow."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from service.credentials.key_terms import AHEAD, SKEW
from service.credentials.signing_keys import SigningKeys
from tests.cli.gatebook import Gatebook, no_secret


@pytest.fixture
def lived_in(gatebook: Gatebook) -> Gatebook:
    """Alice is user 1, registered at position 1."""
    gatebook.add("alice")
    return gatebook


def listed(gatebook: Gatebook) -> list[dict[str, str | int | None]]:
    said = gatebook("keys", "list", "--json")
    assert said.code == 0, said.err
    return said.objects


def signing(gatebook: Gatebook) -> str:
    """The name of the key that signs; it is made where there is none, as by a request."""
    with gatebook.book() as book:
        return SigningKeys(book.log, book.keyring).signing().kid


def moment(text: str | int | None) -> datetime:
    return datetime.fromisoformat(str(text))


def test_a_key_that_nobody_needed_is_not_made_by_looking(lived_in: Gatebook) -> None:
    row = {"number": 0, "kid": None, "state": "not made", "signs_from": None, "over_at": None}
    assert listed(lived_in) == listed(lived_in) == [row]
    with lived_in.book() as book:
        assert book.keyring.service_key_names("access") == []
    assert lived_in("keys", "list").out.split() == [*row, "0", "not", "made"]


def test_a_rotation_names_the_next_key_and_says_when_it_signs(lived_in: Gatebook) -> None:
    first = signing(lived_in)
    said = lived_in("keys", "rotate")
    assert said.code == 0, said.err
    old, new = listed(lived_in)
    assert said.out == f"The key {new['kid']} is the next, and signs from {new['signs_from']} (position 2).\n"
    assert (old["number"], old["kid"], old["state"], old["signs_from"]) == (0, first, "signs", None)
    assert (new["number"], new["state"], new["over_at"]) == (2, "next", None)
    [event] = lived_in("events", "--type", "key.rotated", "--json").objects
    assert (event["actor"], event["door"], event["stream"]) == ("operator", "command-line", "service")
    assert (event["purpose"], event["at_once"]) == ("access_tokens", False)
    assert moment(new["signs_from"]) == moment(event["at"]) + AHEAD
    assert moment(old["over_at"]) == moment(new["signs_from"]) + timedelta(minutes=5) + SKEW
    assert signing(lived_in) == first, "for now"


def test_a_rotation_at_once_leaves_the_new_key_alone(lived_in: Gatebook) -> None:
    first = signing(lived_in)
    lived_in("keys", "rotate")
    said = lived_in("keys", "rotate", "--at-once")
    assert said.code == 0, said.err
    [only] = listed(lived_in)
    assert said.out == f"The key {only['kid']} signs from now on, and nothing signed before is taken (position 3).\n"
    assert only == {"number": 3, "kid": signing(lived_in), "state": "signs", "signs_from": None, "over_at": None}
    assert only["kid"] != first
    assert lived_in("verify").code == 0


def test_machines_are_told_the_same(lived_in: Gatebook) -> None:
    [told] = lived_in("keys", "rotate", "--json").objects
    assert told == listed(lived_in)[-1]
    [told] = lived_in("keys", "rotate", "--at-once", "--json").objects
    assert [told] == listed(lived_in)


def test_no_part_of_a_key_is_shown(lived_in: Gatebook) -> None:
    signing(lived_in)
    said = [lived_in("keys", *words) for words in (["rotate"], ["list"], ["list", "--json"])]
    with lived_in.book() as book:
        secrets = book.keyring.service_keys("access").values()
        keys = SigningKeys(book.log, book.keyring)
        private = [key.private.private_numbers().private_value.to_bytes(32) for key in keys.published()]
    assert len(private) == 2
    for secret in (*secrets, *private):
        for one in said:
            no_secret(one.out, one.err, besides=[secret.hex()])
        for file in lived_in.folder.iterdir():
            assert secret not in file.read_bytes()


def test_without_a_store_there_are_no_keys(gatebook: Gatebook) -> None:
    for command in ("list", "rotate"):
        said = gatebook("keys", command, store=f"sqlite:{gatebook.folder}/nowhere.db")
        assert said.code == 3
        assert said.out == ""


def test_a_flag_is_a_flag(lived_in: Gatebook) -> None:
    assert lived_in("keys", "rotate", "--no-at-once").code == 2
    assert lived_in("keys", "rotate", "access-tokens").code == 2
    assert lived_in("events", "--type", "key.rotated", "--json").objects == []
