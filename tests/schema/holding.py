"""Requests made out of the document, by each who may ask, at a service of their own."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from contextlib import closing, contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Final

import httpx
import pytest
import schemathesis
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import from_schema

from tests.attacks.visitors import CLIENT
from tests.conformance.running import FAST, Running, running
from tests.schema.askers import ADMIN, EVERYBODY, NOBODY, THE_CLIENT, Asker, Who
from tests.schema.judging import AnyCase, Judge, filter_failure
from tests.schema.known import Known
from tests.schema.plan import Phases, at_home, configuration, operations
from tests.schema.report import Report, Wrong

SECRET: Final = "s" * 43
SETTINGS: Final = FAST | {"throttle_account_failures": 10_000, "max_tails": 1_000}
"""Hashing costs next to nothing, and no failure and no tail that was just left stands in the way of the next."""

VARIABLES: Final = {"GATEBOOK_INTROSPECTION_CLIENTS": f"{CLIENT}:{sha256(SECRET.encode()).hexdigest()}"}


@contextmanager
def served(folder: Path) -> Iterator[Running]:
    """A service of its own, asked directly whatever proxy there is. What its log tells of faults is for the report."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("no_proxy", "NO_PROXY"):
            patch.setenv(name, "127.0.0.1")
        with running(folder, variables=VARIABLES, faults=True, **SETTINGS) as service:
            yield service


class Holding:
    """Holds a service against its document. The `report` says what came of it."""

    def __init__(self, service: Running, *, seed: int, tell: Callable[[str], None] = lambda _: None) -> None:
        self.document = httpx.get(f"{service.http}/openapi.json", trust_env=False).raise_for_status().json()
        self.operations = operations(self.document)
        self.report = Report()
        self._service = service
        self._seed = seed
        self._judge = Judge(self.document, self.report, tell)
        self._known = Known(service)

    def close(self) -> None:
        """The last look is at the log of the service."""
        self._known.close()
        for line in self._service.errors():
            self.report.found(Wrong(NOBODY, "", "gatebook serve", "log", "it tells of a fault"), line)

    def everything(self, phases: Phases, everybody: Collection[Who] = EVERYBODY, only: Collection[str] = ()) -> None:
        """All operations, or `only` those, as everybody."""
        for who in everybody:
            asked = {name for name in self.operations if not only or name in only}
            # A client is somebody at one address, and nobody at all others.
            self._ask(who, asked & self._homes(who) if who == THE_CLIENT else asked, phases)

    def briefly(self, examples: int, walks: int) -> None:
        """All operations as the least of those who may, and some of what these asked as everybody else.

        The walks are those of an admin, who gets furthest.
        """
        for who in EVERYBODY:
            self._ask(who, self._homes(who), Phases(bounds=True, examples=examples))
        for who in EVERYBODY:
            if who != THE_CLIENT:
                self._ask(who, self.operations.keys() - self._homes(who), Phases(again=True))
        self._ask(ADMIN, self.operations.keys(), Phases(given=False, walks=walks))

    def _homes(self, who: Who) -> set[str]:
        return {name for name, operation in self.operations.items() if at_home(operation) == who}

    def _ask(self, who: Who, asked: Collection[str], phases: Phases) -> None:
        if not asked:
            return
        began = time.monotonic()
        # Not the same requests as everybody.
        seed = self._seed + EVERYBODY.index(who)
        config = configuration(self.document, self._service.http, self._known.values, phases, seed, asked)
        schema = schemathesis.openapi.from_dict(self.document, config=SchemathesisConfig.from_dict(config))
        schema.hook(filter_failure)
        with closing(Asker(self._service, who, client_secret=SECRET, promote=self._known.promote)) as asker:
            if who != NOBODY:
                schema.auth.set_from_requests(asker)

            @schema.hook
            def before_add_examples(context: schemathesis.HookContext, examples: list[AnyCase]) -> None:
                operation = context.operation
                assert operation is not None
                if phases.again:
                    examples += self._judge.remembered(operation)
                # The last one is the first that is sent: nothing stands in its way yet.
                examples.append(operation.Case(**self._known.example(operation.label, asker)))
                if who != NOBODY:
                    for case in examples:
                        schema.auth.set(case, schemathesis.AuthContext(operation=operation, app=None))

            for event in from_schema(schema).execute():
                self._judge.take(who, event)
        self.report.seconds[who] = self.report.seconds.get(who, 0.0) + time.monotonic() - began
