"""No request that can be made of the document, well or badly, gets an answer that is not in it.

For long, and elsewhere each time: `make schema`.
"""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest
from schemathesis.checks import CHECKS, load_all_checks

from tests.conformance import running
from tests.schema import broken
from tests.schema.askers import BEARER, EVERYBODY, NOBODY, THE_CLIENT, Who
from tests.schema.holding import Holding, served
from tests.schema.plan import LEFT_OUT, Phases, may
from tests.schema.report import GIVEN, MODES

SEED: Final = 1
EXAMPLES: Final = 2
OURS: Final = {"told", "level"}
"""Checks that are made here, beside those of schemathesis."""

BROKEN: Final = {
    ("GET /health/live", "not_a_server_error"),
    ("GET /health/ready", "told"),
    ("GET /health/ready", "unsupported_method"),
    ("GET /health/ready", "allow_header_conformance"),
    ("GET /.well-known/jwks.json", "content_type_conformance"),
    ("POST /api/register", "negative_data_rejection"),
    ("POST /api/token", "status_code_conformance"),
    ("POST /api/logout", "positive_data_acceptance"),
    ("GET /api/sessions", "response_schema_conformance"),
    ("GET /verify", "ignored_auth"),
    ("GET /verify", "response_headers_conformance"),
    ("GET /admin/api/projections", "level"),
}
"""What is wrong with tests/schema/broken.py, and which check tells."""


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Holding:
    with (
        served(tmp_path_factory.mktemp("schema")) as service,
        closing(Holding(service, seed=SEED)) as found,
    ):
        found.briefly(EXAMPLES, walks=5)
    return found


def test_every_answer_is_as_the_document_tells_it(held: Holding) -> None:
    if held.report.wrong:
        pytest.fail(held.report.told(SEED, EXAMPLES), pytrace=False)


@pytest.mark.parametrize("who", EVERYBODY, ids=str)
def test_everybody_asks_for_everything_well_and_badly(held: Holding, who: Who) -> None:
    everything = held.operations.keys() if who != THE_CLIENT else {"POST /api/introspect"}
    refusable = {
        name for name in everything
        if "requestBody" in held.operations[name]
        or any(one["in"] in {"path", "query"} for one in held.operations[name].get("parameters", ()))
    }  # fmt: skip
    positive, negative = (held.report.operations(who, mode) for mode in MODES)
    assert positive == held.report.operations(who, GIVEN) == everything
    assert negative >= refusable
    assert len(refusable) > 15 or who == THE_CLIENT


def test_whoever_may_is_not_kept_from_it(held: Holding) -> None:
    carried_out = {(one.who, one.operation) for one in held.report.asked if one.kind == GIVEN and one.status < 400}
    allowed = {
        (who, name) for who in EVERYBODY for name, operation in held.operations.items()
        # A client asks at one address alone; and once somebody has logged in, they are told so.
        if may(who, operation) and (who != THE_CLIENT or name == "POST /api/introspect")
        and (who.level == "guest" or name != "POST /api/login")
    }  # fmt: skip
    assert carried_out == allowed
    assert {name for _, name in carried_out} == held.operations.keys()


def test_every_check_is_made_or_it_is_told_why_not(held: Holding) -> None:
    load_all_checks()
    assert held.report.checks.keys() == {*CHECKS.get_all_names(), *OURS} - LEFT_OUT.keys()


def test_what_breaks_its_word_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "COMMAND", [sys.executable, "-P", broken.__file__])
    with served(tmp_path) as service, closing(Holding(service, seed=SEED)) as found:
        everybody = (NOBODY, Who("user", BEARER))
        found.everything(Phases(bounds=True, examples=EXAMPLES), everybody, {name for name, _ in BROKEN})
    assert {(wrong.operation, wrong.check) for wrong in found.report.wrong} >= BROKEN
    assert {wrong.operation for wrong in found.report.wrong} == {name for name, _ in BROKEN}
