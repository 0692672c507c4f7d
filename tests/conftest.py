"""What every test shares."""

import pytest

# Helpers that assert get pytest's explanations too; test modules have them anyway.
pytest.register_assert_rewrite(
    "tests.given", "tests.guards.edge", "tests.house", "tests.log_contract", "tests.read_model_contract"
)
