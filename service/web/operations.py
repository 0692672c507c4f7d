"""Operations: what a route takes and what it answers, for those who write clients; /openapi.json is made of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from service.doors.forms import FORM_TYPE, JSON_TYPE
from service.errors import Refused
from service.web.messages import ProblemAnswer
from service.web.queries import Parameter

__all__ = ["FORM_TYPE", "JSON_TYPE", "Operation", "Shapes"]

Shapes = type[Any] | tuple[type[Any], ...] | None
"""A message, one of several, or no body at all."""


class Operation(Struct, frozen=True):
    """What a route takes and answers, beyond what follows from the route itself.

    `answers` are by status, of the `media` type. `body` is the message that a request holds, in any of the `bodies`
    types; it may be left out where it is `optional`. `parts` of the path break their rule with a 404, parameters of the
    `query` with a 400, which `no_query` stands for where there are none and none is passed over. `headers` are those of
    the request that mean something here. `refuses` names what this route refuses beyond what every route of its kind
    does, and `problem` is the message of all its refusals. `security` is for a route that needs nobody and looks at
    who asks all the same: the schemes by which it takes somebody, each with the levels that do; an empty one is nobody.
    """

    answers: Mapping[int, Shapes] = {}
    media: str = JSON_TYPE
    body: Shapes = None
    bodies: tuple[str, ...] = (JSON_TYPE,)
    optional: bool = False
    parts: tuple[Parameter[object], ...] = ()
    query: tuple[Parameter[object], ...] = ()
    no_query: bool = False
    headers: tuple[Parameter[object], ...] = ()
    answer_headers: tuple[str, ...] = ()
    security: tuple[Mapping[str, tuple[str, ...]], ...] | None = None
    refuses: tuple[type[Refused], ...] = ()
    problem: type[Any] = ProblemAnswer
