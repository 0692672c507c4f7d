"""The route protocol's conversations in the registry: what another process ends, they forget, whatever the moment."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from events.follow import Arrivals, Follower
from events.log import Query
from service.decisions.administration import RevokeSession
from service.doors.route_calls import V1, V2, Edition
from service.gate.attempts import Client
from service.gate.gate import LoggedIn
from service.metrics import Metrics
from service.sockets.registry import ENDING, Registry
from service.sockets.route import Conversation
from tests.desk import Desk
from tests.house import House, book_in, house

PASSWORD = "correct horse"
CLIENT = Client("route-v2", "127.0.0.1", "a client")


class Noted(Registry):
    """A registry of which it is known how often it was asked to hold something."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.asked = 0

    def hold(self, session_id: int, holder: Any) -> None:
        self.asked += 1
        super().hold(session_id, holder)


@dataclass
class Inside:
    """A house in which Alice is registered, a registry at work, and another process's desk at the same store."""

    house: House
    registry: Noted
    metrics: Metrics
    arrivals: Arrivals
    follower: Follower
    elsewhere: Desk

    def conversation(self, edition: Edition = V2) -> Conversation:
        return Conversation(self.house.gate, self.registry, edition, CLIENT, self.metrics)

    async def log_in(self) -> LoggedIn:
        return await self.house.gate.log_in(CLIENT, "alice", PASSWORD)

    def holding(self, door: str = "route-v2") -> float | None:
        return self.metrics.registry.get_sample_value("gatebook_sockets_holding_a_session", {"door": door})

    def end(self, session_id: int) -> int:
        """Another process ends a session; the position at which that stands."""
        return self.elsewhere.one(RevokeSession(session_id))[-1].position

    async def passed(self, position: int) -> None:
        """The registry follows the log so far, and is at rest."""
        self.arrivals.announce()
        await trio.testing.wait_all_tasks_blocked()
        assert self.follower.position >= position


@asynccontextmanager
async def inside(folder: Path) -> AsyncIterator[Inside]:
    async with house(folder) as found:
        await found.gate.register(CLIENT, username="alice", nickname="Al", password=PASSWORD)
        metrics, arrivals, log = Metrics(), Arrivals(), found.book.log
        registry = Noted(found.gate.lookups.lives, metrics)
        follower = Follower(log, arrivals, Query(after=log.head().position, type=ENDING))
        with book_in(folder) as book:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(registry.run, follower)
                yield Inside(found, registry, metrics, arrivals, follower, Desk(book, found.clock))
                nursery.cancel_scope.cancel()


async def ask(talk: Conversation, route: str, **data: Any) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(await talk.answer(json.dumps({"route": f"auth.{route}", "data": data})))
    return answer


def code(answer: dict[str, Any]) -> int | None:
    found: int | None = answer["data"]["error_code"] if answer.get("error") else None
    return found


@contextmanager
def at_the_look(
    found: Inside, monkeypatch: pytest.MonkeyPatch, look: str, *, before: Callable[[], Any] = lambda: None,
    after: Callable[[], Any] = lambda: None,
) -> Iterator[None]:  # fmt: skip
    """Something happens just before or after the lookup of that name."""
    looked = getattr(found.house.gate.lookups, look)

    def looks(asked: Any) -> Any:
        before()
        seen = looked(asked)
        after()
        return seen

    with monkeypatch.context() as patched:
        patched.setattr(found.house.gate.lookups, look, looks)
        yield


@pytest.mark.parametrize("edition", [V1, V2], ids=lambda edition: edition.door)
async def test_a_session_that_another_process_ends_is_forgotten_without_a_request(
    tmp_path: Path, edition: Edition
) -> None:
    async with inside(tmp_path) as found:
        talk, other = found.conversation(edition), found.conversation(edition)
        first, second = await found.log_in(), await found.log_in()
        assert code(await ask(talk, "authenticate", session_key=first.token)) is None
        assert code(await ask(other, "authenticate", session_key=second.token)) is None
        assert found.holding(edition.door) == 2
        await found.passed(found.end(first.principal.session.id))

        assert (talk._held is None, other._held is None, found.holding(edition.door)) == (True, False, 1)
        assert code(await ask(talk, "authenticate", session_key=first.token)) == 401
        assert code(await ask(talk, "authenticate", session_key=second.token)) is None


