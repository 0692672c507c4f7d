"""Bodies of doors that take a form as well as JSON: the fields by name, as they were sent.

Forms are `application/x-www-form-urlencoded` (WHATWG URL, section 5.1), JSON is one object (RFC 8259). Everything else
is refused, and so is a body that names a field twice: two readers of such a body need not read the same.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import parse_qsl

import msgspec

from service.errors import Malformed, UnsupportedMedia
from service.json_depth import too_deep

__all__ = ["FORM_TYPE", "JSON_TYPE", "fields_of", "is_media", "refuse_repeated_names"]

FORM_TYPE: Final = "application/x-www-form-urlencoded"
JSON_TYPE: Final = "application/json"
MOST_FIELDS: Final = 100
"""More than any client of ours sends, and so few that a body of nothing but fields costs little."""

_decode_object: Final = msgspec.json.Decoder(dict[str, Any]).decode


class _TwiceError(ValueError):
    """An object names a field twice; raised while looking for that alone."""


def fields_of(content_types: Sequence[str], body: bytes) -> dict[str, Any]:
    """The fields of a body under its Content-Type header; none where there is no body at all.

    Raises UnsupportedMedia, or Malformed, whose sentence repeats nothing of the body.
    """
    if not body:
        return {}
    if is_media(content_types, JSON_TYPE):
        return _json_fields(body)
    if is_media(content_types, FORM_TYPE):
        return _form_fields(body)
    raise UnsupportedMedia("The body must be a form or JSON, and its Content-Type must say so.")


def is_media(content_types: Sequence[str], kind: str) -> bool:
    """Whether there is one Content-Type header and it says that type, in UTF-8 where it says an encoding."""
    if len(content_types) != 1:
        return False
    said, _, parameters = content_types[0].lower().partition(";")
    return said.strip() == kind and parameters.strip() in {"", "charset=utf-8", 'charset="utf-8"'}


def refuse_repeated_names(data: bytes) -> None:
    """Raises Malformed where the JSON names a field of an object twice, or is no JSON that Python's decoder reads."""
    try:
        json.loads(data, object_pairs_hook=_each_once)
    except _TwiceError:
        raise Malformed("The body names a field twice.") from None
    except (ValueError, RecursionError):
        raise Malformed("The body is not JSON in UTF-8.") from None


def _json_fields(body: bytes) -> dict[str, Any]:
    if too_deep(body):
        raise Malformed("The body is nested too deeply.")
    try:
        fields = _decode_object(body)
    except msgspec.ValidationError:
        raise Malformed("The body is not a JSON object.") from None
    except (msgspec.DecodeError, ValueError, RecursionError):
        # What a decoder says may quote the body, and the body may hold a password.
        raise Malformed("The body is not JSON in UTF-8.") from None
    refuse_repeated_names(body)
    return fields


def _form_fields(body: bytes) -> dict[str, Any]:
    try:
        # Bytes that are no UTF-8, percent-encoded or not, are refused, not replaced: a password is one thing or none.
        pairs = parse_qsl(body.decode(), keep_blank_values=True, errors="strict", max_num_fields=MOST_FIELDS)
    except ValueError:
        raise Malformed("The body is not a form in UTF-8.") from None
    if len({name for name, _ in pairs}) != len(pairs):
        raise Malformed("The body names a field twice.")
    return dict(pairs)


def _each_once(pairs: list[tuple[str, Any]]) -> None:
    if len({name for name, _ in pairs}) != len(pairs):
        raise _TwiceError
