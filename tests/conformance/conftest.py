"""One running service for all conformance suites."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conformance.running import FAST, Running, running


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("conformance"), **FAST) as found:
        yield found