async def test_an_ending_between_the_check_of_the_token_and_the_registration_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with inside(tmp_path) as found:
        talk, opened = found.conversation(), await found.log_in()
        session = opened.principal.session.id
        with at_the_look(found, monkeypatch, "principal", after=lambda: found.end(session)):
            assert code(await ask(talk, "authenticate", session_key=opened.token)) == 401
        assert (talk._held, found.holding()) == (None, 0)


async def test_an_ending_between_the_registration_and_the_look_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with inside(tmp_path) as found:
        talk, opened = found.conversation(), await found.log_in()
        session = opened.principal.session.id

        def end() -> None:
            assert found.registry.holds(session, talk)
            found.end(session)

        with at_the_look(found, monkeypatch, "renewed", before=end):
            assert code(await ask(talk, "authenticate", session_key=opened.token)) == 401
        assert (talk._held, found.holding()) == (None, 0)


async def test_an_ending_between_the_look_and_the_answer_is_heard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with inside(tmp_path) as found:
        talk, opened = found.conversation(), await found.log_in()
        session, ended = opened.principal.session.id, []
        with at_the_look(found, monkeypatch, "renewed", after=lambda: ended.append(found.end(session))):
            assert code(await ask(talk, "authenticate", session_key=opened.token)) is None
        await found.passed(ended[0])
        assert (talk._held, found.holding()) == (None, 0)
        assert code(await ask(talk, "logout")) == 403


@pytest.mark.parametrize("followed", [True, False])
async def test_a_login_whose_session_ends_before_it_is_answered_holds_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, followed: bool
) -> None:
    """Whether the registry has followed beyond the ending, so that nobody will call `drop`, or not yet come so far."""
    async with inside(tmp_path) as found:
        talk = found.conversation()
        before = (await ask(talk, "login", username="alice", password=PASSWORD))["data"]["session_key"]
        log_in = found.house.gate.log_in

        async def ends_at_once(*arguments: Any, **options: Any) -> LoggedIn:
            opened = await log_in(*arguments, **options)
            position = found.end(opened.principal.session.id)
            if followed:
                await found.passed(position)
            return opened

        with monkeypatch.context() as patched:
            patched.setattr(found.house.gate, "log_in", ends_at_once)
            answer = await ask(talk, "login", username="alice", password=PASSWORD)
        # It did log in, and it did replace what was held before.
        assert answer["data"]["session_key"] != before
        assert (talk._held, found.holding()) == (None, 0)
        for key in (before, answer["data"]["session_key"]):
            assert code(await ask(talk, "authenticate", session_key=key)) == 401


async def test_what_is_held_already_is_not_registered_again(tmp_path: Path) -> None:
    async with inside(tmp_path) as found:
        talk, opened = found.conversation(), await found.log_in()
        for _ in range(3):
            assert code(await ask(talk, "authenticate", session_key=opened.token)) is None
        assert code(await ask(talk, "update_profile", nickname="Ally")) is None
        assert (found.registry.asked, found.holding()) == (1, 1)


async def test_a_connection_holds_one_session_at_a_time(tmp_path: Path) -> None:
    async with inside(tmp_path) as found:
        talk = found.conversation()
        first, second = await found.log_in(), await found.log_in()
        for opened in (first, second):
            await ask(talk, "authenticate", session_key=opened.token)
            assert found.holding() == 1
        # The first lives on, and its end is nothing to this connection; nor is what was refused.
        assert code(await ask(talk, "authenticate", session_key=first.token[:-1] + "!")) == 401
        await found.passed(found.end(first.principal.session.id))
        assert found.holding() == 1
        assert code(await ask(talk, "login", username="alice", password=PASSWORD)) is None
        assert found.holding() == 1
        assert code(await ask(talk, "logout")) is None
        assert found.holding() == 0


async def test_who_leaves_holds_nothing(tmp_path: Path) -> None:
    async with inside(tmp_path) as found:
        talk = found.conversation()
        await ask(talk, "authenticate", session_key=(await found.log_in()).token)
        talk.leave()
        assert (found.holding(), found.registry._holders) == (0, {})
        talk.leave()
        assert found.holding() == 0
