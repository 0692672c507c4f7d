"""Schemas of messages and parameters, as msgspec makes them of the types."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from service.web.operations import Shapes
from service.web.queries import Parameter


class Schemas:
    """The schemas of all messages: named once among the `components`, and referred to from everywhere else."""

    def __init__(self, shapes: Iterable[Shapes]) -> None:
        messages = list(dict.fromkeys(message for shape in shapes for message in messages_of(shape)))
        made, self.components = msgspec.json.schema_components(messages, ref_template="#/components/schemas/{name}")
        self._made = dict(zip(messages, made, strict=True))

    def of(self, shape: Shapes) -> list[dict[str, Any]]:
        """The schema of each message that may stand there."""
        return [self._made[message] for message in messages_of(shape)]


def messages_of(shape: Shapes) -> tuple[type[Any], ...]:
    """The messages of a shape, which are none, one or several."""
    return () if shape is None else shape if isinstance(shape, tuple) else (shape,)


def either(schemas: list[dict[str, Any]]) -> dict[str, Any]:
    """One schema for what may be any of these."""
    return schemas[0] if len(schemas) == 1 else {"anyOf": schemas}


def parameter(where: str, told: Parameter[object]) -> dict[str, Any]:
    """A parameter of a path, a query or the headers."""
    return {
        "name": told.name,
        "in": where,
        "description": told.about,
        "required": where == "path",
        "schema": msgspec.json.schema(told.kind),
    }
