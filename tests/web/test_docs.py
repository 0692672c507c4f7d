"""The pages about the HTTP doors say what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from service.errors import HTTP_STATUS, Stale
from service.web.admin.looks import EVENTS
from tests.web.serving import web

DOCS = Path(__file__).parents[2] / "docs"


def test_every_refusal_that_a_client_can_meet_is_in_the_table() -> None:
    # Stale is what the gate tries again; no client sees it.
    ours = {(str(status), refusal.code) for refusal, status in HTTP_STATUS.items() if refusal is not Stale}
    page = (DOCS / "account-api.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| (\d{3}) \| `(\w+)` \|", page, re.MULTILINE)) == ours


async def test_every_address_is_in_a_table(tmp_path: Path) -> None:
    told = set()
    for page in (file.read_text(encoding="utf-8") for file in DOCS.glob("*.md")):
        told |= set(re.findall(r"^\| `([A-Z]+ /[^`]*)` \|", page, re.MULTILINE))
    async with web(tmp_path) as doors:
        assert {re.sub(r"<(\w+)>", r"{\1}", endpoint) for endpoint in doors.app._routes} == told


def test_every_parameter_of_the_events_is_in_the_table() -> None:
    page = (DOCS / "admin.md").read_text(encoding="utf-8").partition("## Events")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`.*?) \|", page, re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == {parameter.name for parameter in EVENTS}
