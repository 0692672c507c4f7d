"""The promises of `projections.store.ReadModels`, as tests that every store runs: inherit, and say how to open one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import ClassVar

import msgspec
import pytest
from msgspec import Struct

from events.catalogue import AuditRead
from events.log import EventLog
from events.recorded import Recorded
from projections import digest
from projections.projection import AnyProjection, Index, encode_document
from projections.store import Change, ReadModels, ReadModelState, Row, moved
from tests.entries import entry_of, failed, record


class Card(Struct, frozen=True):
    """A document of no meaning."""

    text: str
    number: int | None = None


class Cards:
    """A projection of no meaning, to store documents by: it folds nothing."""

    revision = 3
    document = Card
    opened = False
    indexes: ClassVar[tuple[Index[Card], ...]] = (
        Index("text", lambda card: card.text),
        Index("number", lambda card: card.number),
    )
    handles: ClassVar[frozenset[type[Struct]]] = frozenset({AuditRead})

    def __init__(self, name: str, *, keyed_by_position: bool = False) -> None:
        self.name = name
        self.keyed_by_position = keyed_by_position

    def keys(self, recorded: Recorded) -> tuple[str, ...]:
        raise NotImplementedError

    def evolve(self, key: str, doc: Card | None, recorded: Recorded) -> Card | None:
        raise NotImplementedError


TEXTS: AnyProjection = Cards("texts")
NUMBERED: AnyProjection = Cards("numbered", keyed_by_position=True)
BOTH = (TEXTS, NUMBERED)

Opening = Callable[[], tuple[EventLog, ReadModels]]


def stored(text: str, number: int | None = None) -> bytes:
    return encode_document(Card(text, number))


def change(text: str | None, number: int | None = None, *, before: bytes | None = None) -> Change:
    return Change(before, None) if text is None else Change(before, stored(text, number), (text, number))


class ReadModelContract:
    """What every read-model store promises."""

    @pytest.fixture
    def opening(self) -> Opening:
        """Opens the log and the read models that the test is about once more; at the first time they are made."""
        raise NotImplementedError

    @pytest.fixture
    def store(self, opening: Opening) -> Iterator[tuple[EventLog, ReadModels]]:
        store = opening()
        yield store
        store[0].close()

    @pytest.fixture
    def log(self, store: tuple[EventLog, ReadModels]) -> EventLog:
        return store[0]

    @pytest.fixture
    def models(self, store: tuple[EventLog, ReadModels]) -> ReadModels:
        return store[1]

    @pytest.fixture
    def other(self, opening: Opening, store: tuple[EventLog, ReadModels]) -> Iterator[ReadModels]:
        log, models = opening()
        yield models
        log.close()

    @pytest.fixture
    def write(self, log: EventLog, models: ReadModels) -> Callable[..., None]:
        """Writes documents of one projection in a transaction of its own."""

        def write(projection: AnyProjection, changes: Mapping[str, Change]) -> None:
            with log.transaction() as transaction:
                models.within(transaction).write(projection, changes)

        return write

    def test_new_read_models_hold_nothing(self, models: ReadModels) -> None:
        empty = ReadModelState(3, 0, 0, digest.to_text(digest.EMPTY))
        assert models.states() == {"texts": empty, "numbered": empty}
        assert models.outdated() == []
        for projection in BOTH:
            assert models.get(projection, "1") is None
            assert models.scan(projection) == []
            assert models.find(projection, "text", "a") == []
            assert models.up_to(projection, "number", 9) == []

    def test_a_document_is_there_when_the_transaction_has_ended(
        self, log: EventLog, models: ReadModels, other: ReadModels
    ) -> None:
        with log.transaction() as transaction:
            models.within(transaction).write(TEXTS, {"a": change("one", 1)})
            assert other.get(TEXTS, "a") is None
        assert models.get(TEXTS, "a") == other.get(TEXTS, "a") == stored("one", 1)
        assert models.get(TEXTS, "b") is None
        assert models.get(NUMBERED, "1") is None

    @pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
    def test_nothing_is_there_of_a_block_left_by_an_exception(
        self, log: EventLog, models: ReadModels, other: ReadModels, error: type[BaseException]
    ) -> None:
        before = models.states()
        with suppress(error), log.transaction() as transaction:
            within = models.within(transaction)
            within.write(TEXTS, {"a": change("one", 1)})
            within.put_states({"texts": ReadModelState(3, 7, 1, "f" * 64)})
            raise error
        assert other.get(TEXTS, "a") is models.get(TEXTS, "a") is None
        assert models.states() == other.states() == before

    def test_documents_are_replaced_and_removed(self, write: Callable[..., None], models: ReadModels) -> None:
        write(TEXTS, {"a": change("one", 1), "b": change("two", 2), "c": change("three", 3)})
        write(TEXTS, {"a": change("uno", None, before=stored("one", 1)), "b": change(None, before=stored("two", 2))})
        assert models.scan(TEXTS) == [
            Row("a", stored("uno"), {"text": "uno", "number": None}),
            Row("c", stored("three", 3), {"text": "three", "number": 3}),
        ]
        assert models.find(TEXTS, "text", "one") == models.find(TEXTS, "number", 1) == []
        assert models.find(TEXTS, "text", "uno") == [("a", stored("uno"))]
        assert models.find(TEXTS, "text", "two") == []

    @pytest.mark.parametrize("key", ["a", "ü☃", "1", "01", "a'b\"c", "a b", "x" * 500, "%", "[1]"])
    def test_any_text_is_a_key(self, write: Callable[..., None], log: EventLog, models: ReadModels, key: str) -> None:
        write(TEXTS, {key: change(key, 1)})
        assert models.get(TEXTS, key) == stored(key, 1)
        assert [row.key for row in models.scan(TEXTS)] == [key]
        assert models.find(TEXTS, "text", key) == [(key, stored(key, 1))]
        with log.transaction() as transaction:
            within = models.within(transaction)
            assert within.load(TEXTS, [key]) == {key: stored(key, 1)}
            assert within.load_found(TEXTS, "text", [key]) == {key: stored(key, 1)}
        write(TEXTS, {key: change(None, before=stored(key, 1))})
        assert models.get(TEXTS, key) is None

    @pytest.mark.parametrize("key", ["", "a", "-1", "1.0", " 1", "\u0661", "9" * 30])
    def test_what_is_no_position_has_no_document(
        self, write: Callable[..., None], models: ReadModels, key: str
    ) -> None:
        write(NUMBERED, {"1": change("one")})
        assert models.get(NUMBERED, key) is None

    def test_loading_reads_the_documents_asked_for(
        self, write: Callable[..., None], log: EventLog, models: ReadModels
    ) -> None:
        write(NUMBERED, {f"{number}": change(f"{number % 3}", number) for number in range(1, 9)})
        with log.transaction() as transaction:
            within = models.within(transaction)
            assert within.load(NUMBERED, ["1", "8", "9"]) == {"1": stored("1", 1), "8": stored("2", 8)}
            assert within.load(NUMBERED, []) == {}
            assert within.load(TEXTS, ["1"]) == {}
            assert within.load_found(NUMBERED, "text", ["1", "x"]) == {
                "1": stored("1", 1),
                "4": stored("1", 4),
                "7": stored("1", 7),
            }
            assert sorted(within.load_found(NUMBERED, "number", [2, 3, 99])) == ["2", "3"]
            assert within.load_found(NUMBERED, "number", []) == {}
            assert within.count_found(NUMBERED, "text", ["1", "0", "x"]) == {"1": 3, "0": 2, "x": 0}
            assert within.count_found(NUMBERED, "number", [2, 99]) == {2: 1, 99: 0}
            assert within.count_found(NUMBERED, "number", []) == {}
        assert models.count(NUMBERED, "text", "1") == 3
        assert models.count(NUMBERED, "text") == 8

    def test_a_document_without_a_value_is_not_in_the_index(
        self, write: Callable[..., None], log: EventLog, models: ReadModels
    ) -> None:
        write(TEXTS, {"a": change("one", None), "b": change("two", 0)})
        assert models.find(TEXTS, "number", None) == []
        assert models.find(TEXTS, "number", 0) == [("b", stored("two", 0))]
        assert models.up_to(TEXTS, "number", 5) == [("b", stored("two", 0))]
        with log.transaction() as transaction:
            assert models.within(transaction).load_found(TEXTS, "number", [None, 0]) == {"b": stored("two", 0)}
            assert models.within(transaction).count_found(TEXTS, "number", [None, 0]) == {None: 0, 0: 1}
        assert models.count(TEXTS, "number") == 1

    def test_a_number_is_not_the_text_of_it(self, write: Callable[..., None], models: ReadModels) -> None:
        write(TEXTS, {"a": change("7", 7)})
        assert models.find(TEXTS, "text", 7) == models.find(TEXTS, "number", "7") == []
        assert models.count(TEXTS, "text", 7) == models.count(TEXTS, "number", "7") == 0

    def test_finding_and_scanning_go_in_order_of_the_key_and_page_by_page(
        self, write: Callable[..., None], models: ReadModels
    ) -> None:
        write(TEXTS, {key: change("same", 1) for key in ["b", "B", "ä", "10", "9", "a"]})
        expected = ["10", "9", "B", "a", "b", "ä"]
        assert [row.key for row in models.scan(TEXTS)] == expected
        assert [key for key, _ in models.find(TEXTS, "text", "same")] == expected
        assert [row.key for row in models.scan(TEXTS, after="9", limit=2)] == ["B", "a"]
        assert [key for key, _ in models.find(TEXTS, "text", "same", after="B", limit=2)] == ["a", "b"]
        assert [row.key for row in models.scan(TEXTS, after="ä")] == []
        assert models.scan(TEXTS, limit=0) == []

    def test_positions_are_ordered_as_numbers(self, write: Callable[..., None], models: ReadModels) -> None:
        write(NUMBERED, {key: change("same", 1) for key in ["10", "9", "100", "2"]})
        assert [row.key for row in models.scan(NUMBERED)] == ["2", "9", "10", "100"]
        assert [row.key for row in models.scan(NUMBERED, after="9")] == ["10", "100"]
        assert [key for key, _ in models.find(NUMBERED, "text", "same", after="2", limit=2)] == ["9", "10"]

    def test_up_to_a_value_lowest_first(self, write: Callable[..., None], models: ReadModels) -> None:
        write(NUMBERED, {"1": change("a", 30), "2": change("b", -5), "3": change("c", 10), "4": change("d", None)})
        assert [key for key, _ in models.up_to(NUMBERED, "number", 30)] == ["2", "3", "1"]
        assert [key for key, _ in models.up_to(NUMBERED, "number", 29)] == ["2", "3"]
        assert [key for key, _ in models.up_to(NUMBERED, "number", 29, limit=1)] == ["2"]
        assert models.up_to(NUMBERED, "number", -6) == []

    def test_more_documents_than_one_statement_takes(
        self, write: Callable[..., None], log: EventLog, models: ReadModels
    ) -> None:
        write(NUMBERED, {f"{number}": change("x", number) for number in range(1, 1_702)})
        assert len(models.scan(NUMBERED, limit=5_000)) == 1_701
        with log.transaction() as transaction:
            assert len(models.within(transaction).load(NUMBERED, map(str, range(3_000)))) == 1_701
        write(NUMBERED, {f"{n}": change(None, before=stored("x", n)) for n in range(1, 1_702) if n != 900})
        assert [row.key for row in models.scan(NUMBERED)] == ["900"]

    def test_states_move_with_what_they_are_of(self, log: EventLog, models: ReadModels, other: ReadModels) -> None:
        changes = {"a": change("one", 1), "b": change("two", 2)}
        with log.transaction() as transaction:
            within = models.within(transaction)
            states = within.states()
            assert states == models.states()
            after = moved(states["texts"], changes, 0)
            within.write(TEXTS, changes)
            within.put_states({"texts": after})
        assert other.states() == {"texts": after, "numbered": ReadModelState(3)}
        assert after.documents == 2
        assert after.digest == digest.to_text(
            digest.of_documents((row.key, row.document) for row in models.scan(TEXTS))
        )

    def test_a_state_says_what_moved(self) -> None:
        state = moved(ReadModelState(3), {"a": change("one"), "b": change("two")}, 5)
        assert (state.revision, state.position, state.documents) == (3, 5, 2)
        again = moved(state, {"a": change(None, before=stored("one")), "b": change("zwei", before=stored("two"))}, 9)
        assert (again.position, again.documents) == (9, 1)
        assert again.digest == digest.to_text(digest.of_document("b", stored("zwei")))
        assert moved(again, {}, 10) == ReadModelState(3, 10, 1, again.digest)

    def test_the_log_and_the_read_models_commit_together(
        self, log: EventLog, models: ReadModels, other: ReadModels
    ) -> None:
        entry = entry_of(record([("service", failed())])[0])
        with suppress(ValueError), log.transaction() as transaction:
            within = models.within(transaction)
            transaction.append([entry])
            within.write(TEXTS, {"a": change("one", 1)})
            raise ValueError
        assert log.head().position == 0
        assert other.scan(TEXTS) == []
        with log.transaction() as transaction:
            within = models.within(transaction)
            transaction.append([entry])
            within.write(TEXTS, {"a": change("one", 1)})
            within.put_states(
                {name: msgspec.structs.replace(state, position=1) for name, state in within.states().items()}
            )
        assert log.head().position == 1
        assert [row.key for row in other.scan(TEXTS)] == ["a"]
        assert {state.position for state in other.states().values()} == {1}
