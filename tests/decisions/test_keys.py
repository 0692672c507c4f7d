"""What an operator does to the service's own keys."""

import pytest

from events.catalogue import KeyRotated
from service.decisions.keys import RotateKey
from tests.given import given, on


@pytest.mark.parametrize("at_once", [False, True])
def test_a_rotation_is_written_down_each_time(at_once: bool) -> None:
    rotated = [on("service", KeyRotated("access_tokens", at_once))]
    given(rotated).when(RotateKey("access_tokens", at_once)).then(rotated)
