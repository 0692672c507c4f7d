"""The part of verification that looks at read models: states, rows, index columns, documents and the three digests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import msgspec
from msgspec import Struct

from events.errors import UnreadableTextError
from projections import digest
from projections.faults import Fault, FaultKind, shown
from projections.projection import AnyProjection, encode_document
from projections.store import ReadModelState, Row


class Rows(Protocol):
    """What is looked at; see `projections.verify.Evidence`."""

    def states(self) -> dict[str, ReadModelState]:
        """Where each read model says it stands."""

    def rows(self, projection: AnyProjection) -> Iterator[Row]:
        """Every row of the read model."""


class Digests(Struct, frozen=True):
    """The three digests of one read model, 64 hex digits each.

    `maintained` was kept up with every write, `recomputed` comes from the rows, `replayed` from the book; None where
    there is none, or where it was not compared for want of keys.
    """

    name: str
    documents: int
    maintained: str | None
    recomputed: str | None
    replayed: str | None

    @property
    def equal(self) -> bool:
        """Whether all that there are agree, and the first two are there."""
        return self.maintained == self.recomputed is not None and self.replayed in {None, self.maintained}


def check_states(
    evidence: Rows, projections: Sequence[AnyProjection], position: int
) -> tuple[dict[str, ReadModelState], Fault | None]:
    """Where the read models stand, and the first that stands elsewhere than the log, or is of another revision."""
    try:
        states = evidence.states()
    except UnreadableTextError:
        sentence = "The table read_model holds bytes that are no text."
        return {}, Fault("state", sentence, position, "read_model")
    for projection in projections:
        name = projection.name
        state = states.get(name)
        if state is None:
            return states, _state(name, position, None, f"The table read_model has no row for {name}; rebuild it.")
        if state.revision != projection.revision:
            older = state.revision < projection.revision
            advice = "rebuild it" if older else "a newer gatebook keeps it"
            sentence = f"The read model {name} is of revision {state.revision}, not {projection.revision}; {advice}."
            return states, _state(name, position, "revision", sentence)
        if state.position != position:
            sentence = f"The read model {name} stands at position {state.position}, the log at {position}."
            return states, _state(name, position, "position", sentence)
    for name in sorted(states.keys() - {projection.name for projection in projections}):
        return states, _state(
            name, position, None, f"The table read_model has a row for {shown(name)}, which nobody keeps."
        )
    return states, None


def check_read_model(
    evidence: Rows,
    projection: AnyProjection,
    state: ReadModelState | None,
    folded: dict[str, Any] | None,
    position: int,
) -> tuple[Digests, Fault | None]:
    """Every row against its own index columns and against the replay's document, and all of them against the digest.

    `folded` is used up, so that no document stands in memory twice; None where the replay had no keys.
    """
    table = f"read_{projection.name}"
    if state is not None and state.revision != projection.revision:
        # The documents of another revision are not to be compared; that they are there is a fault already.
        return Digests(projection.name, state.documents, state.digest, None, None), None
    checks = _RowChecks(projection, table, folded, position)
    unreadable: Fault | None = None
    try:
        for row in evidence.rows(projection):
            checks.row(row)
    except UnreadableTextError:
        where = "its first row" if checks.last is None else f"the row after {shown(checks.last)}"
        unreadable = Fault("row", f"In {table}, {where} holds bytes that are no text.", position, table, checks.last)
    except LookupError:
        unreadable = Fault(
            "row", f"The table {table} is missing, or a column of it; rebuild {projection.name}.", position, table
        )
    fault = checks.fault or unreadable
    checks.missing()
    recomputed = None if unreadable else _total(checks.recomputed)
    replayed = None if folded is None else _total(checks.replayed)
    told = Digests(projection.name, checks.documents, state.digest if state else None, recomputed, replayed)
    return told, fault or checks.fault or _disagreement(told, state, position)


class _RowChecks:
    """The rows of one read model, looked at one after the other. `fault` is the first."""

    def __init__(self, projection: AnyProjection, table: str, folded: dict[str, Any] | None, position: int) -> None:
        self.documents = 0
        self.recomputed = digest.EMPTY
        self.replayed = digest.EMPTY
        self.last: str | None = None
        self.fault: Fault | None = None
        self._projection = projection
        self._table = table
        self._folded = folded
        self._position = position
        self._decoder = msgspec.json.Decoder(projection.document)

    def row(self, row: Row) -> None:
        """Looks at one row."""
        self.documents += 1
        self.last = row.key
        share = digest.of_document(row.key, row.document)
        self.recomputed += share
        doc: Any = None
        if self._folded is not None:
            doc = self._folded.pop(row.key, None)
            if doc is None:
                self._say("row", row.key, None, "is in no replay of the book")
            else:
                encoded = encode_document(doc)
                if encoded != row.document:
                    share = digest.of_document(row.key, encoded)
                    field = first_difference(row.document, encoded)
                    self._say("document", row.key, "document", f"differs from the replay, first in {field}")
                self.replayed += share
        self._columns(row, doc)

    def missing(self) -> None:
        """Whatever the replay has and no row was found for."""
        for key, doc in (self._folded or {}).items():
            self.replayed += digest.of_document(key, encode_document(doc))
            self._say("row", key, None, "is missing, and the replay has it")

    def _columns(self, row: Row, doc: Any) -> None:  # noqa: ANN401 - the document of any projection
        if doc is None:
            # Without a replay's document, or with another one, the row's own must do.
            try:
                doc = self._decoder.decode(row.document)
            except (msgspec.DecodeError, RecursionError):
                self._say("document", row.key, "document", "cannot be decoded")
                return
        for index in self._projection.indexes:
            value, expected = row.indexed[index.name], index.value(doc)
            if type(value) is not type(expected) or value != expected:
                column = f"by_{index.name}"
                self._say("index", row.key, column, f"has a column {column} that is not what its document says")

    def _say(self, kind: FaultKind, key: str, column: str | None, what: str) -> None:
        if self.fault is None:
            sentence = f"In {self._table}, the row {shown(key)} {what}."
            self.fault = Fault(kind, sentence, self._position, self._table, key, column)


def first_difference(stored: bytes, folded: bytes) -> str:
    """The first field in which two encoded documents differ; their values stay unsaid, since they may be secret."""
    ours: dict[str, Any] = msgspec.json.decode(folded)
    try:
        theirs = msgspec.json.decode(stored)
    except (msgspec.DecodeError, RecursionError):
        return "its JSON"
    if not isinstance(theirs, Mapping):
        return "its JSON"
    for field in [*ours, *(field for field in theirs if field not in ours)]:
        if field not in theirs or field not in ours or ours[field] != theirs[field]:
            return shown(str(field))
    return "its spelling"


def _total(shares: int) -> str:
    """The digest out of the sum of what its documents add."""
    return digest.to_text(digest.moved(shares, "", None, None))


def _disagreement(told: Digests, state: ReadModelState | None, position: int) -> Fault | None:
    if state is None:
        return None
    if state.documents != told.documents:
        sentence = f"The read model {told.name} counts {state.documents} documents, and its table has {told.documents}."
        return _state(told.name, position, "documents", sentence)
    if not told.equal:
        return _state(
            told.name, position, "digest", f"The digest that the read model {told.name} keeps is not that of its rows."
        )
    return None


def _state(name: str, position: int, column: str | None, sentence: str) -> Fault:
    return Fault("state", sentence, position, "read_model", name, column)
