"""One running service, and one process of browsers, for all tests of the published client."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pytest

from tests.conformance.running import FAST, Running, free_ports, running
from tests.npm.browser import Browser, Driver, driving
from tests.npm.installing import missing

SETTINGS = FAST | {"development": True}
"""Browsers keep the service's cookie from plain http in development only."""


def serving(folder: Path, ports: tuple[int, int]) -> AbstractContextManager[Running]:
    """A service at these ports, whose pages come from the first, and open sockets at the second."""
    return running(folder, ports=ports, trusted_origins=f"http://127.0.0.1:{ports[0]}", **SETTINGS)


Opening = Callable[..., Browser]


@pytest.fixture(scope="session")
def driver() -> Iterator[Driver]:
    reason = missing()
    if reason is not None:
        pytest.skip(reason)
    with driving() as found:
        yield found


@pytest.fixture(scope="session")
def service(driver: Driver, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    http, ws = free_ports(2)
    with serving(tmp_path_factory.mktemp("npm"), (http, ws)) as found:
        yield found


@pytest.fixture
def opened(driver: Driver) -> Iterator[Opening]:
    """Opens browsers, and sees to it that nothing in them went wrong that the application would not know of."""
    with ExitStack() as browsers:

        def opened(service: Running, enveloper: str = "enveloped") -> Browser:
            browser = Browser(driver, service, enveloper)
            browsers.callback(browser.close)
            return browser

        yield opened
    trouble, driver.trouble[:] = driver.trouble[:], []
    assert trouble == []
