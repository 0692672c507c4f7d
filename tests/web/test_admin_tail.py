"""The tail of the book: what it shows and what it does not, from where, for how long, and for how many."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import trio

from events.catalogue import AuditRead
from events.sqlite import SQLiteLog
from service.decisions.administration import Deactivate, NoteAuditRead, RevokeSession, SetLevel
from service.errors import Overloaded, Refused, Unavailable
from service.tails import TailLimits
from tests.books import tell
from tests.guards.edge import PATIENCE
from tests.web.following import following
from tests.web.serving import ALICE, Web, web
from tests.web.test_cookies import sealed

LOOKED = "events/follow"
GRACE = 5
"""Seconds that the doors of these tests have for a stop."""


def looks(doors: Web) -> list[str]:
    return [one.event.target for one in doors.events("audit.read") if isinstance(one.event, AuditRead)]


async def note(doors: Web, *targets: str) -> None:
    """Appends an event for each."""
    for target in targets:
        await doors.house.writer.submit(NoteAuditRead(target), actor="operator", door="test")


def flood(doors: Web, number: int, size: int = 10) -> None:
    """Appends so many events at once, each of about so many bytes."""
    events = [("service", AuditRead(f"{'x' * size}{count}")) for count in range(number)]
    for start in range(0, number, 500):
        tell(doors.house.book, doors.house.clock(), *events[start : start + 500])


async def until_at_or_stuck(doors: Web, head: int) -> None:
    """Waits until the one tail stands at the head, or its client keeps it waiting."""
    [tail] = doors.tails._open
    with trio.fail_after(PATIENCE):
        while tail.position < head and trio.current_time() - tail._looked_at < 0.3:
            await trio.testing.wait_all_tasks_blocked(0.001)


async def until_at_rest(doors: Web) -> None:
    """Waits until the one tail waits for something to be appended."""
    [tail] = doors.tails._open
    with trio.fail_after(PATIENCE):
        while trio.current_time() - tail._looked_at < 0.2:
            await trio.testing.wait_all_tasks_blocked(0.001)


async def nobody_left(doors: Web) -> None:
    """Waits until every tail has given its place and its session back."""
    sample = doors.metrics.registry.get_sample_value
    with trio.fail_after(PATIENCE):
        while sample("gatebook_tails_open") or sample("gatebook_sockets_holding_a_session", {"door": "admin"}):
            await trio.testing.wait_all_tasks_blocked(0.001)


async def test_only_an_admin_follows(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        await doors.register()
        alice = await doors.log_in()
        before = len(doors.events())
        for token, status in ((None, 401), ("1|x", 401), (alice, 403)):
            async with following(doors.port, token) as tail:
                assert tail.status == status
        assert len(doors.events()) == before


async def test_what_is_appended_is_shown_as_the_event_is(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        token = await doors.admin()
        async with following(doors.port, token) as tail:
            assert tail.status == 200
            head = tail.head.lower()
            assert "\r\ncontent-type: text/event-stream\r\n" in head
            assert "\r\ncache-control: no-store" in head
            assert "\r\nx-accel-buffering: no" in head
            assert "\r\ntransfer-encoding: chunked" in head
            user_id = await doors.register()
            await doors.log_in()
            registered, opened = await tail.some(2)
            assert (registered.type, opened.type, tail.retry) == ("message", "message", 3_000)
            assert (registered.data["type"], opened.data["type"]) == ("user.registered", "session.opened")
            assert (registered.data["username"], registered.data["password_hash"]) == ("alice", "(redacted)")
            assert (registered.id, opened.data["user_id"]) == (str(user_id), user_id)
            for told in (registered, opened):
                assert told.data == (await doors.get(f"/admin/api/events/{told.id}", token)).json()
        await nobody_left(doors)


async def test_history_comes_first_and_nothing_is_missed_or_told_twice(tmp_path: Path) -> None:
    async with web(tmp_path, page=3) as doors:
        await doors.register()
        token = await doors.admin()
        flood(doors, 20)
        async with following(doors.port, token, "?after=0") as tail, trio.open_nursery() as nursery:

            async def append() -> None:
                for count in range(30):
                    await note(doors, f"something/{count}")

            nursery.start_soon(append)
            told = await tail.some(4 + 20 + 30)
        positions = [int(one.id) for one in told]
        # Between the four of the admin and the twenty, and those after: the tail's own look, which is not shown.
        assert positions == [n for n in range(1, 56) if n != 25]
        assert [one.data["position"] for one in told] == positions


@pytest.mark.parametrize(("query", "header", "first"), [("?after=2", None, 3), ("", "3", 4), ("?after=0", "3", 4)])
async def test_it_begins_beyond_the_position_that_is_named(
    tmp_path: Path, query: str, header: str | None, first: int
) -> None:
    async with web(tmp_path) as doors:
        token = await doors.admin()
        await note(doors, "a", "b")
        headers = {} if header is None else {"Last_Event_ID": header}
        async with following(doors.port, token, query, **headers) as tail:
            [told] = await tail.some(1)
            assert told.id == str(first)


NO_POSITIONS = ["", "-1", "+1", "01", "1.0", "x", "99999999999999999999", "%EF%BC%91"]


@pytest.mark.parametrize("text", NO_POSITIONS)
async def test_what_is_no_position_is_said_to_be_none(tmp_path: Path, text: str) -> None:
    async with web(tmp_path) as doors:
        token = await doors.admin()
        async with following(doors.port, token, f"?after={text}") as tail:
            assert tail.status == 400
        async with following(doors.port, token, "?after=1", Last_Event_ID=text) as tail:
            assert tail.status == 400
        async with following(doors.port, token, f"?after={text}", Last_Event_ID="1") as tail:
            assert tail.status == 400
        assert looks(doors) == []


async def test_a_page_of_ours_follows_by_its_cookie(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        cookie = sealed(doors, await doors.admin(), 1)
        async with following(doors.port, None, "?after=0", Cookie=f"{doors.cookies.name}={cookie}") as tail:
            assert (await tail.some(1))[0].data["username"] == "warden"


async def test_it_lasts_longer_than_any_answer_may_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.tails.HEARTBEAT_SECONDS", 0.05)
    async with web(tmp_path) as doors:
        doors.app.config["RESPONSE_TIMEOUT"] = 0.02
        token = await doors.admin()
        async with following(doors.port, token) as tail:
            for _ in range(3):
                await tail.until_comment()
            await note(doors, "still there")
            assert (await tail.some(1))[0].data["target"] == "still there"


async def test_a_page_is_written_in_pieces_that_a_slow_client_can_take(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        token = await doors.admin()
        flood(doors, 100, size=8_000)
        async with following(doors.port, token, "?after=3") as tail:
            assert [int(one.id) for one in await tail.some(100)] == list(range(4, 104))
            assert 60_000 < tail.largest < 80_000


async def test_it_ends_when_it_is_told_that_the_session_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.tails.PARTING_SECONDS", 600)
    async with web(tmp_path) as doors:
        token = await doors.admin()
        async with following(doors.port, token, "?after=0") as tail:
            await tail.some(3)
            await until_at_rest(doors)
            [held] = doors.tails._open
            assert held.drop(int(token.partition("|")[0])) is False
            assert await tail.rest() == []
            assert tail.ended


async def test_what_else_is_no_question(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        token = await doors.admin()
        for query in ("?before=1", "?after=1&after=1", "?stream=service"):
            async with following(doors.port, token, query) as tail:
                assert tail.status == 400
        async with following(doors.port, token, Last_Event_ID="1\r\nLast-Event-ID: 2") as tail:
            assert tail.status == 400
        for query, header in (("?after=999", {}), ("", {"Last_Event_ID": "9223372036854775807"})):
            async with following(doors.port, token, query, **header) as tail:
                assert tail.status == 404
        async with following(doors.port, token, method="POST") as tail:
            assert (
                tail.status,
                "allow: GET, HEAD, OPTIONS" in tail.head.lower().replace("get, head, options", "GET, HEAD, OPTIONS"),
            ) == (405, True)
        assert doors.metrics.registry.get_sample_value("gatebook_tails_open") == 0


async def test_a_head_request_has_the_headers_alone(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        token = await doors.admin()
        answer = await doors.ask("HEAD", "/admin/api/events/follow", token=token)
        assert (answer.status_code, answer.headers["Content-Type"], answer.content) == (200, "text/event-stream", b"")
        # The connection is as good as before.
        assert (await doors.get("/api/session", token)).status_code == 200
        await nobody_left(doors)
        assert looks(doors) == [LOOKED]


async def test_the_look_is_written_down_once_and_no_tail_shows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.tails.HEARTBEAT_SECONDS", 0.05)
    async with web(tmp_path) as doors:
        token = await doors.admin()
        other = await doors.register()
        await doors.house.writer.submit(SetLevel(other, 2), actor="operator", door="test")
        alice = await doors.log_in()
        async with following(doors.port, token, "?after=6") as one, following(doors.port, alice, "?after=6") as two:
            assert looks(doors) == [LOOKED, LOOKED]
            before = len(doors.events())
            # Both stand beyond both looks, which the ids of their heartbeats say; and nothing comes of that.
            for tail in (one, two):
                while tail.last_id != str(before):
                    await tail.until_comment()
            for _ in range(3):
                await one.until_comment()
                await two.until_comment()
            assert len(doors.events()) == before
            await doors.get("/admin/api/events?type=audit.read", token)
            for tail in (one, two):
                [told] = await tail.some(1)
                assert told.data["target"] == "events?type=audit.read"
        async with following(doors.port, token):
            assert looks(doors).count(LOOKED) == 2


async def test_nothing_is_shown_that_could_not_be_written_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with web(tmp_path) as doors:
        token = await doors.admin()

        async def full(*_: Any, **__: Any) -> None:
            raise Unavailable("no room")

        monkeypatch.setattr(doors.house.writer, "submit", full)
        async with following(doors.port, token, "?after=0") as tail:
            assert tail.status == 503
            assert "retry-after: 5" in tail.head.lower()


async def test_it_is_taken_up_where_it_was_left(tmp_path: Path) -> None:
    async with web(tmp_path, page=2) as doors:
        token = await doors.admin()
        await note(doors, "a", "b", "c")
        seen: list[int] = []
        last = "0"
        for _ in range(3):
            async with following(doors.port, token, Last_Event_ID=last) as tail:
                seen += [int(one.id) for one in await tail.some(2)]
                last = tail.last_id
            await note(doors, "more")
        assert seen == [1, 2, 3, 4, 5, 6]


async def by_log_out(doors: Web, token: str) -> None:
    assert (await doors.ask("DELETE", "/api/session", token=token)).status_code == 204


async def by_revocation(doors: Web, token: str) -> None:
    await doors.house.writer.submit(RevokeSession(int(token.partition("|")[0])), actor="operator", door="test")


async def by_deactivation(doors: Web, token: str) -> None:
    await doors.house.writer.submit(Deactivate(1), actor="operator", door="test")


async def by_level(doors: Web, token: str) -> None:
    await doors.house.writer.submit(SetLevel(1, 1), actor="operator", door="test")


async def by_time(doors: Web, token: str) -> None:
    doors.house.clock.pass_by(days=2)
    await note(doors, "too late to be seen")


@pytest.mark.parametrize("ending", [by_log_out, by_revocation, by_deactivation, by_level, by_time])
async def test_it_ends_when_the_right_to_look_ends(
    tmp_path: Path, ending: Callable[[Web, str], Awaitable[None]]
) -> None:
    async with web(tmp_path) as doors:
        token = await doors.admin()
        other = await doors.register()
        await doors.house.writer.submit(SetLevel(other, 2), actor="operator", door="test")
        async with following(doors.port, token) as tail:
            await note(doors, "the last to be seen")
            assert (await tail.some(1))[0].data["target"] == "the last to be seen"
            sample = doors.metrics.registry.get_sample_value
            assert sample("gatebook_sockets_holding_a_session", {"door": "admin"}) == 1
            await ending(doors, token)
            await note(doors, "never seen")
            assert await tail.rest() == []
            assert (tail.ended, tail.cut) == (True, False)
        await nobody_left(doors)


async def test_an_idle_one_notices_by_its_heartbeat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.tails.HEARTBEAT_SECONDS", 0.05)
    async with web(tmp_path) as doors:
        token = await doors.admin()
        async with following(doors.port, token) as tail:
            await tail.until_comment()
            doors.house.clock.pass_by(days=2)
            assert await tail.rest() == []
            assert tail.ended


async def test_a_session_that_ends_while_a_page_is_read_shows_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with web(tmp_path) as doors:
        token = await doors.admin()
        look = doors.readers.look

        async def look_and_end(ask: Callable[[Any], Any]) -> Any:
            found = await look(ask)
            if hasattr(found, "shown"):
                await by_revocation(doors, token)
            return found

        monkeypatch.setattr(doors.readers, "look", look_and_end)
        async with following(doors.port, token, "?after=0") as tail:
            assert await tail.rest() == []
            assert tail.ended


@pytest.mark.parametrize("refusal", [Overloaded("looks"), Unavailable("the store is gone")])
async def test_it_ends_when_the_store_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: Refused
) -> None:
    async with web(tmp_path) as doors:
        token = await doors.admin()
        async with following(doors.port, token, "?after=0") as tail:
            await tail.some(3)

            async def refuse(ask: Callable[[Any], Any]) -> Any:
                raise refusal

            monkeypatch.setattr(doors.readers, "look", refuse)
            await note(doors, "not read")
            assert await tail.rest() == []
            assert tail.ended
            monkeypatch.undo()
        async with following(doors.port, token, Last_Event_ID=tail.last_id) as tail:
            assert (await tail.some(1))[0].data["target"] == "not read"


async def test_there_are_only_so_many(tmp_path: Path) -> None:
    async with web(tmp_path, tail_limits=TailLimits(tails=2)) as doors:
        token = await doors.admin()
        async with following(doors.port, token) as one, following(doors.port, token) as two:
            assert (one.status, two.status) == (200, 200)
            await note(doors, "a")
            await one.some(1)
            await two.some(1)
            for _ in range(2):
                async with following(doors.port, token) as three:
                    assert three.status == 503
                    assert "retry-after: 10" in three.head.lower()
            sample = doors.metrics.registry.get_sample_value
            assert (sample("gatebook_tails_open"), sample("gatebook_tails_refused_total")) == (2, 2)
        await nobody_left(doors)
        async with following(doors.port, token) as again:
            assert again.status == 200


async def test_those_who_come_at_once_are_not_more_than_there_may_be(tmp_path: Path) -> None:
    async with web(tmp_path, tail_limits=TailLimits(tails=3)) as doors:
        token = await doors.admin()
        statuses: list[int] = []
        done = trio.Event()

        async def come() -> None:
            async with following(doors.port, token) as tail:
                statuses.append(tail.status)
                if len(statuses) == 12:
                    done.set()
                await done.wait()

        async with trio.open_nursery() as nursery:
            for _ in range(12):
                nursery.start_soon(come)
        assert sorted(statuses) == [200] * 3 + [503] * 9
        await nobody_left(doors)


async def test_clients_that_leave_at_any_moment_leave_nothing_behind(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        token = await doors.admin()
        flood(doors, 300, size=5_000)
        lines = ["GET /admin/api/events/follow?after=0 HTTP/1.1", "Host: x", f"Authorization: Bearer {token}", "", ""]
        asking = "\r\n".join(lines).encode()
        for turns in range(40):
            stream = await trio.open_tcp_stream("127.0.0.1", doors.port)
            await stream.send_all(asking)
            for _ in range(turns):
                await trio.lowlevel.checkpoint()
            await trio.aclose_forcefully(stream)
        await nobody_left(doors)
        assert not doors.tails.full


async def test_one_that_does_not_read_passes_by_what_it_missed_and_says_so(tmp_path: Path) -> None:
    async with web(tmp_path, tail_limits=TailLimits(page=100, backlog=1_000)) as doors:
        token = await doors.admin()
        async with following(doors.port, token, "?after=0") as tail:
            assert [int(one.id) for one in await tail.some(3)] == [1, 2, 3]
            # Far more than the buffers of a connection hold, but never too much at a time.
            for _ in range(12):
                flood(doors, 400, size=8_000)
                head = doors.house.book.log.head().position
                await until_at_or_stuck(doors, head)
            seen: list[tuple[int, int]] = [(4, 4)]  # the tail's own look
            with trio.fail_after(PATIENCE):
                while seen[-1][1] < head:
                    told = await tail.next()
                    assert told is not None
                    if told.type == "skipped":
                        assert told.data.keys() == {"from", "to"}
                        assert told.id == str(told.data["to"])
                        seen.append((told.data["from"], told.data["to"]))
                    else:
                        seen.append((int(told.id), int(told.id)))
            assert all(after[0] == before[1] + 1 for before, after in pairwise(seen))
            skipped = [one for one in seen if one[1] > one[0]]
            assert skipped
            assert all(last - first + 1 > 900 for first, last in skipped)
            # It was told a good deal before it fell behind, and the newest after.
            assert skipped[0][0] > 100
            assert head - skipped[-1][1] == 100
            total = doors.metrics.registry.get_sample_value("gatebook_tail_skipped_entries_total")
            assert total == sum(last - first + 1 for first, last in skipped)
            await note(doors, "near the head")
            assert (await tail.some(1))[0].data["target"] == "near the head"


async def test_history_is_told_whole_however_long_it_is(tmp_path: Path) -> None:
    async with web(tmp_path, tail_limits=TailLimits(page=7, backlog=10)) as doors:
        token = await doors.admin()
        flood(doors, 500)
        async with following(doors.port, token, "?after=0") as tail:
            told = await tail.some(503)
            assert {one.type for one in told} == {"message"}
            assert [int(one.id) for one in told] == list(range(1, 504))


async def test_an_entry_that_cannot_be_read_is_said_to_be_one_and_passed(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        await doors.register()
        token = await doors.admin()
        log = doors.house.book.log
        assert isinstance(log, SQLiteLog)
        log.connection.execute("DROP TRIGGER log_is_never_updated")
        log.connection.execute("UPDATE log SET entry = ? WHERE position = 2", (b'{"position":2,"event":{"type":"x"}}',))
        async with following(doors.port, token, "?after=0") as tail:
            one, two, three = await tail.some(3)
        assert [told.type for told in (one, two, three)] == ["message", "undecodable", "message"]
        assert (two.id, two.data["position"], two.data["undecodable"]) == ("2", 2, True)
        assert two.data == (await doors.get("/admin/api/events/2", token)).json()


async def test_a_seal_that_cannot_be_opened_is_shown_as_one(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        await doors.register()
        token = await doors.admin()
        keys = doors.house.book.keys
        wrapped = keys.subject_keys([1])[1]
        keys.put_subject_keys({1: wrapped[:-1] + bytes([wrapped[-1] ^ 1])})
        async with following(doors.port, token, "?after=0") as tail:
            told = await tail.some(4)
        assert told[0].data["username"]["sealed"] is True
        assert told[1].data["username"] == "warden"


async def test_no_secret_is_shown(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        token = await doors.admin()
        async with following(doors.port, token, "?after=0") as tail:
            await doors.register()
            alice = await doors.log_in()
            said = json.dumps(await tail.some(5))
        for secret in ("$argon2", ALICE["password"], '"box"', alice.partition("|")[2], token.partition("|")[2]):
            assert secret not in said


async def test_a_stop_ends_it_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.tails.PARTING_SECONDS", 600)
    async with web(tmp_path) as doors:
        token = await doors.admin()
        async with following(doors.port, token) as tail:
            await note(doors, "a")
            await tail.some(1)
            await until_at_rest(doors)
            before = trio.current_time()
            doors.stopping.set()
            assert await tail.rest() == []
            assert (tail.ended, tail.cut) == (True, False)
            assert trio.current_time() - before < GRACE / 2


async def test_a_stop_waits_but_a_moment_for_one_that_does_not_read(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        token = await doors.admin()
        flood(doors, 3_000, size=8_000)
        async with following(doors.port, token, "?after=0") as tail:
            await tail.some(1)
            await until_at_or_stuck(doors, doors.house.book.log.head().position)
            before = trio.current_time()
            doors.stopping.set()
            await nobody_left(doors)
            assert trio.current_time() - before < GRACE / 2
            await tail.rest()
            assert (tail.ended, tail.cut) == (False, True)


async def test_one_that_comes_during_the_stop_ends_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with web(tmp_path) as doors:
        token = await doors.admin()
        head = doors.tails.head

        async def stop_first() -> int:
            doors.stopping.set()
            await trio.testing.wait_all_tasks_blocked()
            return await head()

        monkeypatch.setattr(doors.tails, "head", stop_first)
        async with following(doors.port, token, "?after=0") as tail:
            assert (tail.status, await tail.rest()) == (200, [])
        await nobody_left(doors)
