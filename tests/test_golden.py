"""Golden lines: entries as they were once written, which must be decoded, opened and folded to the same for ever.

`golden/plain.jsonl` is a small book in plain text, `golden/sealed.jsonl` the same book as it is stored, under the keys
of this file. A new event type gets lines at the end of both; a line that is there never changes. `golden/digests.json`
says what each revision of each projection makes of that book.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from msgspec import Struct

from events.catalogue import EVENT_TYPES, PERSONAL_FIELDS, Sealed, wire_name
from events.describe import STREAMS
from events.recorded import Recorded, decode, encode
from events.sealing import open_event
from projections.catalogue import all_projections
from projections.names import Tagger
from projections.replay import Replay

GOLDEN = Path(__file__).parent / "golden"
RELEASED = 43
"""How many lines there are, none of which ever changes. Raised, with the digests below, when lines are added."""
RELEASED_PLAIN = "78ae8185d49c0c8807fccb4c271b317426de69df8e050d1fed524f989e3fa021"
RELEASED_SEALED = "5fbe2de0da7eb59828db2484ef5271771837c64a3c2b8a4e9b6a953640bb4bb8"


def key_of(subject: int) -> AESGCM:
    """The key that the golden lines of a subject are sealed under."""
    return AESGCM(sha256(b"golden %d" % subject).digest())


def lines_of(name: str) -> list[bytes]:
    return (GOLDEN / name).read_bytes().splitlines()


def decoded(name: str) -> list[Recorded]:
    return [decode(line, position) for position, line in enumerate(lines_of(name), 1)]


def opener(recorded: Recorded) -> Recorded:
    return open_event(recorded, key_of)


@pytest.mark.parametrize("name", ["plain.jsonl", "sealed.jsonl"])
def test_every_line_is_decoded_and_encoded_to_the_same_bytes(name: str) -> None:
    lines = lines_of(name)
    assert [encode(recorded) for recorded in decoded(name)] == lines


@pytest.mark.parametrize(("name", "digest"), [("plain.jsonl", RELEASED_PLAIN), ("sealed.jsonl", RELEASED_SEALED)])
def test_a_released_line_never_changes(name: str, digest: str) -> None:
    lines = lines_of(name)
    assert len(lines) == RELEASED
    assert sha256(b"\n".join(lines[:RELEASED])).hexdigest() == digest


def test_the_sealed_lines_are_opened_to_the_plain_ones() -> None:
    assert [opener(recorded) for recorded in decoded("sealed.jsonl")] == decoded("plain.jsonl")


@pytest.mark.parametrize("kind", EVENT_TYPES, ids=wire_name)
def test_every_type_has_a_line_with_everything_and_one_with_nothing_optional(kind: type[Struct]) -> None:
    events = [recorded.event for recorded in decoded("plain.jsonl") if type(recorded.event) is kind]
    assert events, f"add a golden line for {wire_name(kind)}"
    fields = msgspec.structs.fields(kind)
    if wire_name(kind) == "profile.changed":
        # Something is always said, and a new address is never said together with having none.
        told = {field.name for event in events for field in fields if getattr(event, field.name)}
        assert told == {field.name for field in fields}
        return
    assert any(all(getattr(event, field.name) for field in fields if not field.required) for event in events)
    assert any(all(not getattr(event, field.name) for field in fields if not field.required) for event in events)


@pytest.mark.parametrize("name", ["plain.jsonl", "sealed.jsonl"])
def test_every_choice_has_a_line(name: str) -> None:
    """Of each field that is one of a few words, each word."""
    for kind in EVENT_TYPES:
        for field in msgspec.structs.fields(kind):
            hint = msgspec.inspect.type_info(field.type)
            if isinstance(hint, msgspec.inspect.LiteralType) and isinstance(hint.values[0], str):
                used = {getattr(one.event, field.name) for one in decoded(name) if type(one.event) is kind}
                assert used == set(hint.values), f"{wire_name(kind)}.{field.name}"


def test_nothing_personal_is_plain_in_the_sealed_lines() -> None:
    for recorded in decoded("sealed.jsonl"):
        for field in PERSONAL_FIELDS[type(recorded.event)]:
            assert isinstance(getattr(recorded.event, field), Sealed | None), recorded.position


def test_every_line_stands_in_a_stream_that_the_page_names() -> None:
    for recorded in decoded("sealed.jsonl"):
        kind, dash, _ = recorded.stream.partition("-")
        assert kind + dash.replace("-", "-N") in STREAMS[type(recorded.event)], recorded.position


def folded(name: str, opener: Callable[[Recorded], Recorded] | None) -> dict[str, dict[str, str]]:
    replay = Replay(all_projections(Tagger(bytes(32))), opener)
    replay.fold(decoded(name))
    return {
        projection.name: {str(projection.revision): replay.digest(projection.name)} for projection in replay.projections
    }


def test_a_fold_that_changes_has_a_new_revision() -> None:
    """Otherwise the read models of older books are never rebuilt. A new revision's digest is added to the file."""
    known = json.loads((GOLDEN / "digests.json").read_bytes())
    for name, digests in folded("sealed.jsonl", opener).items():
        [(revision, digest)] = digests.items()
        assert known[name].get(revision) == digest, f"{name} folds otherwise: raise its revision, or mend it"


def test_a_fold_without_keys_makes_the_same_of_all_but_names() -> None:
    with_keys = folded("sealed.jsonl", opener)
    assert folded("sealed.jsonl", None) == {name: digests for name, digests in with_keys.items() if name != "names"}
