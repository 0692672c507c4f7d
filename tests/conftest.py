"""What every test shares."""

import os

import pytest
from hypothesis import settings

# Helpers that assert get pytest's explanations too; test modules have them anyway.
pytest.register_assert_rewrite(
    "tests.cli.gatebook",
    "tests.desk",
    "tests.given",
    "tests.guards.edge",
    "tests.house",
    "tests.key_store_contract",
    "tests.log_contract",
    "tests.read_model_contract",
)

# By default the same examples each time, so that a change is what made a test fail; GATEBOOK_HYPOTHESIS=long looks for
# longer, and elsewhere each time. No deadlines: how long an example takes says how busy the machine is.
settings.register_profile(
    "ci", derandomize=True, deadline=None, max_examples=100, stateful_step_count=20, print_blob=True
)
settings.register_profile("long", deadline=None, max_examples=1_000, stateful_step_count=60, print_blob=True)
settings.load_profile(os.environ.get("GATEBOOK_HYPOTHESIS", "ci"))
