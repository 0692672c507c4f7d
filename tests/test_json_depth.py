"""The depth of a JSON message, held against a parser and against what hostile clients send."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.json_depth import LIMIT, too_deep

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text('[]{}"\\ ab'),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('[]{}"\\'), inner, max_size=3),
    max_leaves=20,
)


def depth(value: Any) -> int:
    if isinstance(value, list):
        return 1 + max(map(depth, value), default=0)
    if isinstance(value, dict):
        return 1 + max(map(depth, value.values()), default=0)
    return 0


@given(ANYTHING, st.integers(0, 6))
def test_it_says_what_a_parser_finds(value: Any, limit: int) -> None:
    assert too_deep(json.dumps(value).encode(), limit) == (depth(value) > limit)


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}"), (b'[{"a":', b"}]")])
def test_the_limit_is_the_deepest_that_passes(opening: bytes, closing: bytes) -> None:
    levels = opening.count(b"[") + opening.count(b"{")
    deepest = LIMIT // levels
    assert not too_deep(opening * deepest + b"1" + closing * deepest)
    assert too_deep(opening * (deepest + 1) + b"1" + closing * (deepest + 1))


@pytest.mark.parametrize(
    "data",
    [b"[" * 65_536, b'"a"' + b"[" * 40, b'{"a":"\\\\"' + b"[" * 40, b'["\\"]"' + b"[" * 40, b"[1,\xff" * 40],
    ids=["a bomb", "after a string", "after an escaped backslash", "after an escaped quote", "not UTF-8"],
)
def test_brackets_that_never_close_are_too_deep(data: bytes) -> None:
    assert too_deep(data)


@pytest.mark.parametrize(
    "data",
    [b'"' + b"[" * 65_536, b'{"a":"\\"' + b"[" * 40 + b'"}', b"[]" * 32_768, b"]" * 65_536, b'"\\' * 30_000, b""],
    ids=["an open string", "inside a string", "side by side", "closing only", "escapes", "nothing"],
)
def test_brackets_that_nest_nothing_are_not(data: bytes) -> None:
    assert not too_deep(data)
