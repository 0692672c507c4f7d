"""The answers, as schemathesis judges them, and held more strictly against the document and against who asked."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl

import httpx
import schemathesis
from schemathesis.core.failures import AcceptedNegativeData, Failure
from schemathesis.core.parameters import ParameterLocation
from schemathesis.engine import StopReason, events
from schemathesis.engine.recorder import CheckNode, Interaction, ScenarioRecorder
from schemathesis.engine.run import TESTING_PHASES, PhaseName
from schemathesis.generation.meta import CoveragePhaseData, CoverageScenario
from schemathesis.openapi.checks import RejectedPositiveData

from tests.attacks.visitors import FORM
from tests.conformance.told import EVENT_STREAM, Told
from tests.schema.askers import Who
from tests.schema.plan import may, operations
from tests.schema.report import GIVEN, MODES, PROBE, Asked, Report, Wrong

AnyCase = schemathesis.Case[Any]
AnyOperation = schemathesis.APIOperation[Any, Any, Any, Any]

SILENCE: Final = 10.0
"""Seconds after which whoever waits is told that it goes on."""

BAD: Final = 400
"""Statuses from which on nothing was carried out."""


class Finding(NamedTuple):
    """What a check has to say: its first line is what is wrong, and no line is that nothing is."""

    check: str
    wrong: str = ""


def filter_failure(
    _: schemathesis.HookContext, failure: Failure, case: AnyCase, response: schemathesis.Response
) -> bool:
    """Whether schemathesis is right; it knows a hook by its name."""
    if isinstance(failure, RejectedPositiveData) and case.media_type == FORM and response.status_code == 400:
        # A list, in a field that nobody told of, is spelled as a field that is named twice.
        names = [name for name, _ in parse_qsl(str(response.request.body), keep_blank_values=True)]
        return len(set(names)) == len(names)
    if isinstance(failure, AcceptedNegativeData) and case.meta is not None:
        # With headers that the document does not tell of it is no less a request (RFC 9110, 5.1).
        data = case.meta.phase.data
        return not (
            isinstance(data, CoveragePhaseData)
            and data.scenario is CoverageScenario.OBJECT_UNEXPECTED_PROPERTIES
            and data.parameter_location is ParameterLocation.HEADER
        )
    return True


class Judge:
    """Takes what comes of each run into the report. Some of the requests are remembered, for others to ask as well."""

    def __init__(self, document: Mapping[str, Any], report: Report, tell: Callable[[str], None]) -> None:
        self._told = Told(dict(document))
        self._operations = operations(document)
        self._report = report
        self._tell = tell
        self._last = time.monotonic()
        self._remembered: dict[str, dict[str, AnyCase]] = {}

    def remembered(self, operation: AnyOperation) -> list[AnyCase]:
        """Requests that were made before: one that the document allows, and one that it does not."""
        return [
            operation.Case(
                path_parameters=case.path_parameters,
                headers=case.headers,
                cookies=case.cookies,
                query=case.query,
                body=case.body,
                media_type=case.media_type,
                # What is wrong about it: without that, nobody expects a refusal.
                _meta=case.meta,
            )
            for case in self._remembered.get(operation.label, {}).values()
        ]

    def take(self, who: Who, event: events.EngineEvent) -> None:
        """One event of a run as that one."""
        if isinstance(event, events.ScenarioFinished):
            self._take_scenario(who, event.phase.value, event.recorder)
            if time.monotonic() - self._last > SILENCE:
                self._say(who, event.phase.value, "goes on")
        elif isinstance(event, events.NonFatalError):
            phase = "" if event.phase is None else event.phase.value
            self._report.found(Wrong(who, phase, event.label, "error", event.info.title), repr(event.value))
        elif isinstance(event, events.PhaseFinished) and event.phase.name in TESTING_PHASES and event.phase.is_enabled:
            self._say(who, event.phase.name.value, event.status.value)
        elif isinstance(event, events.Interrupted):
            raise KeyboardInterrupt
        elif isinstance(event, events.EngineFinished) and event.stop_reason is not StopReason.COMPLETED:
            self._report.found(Wrong(who, "", "everything", "error", "it did not come to its end"), event.stop_reason)

    def _say(self, who: Who, phase: str, how: str) -> None:
        self._last = time.monotonic()
        self._tell(f"{who}, {phase}: {how}, {self._report.count(who):,} requests so far")

    def _take_scenario(self, who: Who, phase: str, recorder: ScenarioRecorder) -> None:
        for case_id, node in recorder.cases.items():
            interaction = recorder.interactions.get(case_id)
            # A request without an answer is an error, and an event of its own.
            if interaction is None or interaction.response is None:
                continue
            case, status = node.value, interaction.response.status_code
            is_probe = node.parent_id is not None and phase != PhaseName.STATEFUL_TESTING
            kind = PROBE if is_probe else GIVEN if case.meta is None else case.meta.generation.mode.value
            operation = case.operation.label
            self._report.asked[Asked(who, operation, kind, status)] += 1
            if kind in MODES:
                self._remember(kind, case)
            found = [self._told_of(operation, interaction), self._level(who, case, status)]
            found += map(_finding, recorder.checks.get(case_id, ()))
            for check, wrong in found:
                self._report.checks[check] += 1
                if wrong:
                    title, _, message = wrong.partition("\n")
                    shown = f"{message.strip()}\n{_shown(case, interaction)}".strip()
                    self._report.found(Wrong(who, phase, operation, check, title), shown)

    def _told_of(self, operation: str, interaction: Interaction) -> Finding:
        """Whether the answer is in the document, to the last field."""
        request, response = interaction.request, interaction.response
        assert response is not None
        answer = httpx.Response(
            response.status_code,
            headers=_pairs(response.headers),
            content=response.content,
            request=httpx.Request(request.method, request.uri, headers=_pairs(request.headers), content=request.body),
        )
        streamed = answer.headers.get("Content-Type") == EVENT_STREAM
        try:
            self._told.hold(answer, streamed=streamed)
            if streamed:
                self._told.hold_events(answer.text, "/admin/api/events/{position}")
        except AssertionError as error:
            return Finding("told", f"outside of what is told\n{error}")
        return Finding("told")

    def _level(self, who: Who, case: AnyCase, status: int) -> Finding:
        """Whether nothing is carried out for whom the document does not let."""
        is_its_own = case.method.lower() == case.operation.method
        carried_out = is_its_own and status < BAD
        if carried_out and not may(who, self._operations[case.operation.label]):
            return Finding("level", f"carried out for {who}, who may not")
        return Finding("level")

    def _remember(self, kind: str, case: AnyCase) -> None:
        # What is wrong with it may be who asks: then it is nothing for somebody else.
        is_its_own = case.method.lower() == case.operation.method
        if is_its_own and not case.operation.schema.is_security_param_negated(case):
            self._remembered.setdefault(case.operation.label, {}).setdefault(kind, case)


def _finding(check: CheckNode) -> Finding:
    return Finding(check.name, "" if check.failure_info is None else str(check.failure_info.failure))


def _shown(case: AnyCase, interaction: Interaction) -> str:
    assert interaction.response is not None
    sent = case.as_curl_command(dict(_pairs(interaction.request.headers)))
    return f"{sent}\nanswer: {interaction.response.status_code} {interaction.response.content[:500]!r}"


def _pairs(headers: Mapping[str, list[str]]) -> list[tuple[str, str]]:
    return [(name, value) for name, values in headers.items() for value in values]
