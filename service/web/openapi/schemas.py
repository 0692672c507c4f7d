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
        self.components: dict[str, Any] = {}
        self._made: dict[type[Any], dict[str, Any]] = {}
        wanted = [message for shape in shapes for message in messages_of(shape)]
        while wanted:
            self._parts: list[type[Any]] = []
            self._make(list(dict.fromkeys(wanted)))
            wanted = [part for part in self._parts if part not in self._made]

    def _make(self, messages: list[type[Any]]) -> None:
        made, components = msgspec.json.schema_components(
            messages, schema_hook=self._one_of, ref_template="#/components/schemas/{name}"
        )
        self._made |= zip(messages, made, strict=True)
        self.components |= components

    def _one_of(self, kind: type[Any]) -> dict[str, Any]:
        """The schema of a type that stands for several (see service.shown), which are made after it."""
        parts: tuple[type[Any], ...] = kind.one_of
        self._parts += parts
        return either([{"$ref": f"#/components/schemas/{part.__name__}"} for part in parts])

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
