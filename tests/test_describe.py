"""The page about the events says what the catalogue says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from events.catalogue import EVENT_TYPES, PERSONAL_FIELDS, SERVICE_STREAM, wire_name
from events.describe import STREAMS, page, type_name

ROOT = Path(__file__).parent.parent


def test_the_page_about_the_events_is_what_the_command_prints() -> None:
    written = (ROOT / "docs" / "events.md").read_text(encoding="utf-8")
    assert written == page(), "docs/events.md is out of date: python -m events.describe > docs/events.md"
    printed = subprocess.run(
        [sys.executable, "-W", "error", "-m", "events.describe"], cwd=ROOT, capture_output=True, check=True, timeout=60
    )
    assert printed.stdout.decode() == written


@pytest.mark.parametrize("kind", EVENT_TYPES, ids=wire_name)
def test_every_type_has_its_section_with_every_field(kind: type[msgspec.Struct]) -> None:
    [section] = re.findall(rf"^## `{re.escape(wire_name(kind))}`\n(.*?)(?=^## |\Z)", page(), re.DOTALL | re.MULTILINE)
    assert (kind.__doc__ or "").split("\n")[0] in section
    rows = {
        name: (type_, sealed, optional)
        for name, type_, sealed, optional in re.findall(
            r"^\| `(\w+)` \| (.*) \| (.*) \| (.*) \|$", section, re.MULTILINE
        )
    }
    assert list(rows) == [field.name for field in msgspec.structs.fields(kind)]
    for field in msgspec.structs.fields(kind):
        type_, sealed, optional = rows[field.name]
        assert type_
        assert (sealed == "yes") == (field.name in PERSONAL_FIELDS[kind])
        assert (optional == "yes") == (not field.required)


def test_every_type_stands_in_a_stream() -> None:
    assert set(STREAMS) == set(EVENT_TYPES)
    assert {stream for streams in STREAMS.values() for stream in streams} == {"user-N", "session-N", SERVICE_STREAM}


def test_every_link_of_the_page_leads_to_a_heading() -> None:
    headings = {
        re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^## (.*)$", page(), re.MULTILINE)
    }
    links = re.findall(r"\]\(#(.*?)\)", page())
    assert len(links) == len(EVENT_TYPES)
    assert set(links) <= headings


def test_a_type_of_field_without_a_word_for_it_is_not_passed_over() -> None:
    with pytest.raises(KeyError):
        type_name(bytes)
