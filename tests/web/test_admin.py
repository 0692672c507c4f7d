"""The admin endpoint: who may look, what is shown, what never is, and that each look stands in the book."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from msgspec import Struct

from events.catalogue import BY_WIRE_NAME, AuditRead, LoginFailed
from events.sqlite import SQLiteLog
from projections.sessions import Session
from projections.users import User
from service.errors import Unavailable
from service.past import FOLDED_BY_A_READER
from service.shown import REDACTED, SECRET_FIELDS
from tests.web.serving import ALICE, LOGIN, Web, web

API = "/admin/api"


NO_ANSWER = [
    ("/projections?limit=1", 400),
    ("/projections/nothing", 404),
    ("/projections/users?index=email&value=1", 400),
    ("/projections/users?index=level", 400),
    ("/projections/users?value=1", 400),
    ("/projections/users?index=level&value=two", 400),
    ("/projections/activity?index=hour&value=1", 400),
    ("/projections/users?limit=0", 400),
    ("/projections/users?limit=1001", 400),
    ("/projections/users?limit=1&limit=2", 400),
    ("/projections/users?limit=-1", 400),
    ("/projections/users?limit=%EF%BC%91", 400),
    ("/projections/users?after=x", 400),
    ("/projections/users?after=99999999999999999999", 400),
    ("/projections/users?index=level&value=99999999999999999999", 400),
    ("/projections/users?sort=name", 400),
    ("/projections/users/99", 404),
    ("/projections/users/x", 404),
    ("/projections/users/0", 404),
    ("/projections/users/01", 404),
    ("/projections/users/99999999999999999999", 404),
    ("/projections/users/1?at=x", 400),
    ("/projections/users/1?at=999", 404),
    ("/projections/users/1?at=99999999999999999999", 400),
    ("/projections/users/1?at=%D9%A1", 400),
    ("/projections/users/1?at=0001-01-01T00:00:00%2B14:00", 400),
    ("/projections/users/1?at=2026-13-01", 400),
    ("/projections/users/1?at=0", 404),
    ("/projections/activity/2026-11-21T12?at=0", 404),
    ("/projections/activity/2026-99-21T12?at=1", 404),
    ("/projections/activity/9999-12-31T23?at=1", 404),
    ("/projections/names/%00", 404),
    ("/projections/names?after=alice", 400),
    ("/projections/throttles/" + "a" * 101, 404),
    ("/events?stream=user-x", 400),
    ("/events?stream=", 400),
    ("/events?type=user.unknown", 400),
    ("/events?user=0", 400),
    ("/events?order=up", 400),
    ("/events?since=yesterday", 400),
    ("/events?after=99999999999999999999", 400),
    ("/events?before=0", 400),
    ("/events?limit=1001", 400),
    ("/events?colour=red", 400),
    ("/events/0", 404),
    ("/events/x", 404),
    ("/events/999", 404),
    ("/events/99999999999999999999", 404),
    ("/events?after=9999999999999999999", 400),
    ("/events/9999999999999999999", 404),
]


async def shown(doors: Web, path: str, token: str, status: int = 200) -> Any:
    answer = await doors.get(f"{API}{path}", token)
    assert answer.status_code == status, f"{path}: {answer.text}"
    return answer.json()


def looks(doors: Web) -> list[str]:
    return [recorded.event.target for recorded in doors.events("audit.read") if isinstance(recorded.event, AuditRead)]


async def test_only_an_admin_looks(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        await doors.register()
        token = await doors.log_in()
        for path in ("/projections", "/projections/users", "/projections/users/1", "/events", "/events/1"):
            assert (await doors.get(f"{API}{path}")).status_code == 401
            answer = await doors.get(f"{API}{path}", token)
            assert (answer.status_code, answer.json()["error"]["code"]) == (403, "forbidden")
        assert looks(doors) == []


@pytest.mark.parametrize("typed", ["alice", "alice@example.org", "Zk3vQ9sT1bYhW6mXoJr4nLcE8uGaPdF2iRyB5tNq", "123456a"])
async def test_what_is_typed_in_place_of_a_key_is_not_written_down(tmp_path: Path, typed: str) -> None:
    async with web(tmp_path) as doors:
        token = await doors.admin()
        for projection in ("users", "names", "sessions", "throttles", "activity"):
            for query in ("", "?at=1"):
                await shown(doors, f"/projections/{projection}/{typed}{query}", token, 404)
        assert looks(doors) == []


async def test_the_projections_say_where_they_stand(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        token = await doors.admin()
        answer = await shown(doors, "/projections", token)
        head = doors.house.book.log.head().position
        assert answer["head"] == head
        states = doors.house.book.read_models.states()
        assert {one["name"]: (one["revision"], one["documents"], one["digest"]) for one in answer["projections"]} == {
            name: (state.revision, state.documents, state.digest) for name, state in states.items()
        }
        assert {(one["position"], one["lag"]) for one in answer["projections"]} == {(head, 0)}
        assert [one["indexes"] for one in answer["projections"] if one["name"] == "users"] == [
            ["level", "active_admin"]
        ]


async def test_documents_come_page_by_page(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        ids = [
            await doors.register(username=f"user{n}", nickname=f"User {n}", email=f"u{n}@example.org")
            for n in range(12)
        ]
        token = await doors.admin()
        first = await shown(doors, "/projections/users?limit=5", token)
        assert [one["key"] for one in first["documents"]] == [str(user_id) for user_id in ids[:5]]
        assert first["documents"][0]["document"]["username"] == "user0"
        found, after = list(first["documents"]), first["next"]
        while after is not None:
            page = await shown(doors, f"/projections/users?limit=5&after={after}", token)
            found += page["documents"]
            after = page["next"]
        # By number, not by letter: 9 stands before 10.
        assert [one["key"] for one in found] == [*map(str, ids), "13"]
        exact = await shown(doors, "/projections/users?limit=13", token)
        assert (len(exact["documents"]), exact["next"]) == (13, None)


async def test_documents_are_found_by_any_index_that_is_declared(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        await doors.register()
        tokens = [await doors.log_in() for _ in range(3)]
        token = await doors.admin()
        mine = await shown(doors, "/projections/sessions?index=user&value=1&limit=2", token)
        assert [one["key"] for one in mine["documents"]] == ["2", "3"]
        rest = await shown(doors, f"/projections/sessions?index=user&value=1&limit=2&after={mine['next']}", token)
        assert ([one["key"] for one in rest["documents"]], rest["next"]) == (["4"], None)
        admins = await shown(doors, "/projections/users?index=level&value=2", token)
        assert [one["document"]["username"] for one in admins["documents"]] == ["warden"]
        assert (await shown(doors, "/projections/sessions?index=user&value=99", token))["documents"] == []
        assert len(tokens) == 3


async def test_what_is_not_there_or_no_question_is_said_so(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        await doors.register()
        token = await doors.admin()
        for path, status in NO_ANSWER:
            answer = await shown(doors, path, token, status)
            assert answer["error"]["code"] == ("malformed" if status == 400 else "not_found")


async def test_the_largest_numbers_are_only_large(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        token = await doors.admin()
        most = 2**63 - 1
        assert (await shown(doors, f"/events?after={most}", token))["events"] == []
        assert (await shown(doors, f"/events?before={most}&user={most}", token))["events"] == []
        assert (await shown(doors, f"/projections/users?index=level&value={most}", token))["documents"] == []
        assert (await shown(doors, "/events?since=9999-12-31T23:59:59Z", token))["events"] == []
        assert len((await shown(doors, "/events?since=0001-01-01", token))["events"]) > 2


async def test_events_are_found_by_whom_what_where_and_when(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        await doors.register()
        doors.house.clock.pass_by(hours=1)
        alice = await doors.log_in()
        doors.house.clock.pass_by(minutes=30)
        await doors.ask("PATCH", "/api/profile", {"nickname": "Alice"}, token=alice)
        token = await doors.admin()

        async def positions(query: str) -> list[int]:
            return [one["position"] for one in (await shown(doors, f"/events?{query}", token))["events"]]

        assert await positions("user=1") == [1, 2, 3]
        assert await positions("stream=session-2") == [2]
        assert await positions("stream=user-1") == [1, 3]
        assert await positions("type=user.registered") == [1, 4]
        assert await positions("user=1&since=2026-11-21T13:00:00Z") == [2, 3]
        assert await positions("user=1&since=2026-11-21T13:00:00Z&until=2026-11-21T13:30:00Z") == [2]
        assert await positions("user=1&since=2026-11-21T14:30:00%2B01:30") == [2, 3]
        assert await positions("user=1&after=1") == [2, 3]
        assert await positions("user=1&before=3") == [1, 2]
        assert await positions("user=1&order=desc") == [3, 2, 1]
        assert await positions("user=1&order=asc&limit=2") == [1, 2]


@pytest.mark.parametrize(("order", "cursor"), [("asc", "after"), ("desc", "before")])
async def test_events_come_page_by_page_in_either_direction(tmp_path: Path, order: str, cursor: str) -> None:
    async with web(tmp_path) as doors:
        await doors.register()
        for _ in range(5):
            await doors.log_in()
        token = await doors.admin()
        query, found, sizes = "", [], []
        while True:
            page = await shown(doors, f"/events?user=1&order={order}&limit=2{query}", token)
            found += [one["position"] for one in page["events"]]
            sizes.append(len(page["events"]))
            if page["next"] is None:
                break
            query = f"&{cursor}={page['next']}"
        assert found == sorted([1, 2, 3, 4, 5, 6], reverse=order == "desc")
        assert sizes == [2, 2, 2]


async def test_an_event_is_shown_with_its_own_fields_opened(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        await doors.register()
        token = await doors.admin()
        event = await shown(doors, "/events/1", token)
        recorded = doors.events()[0]
        assert event == {
            "position": 1,
            "stream": "user-1",
            "version": 1,
            "at": "2026-11-21T12:00:00Z",
            "actor": "anonymous",
            "door": "account-api",
            "command_id": recorded.command_id,
            "type": "user.registered",
            "username": "alice",
            "username_prepared": "alice",
            "nickname": "Al",
            "nickname_prepared": "al",
            "password_hash": REDACTED,
            "level": 1,
            "email": "alice@example.org",
            "email_prepared": "alice@example.org",
            "address": "127.0.0.1",
            "agent": "test client",
            "throttles": [],
        }


async def test_no_secret_leaves_in_any_form(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        await doors.register()
        alice = await doors.log_in()
        change = {"new_password": "battery staple", "old_password": "correct horse"}
        assert (await doors.ask("PATCH", "/api/profile", change, token=alice)).status_code == 200
        await doors.ask("POST", "/api/session", LOGIN)
        token = await doors.admin()
        book = doors.house.book
        secrets = {
            "$argon2",
            "battery staple",
            "correct horse",
            '"box"',
            alice.partition("|")[2],
            token.partition("|")[2],
        }
        for recorded in doors.events():
            for name in SECRET_FIELDS & set(recorded.event.__struct_fields__):
                value = getattr(recorded.event, name)
                secrets.add(value if isinstance(value, str) else value.box)
        assert len(secrets) == 6 + 5
        paths = [
            "/projections",
            "/events?limit=1000",
            *(f"/events/{n}" for n in range(1, book.log.head().position + 1)),
        ]
        for projection in book.projections:
            paths += [f"/projections/{projection.name}"]
            for row in book.read_models.scan(projection):
                paths += [f"/projections/{projection.name}/{row.key}"]
                if projection.name in FOLDED_BY_A_READER:
                    paths += [f"/projections/{projection.name}/{row.key}?at=5"]
        said = "".join([(await doors.get(f"{API}{path}", token)).text for path in paths])
        assert [secret for secret in secrets if secret in said] == []
        assert said.count(REDACTED) > 8


def test_every_field_that_sounds_secret_is_or_is_known_not_to_be() -> None:
    harmless = {"key", "keys"}  # of throttles: tags of what they stand for
    kinds: list[type[Struct]] = [*BY_WIRE_NAME.values(), User, Session]
    names = {name for kind in kinds for name in kind.__struct_fields__}
    sounding = {name for name in names for word in ("hash", "digest", "secret", "token", "key") if word in name}
    harmless |= {"password_version", "event"}
    assert {name for name in sounding if not name.endswith("version")} - harmless == SECRET_FIELDS


async def test_a_document_is_shown_as_it_was(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        await doors.register()
        doors.house.clock.pass_by(hours=1)
        alice = await doors.log_in()
        doors.house.clock.pass_by(minutes=30)
        await doors.ask("PATCH", "/api/profile", {"nickname": "Alice"}, token=alice)
        await doors.ask("DELETE", "/api/session", token=alice)
        token = await doors.admin()

        async def nickname(query: str) -> tuple[int | None, str]:
            answer = await shown(doors, f"/projections/users/1{query}", token)
            return answer.get("position"), answer["document"]["nickname"]

        assert await nickname("") == (None, "Alice")
        assert await nickname("?at=3") == (3, "Alice")
        assert await nickname("?at=2") == (2, "Al")
        assert await nickname("?at=2026-11-21T13:29:59Z") == (2, "Al")
        assert await nickname("?at=2026-11-21T12:00:00Z") == (1, "Al")
        await shown(doors, "/projections/users/1?at=2026-11-21T11:59:59Z", token, 404)
        await shown(doors, "/projections/sessions/2", token, 404)
        session = (await shown(doors, "/projections/sessions/2?at=2", token))["document"]
        assert (session["user_id"], session["token_digest"], session["agent"]) == (1, REDACTED, "test client")
        assert (await shown(doors, "/projections/users/1?at=2", token))["document"]["password_hash"] == REDACTED
        hour = await shown(doors, "/projections/activity/2026-11-21T12?at=1", token)
        assert hour["document"] == {
            "hour": "2026-11-21T12",
            "registrations": 1,
            "logins": 0,
            "failures": 0,
            "throttled": 0,
            "endings": 0,
            "guests": 0,
        }


async def test_a_name_and_a_throttle_are_shown_as_they_were(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        await doors.register()
        await doors.ask("POST", "/api/session", LOGIN | {"password": "wrong horse"})
        await doors.ask("POST", "/api/session", LOGIN | {"password": "wrong horse"})
        alice = await doors.log_in()
        tag = doors.house.book.tag("nickname", "al")
        failed = doors.events("login.failed")[0].event
        assert isinstance(failed, LoginFailed)
        throttle = next(step.key for step in failed.throttles if step.key.startswith("account:"))
        await doors.ask("PATCH", "/api/profile", {"nickname": "Alice"}, token=alice)
        token = await doors.admin()
        await shown(doors, f"/projections/names/{tag}", token, 404)
        was = await shown(doors, f"/projections/names/{tag}?at=4", token)
        assert was == {"projection": "names", "key": tag, "position": 4, "document": {"kind": "nickname", "user_id": 1}}
        await shown(doors, f"/projections/throttles/{throttle}", token, 404)
        assert (await shown(doors, f"/projections/throttles/{throttle}?at=2", token))["document"]["failures"] == 1
        assert (await shown(doors, f"/projections/throttles/{throttle}?at=3", token))["document"]["failures"] == 2
        await shown(doors, f"/projections/throttles/{throttle}?at=4", token, 404)


async def test_a_replay_that_takes_too_long_is_given_up(tmp_path: Path) -> None:
    async with web(tmp_path, past_seconds=0.001) as doors:
        token = await doors.admin()
        tag = doors.house.book.tag("nickname", "warden")
        answer = await doors.get(f"{API}/projections/names/{tag}?at=1", token)
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")


async def test_a_look_is_one_event_for_five_minutes(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        await doors.register()
        token = await doors.admin()
        for path in (
            "/projections",
            "/projections/users",
            "/projections/users?limit=1&after=1",
            "/projections/users?index=level&value=2",
            "/projections/users/1",
            "/projections/users/1?at=1",
            "/events",
            "/events?after=1&limit=5&order=desc&since=2026-11-21",
            "/events?user=1&type=session.opened",
            "/events/1",
        ):
            await shown(doors, path, token)
            await shown(doors, path, token)
        targets = [
            "projections",
            "projections/users",
            "projections/users?index=level&value=2",
            "projections/users/1",
            "events",
            "events?user=1&type=session.opened",
            "events/1",
        ]
        assert looks(doors) == targets
        assert {(one.actor, one.door, one.stream) for one in doors.events("audit.read")} == {
            ("user-2", "admin", "service")
        }
        doors.house.clock.pass_by(minutes=4, seconds=59)
        await shown(doors, "/projections", token)
        assert looks(doors) == targets
        doors.house.clock.pass_by(seconds=1)
        await shown(doors, "/projections", token)
        assert looks(doors) == [*targets, "projections"]


async def test_looks_of_two_admins_are_two_and_of_one_at_once_are_one(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        token = await doors.admin()
        principal = doors.house.gate.lookups.principal(token)
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(doors.audit.looked, principal, "events")
        assert looks(doors) == ["events"]
        other = Session(
            9, 9, "", principal.session.opened_at, principal.session.seen_at, principal.session.expires_at, ""
        )
        user = type(principal.user)(
            **{name: getattr(principal.user, name) for name in principal.user.__struct_fields__} | {"id": 9}
        )
        await doors.audit.looked(type(principal)(user, other), "events")
        assert looks(doors) == ["events", "events"]


async def test_nothing_is_shown_that_could_not_be_written_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with web(tmp_path) as doors:
        token = await doors.admin()

        async def full(*_: Any, **__: Any) -> None:
            raise Unavailable("no room")

        monkeypatch.setattr(doors.house.writer, "submit", full)
        for path in ("/projections", "/projections/users", "/projections/users/1", "/events", "/events/1"):
            answer = await doors.get(f"{API}{path}", token)
            assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5"), path
            assert "warden" not in answer.text
        monkeypatch.undo()
        await shown(doors, "/events", token)
        assert looks(doors) == ["events"]


async def test_a_look_that_could_not_be_written_counts_for_nobody_who_waited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with web(tmp_path) as doors:
        principal = doors.house.gate.lookups.principal(await doors.admin())
        submit = doors.house.writer.submit

        async def fail_once(*_: Any, **__: Any) -> None:
            monkeypatch.setattr(doors.house.writer, "submit", submit)
            await trio.testing.wait_all_tasks_blocked()
            raise Unavailable("no room")

        monkeypatch.setattr(doors.house.writer, "submit", fail_once)
        outcomes: list[str] = []

        async def look() -> None:
            try:
                await doors.audit.looked(principal, "events")
                outcomes.append("shown")
            except Unavailable:
                outcomes.append("refused")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(look)
            nursery.start_soon(look)
        assert sorted(outcomes) == ["refused", "shown"]
        assert looks(doors) == ["events"]


async def test_what_is_remembered_of_looks_is_bounded(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        token = await doors.admin()
        principal = doors.house.gate.lookups.principal(token)
        doors.audit._most_remembered = 3
        for number in range(6):
            await doors.audit.looked(principal, f"events/{number}")
        assert doors.audit.remembered == 3
        before = len(looks(doors))
        await doors.audit.looked(principal, "events/5")
        assert len(looks(doors)) == before
        await doors.audit.looked(principal, "events/0")
        assert len(looks(doors)) == before + 1


async def test_the_look_that_is_forgotten_first_is_the_oldest(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        principal = doors.house.gate.lookups.principal(await doors.admin())
        doors.audit._most_remembered = 3
        for target in ("events/1", "events/2"):
            await doors.audit.looked(principal, target)
        doors.house.clock.pass_by(minutes=5)
        for target in ("events/1", "events/3", "events/4", "events/1"):
            await doors.audit.looked(principal, target)
        assert looks(doors) == ["events/1", "events/2", "events/1", "events/3", "events/4"]


async def test_a_clock_set_back_does_not_silence_the_audit(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        token = await doors.admin()
        principal = doors.house.gate.lookups.principal(token)
        doors.audit._noted["user-1", "events"] = doors.house.clock() + timedelta(days=1)
        await doors.audit.looked(principal, "events")
        assert looks(doors) == ["events"]


async def test_a_seal_that_cannot_be_opened_is_shown_as_one(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        await doors.register()
        token = await doors.admin()
        keys = doors.house.book.keys
        wrapped = keys.subject_keys([1])[1]
        keys.put_subject_keys({1: wrapped[:-1] + bytes([wrapped[-1] ^ 1])})
        for path in ("/events/1", "/projections/users/1", "/projections/users/1?at=1"):
            answer = await shown(doors, path, token)
            username = answer.get("document", answer)["username"]
            assert username["sealed"] is True
            assert "subject 1" in username["reason"]
            assert answer.get("document", answer)["password_hash"] == REDACTED
        page = await shown(doors, "/events?type=user.registered", token)
        assert [one["username"] if isinstance(one["username"], str) else "sealed" for one in page["events"]] == [
            "sealed",
            "warden",
        ]
        users = await shown(doors, "/projections/users", token)
        assert [isinstance(one["document"]["username"], str) for one in users["documents"]] == [False, True]


async def test_an_entry_that_cannot_be_read_is_shown_as_one_among_the_others(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        await doors.register()
        token = await doors.admin()
        log = doors.house.book.log
        assert isinstance(log, SQLiteLog)
        connection = log.connection
        connection.execute("DROP TRIGGER log_is_never_updated")
        connection.execute("UPDATE log SET entry = ? WHERE position = 1", (b'{"position":1,"event":{"type":"x"}}',))
        page = await shown(doors, "/events", token)
        assert page["events"][0] == {
            "position": 1,
            "stream": "user-1",
            "version": 1,
            "at": "2026-11-21T12:00:00Z",
            "type": "user.registered",
            "command_id": page["events"][0]["command_id"],
            "undecodable": True,
        }
        assert page["events"][1]["username"] == "warden"
        assert (await shown(doors, "/events/1", token))["undecodable"] is True


async def test_a_page_of_a_thousand_is_answered(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        token = await doors.admin()
        principal = doors.house.gate.lookups.principal(token)
        async with trio.open_nursery() as nursery:
            for number in range(1_100):
                nursery.start_soon(doors.audit.looked, principal, f"events/{number + 1}")
        page = await shown(doors, "/events?limit=1000", token)
        assert (len(page["events"]), page["next"]) == (1_000, 1_000)
        assert len((await shown(doors, "/events", token))["events"]) == 100
        assert json.dumps(page)
        assert ALICE["username"] not in json.dumps(page)
