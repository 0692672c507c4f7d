"""The route protocol as its contract says it, and docs/route-protocol.md where the contract is silent."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import trio

from tests.conformance.running import Running, fresh
from tests.conformance.talk import PASSWORD, assert_error, talk
from tests.guards.edge import read_all, upgrade

PATHS = ["/auth/v1", "/auth/v2"]
VERSION_2_ROUTES = ["auth.logout", "auth.register", "auth.update_profile"]
TOKEN = re.compile(r"[1-9][0-9]*\|[A-Za-z0-9]{40}")
TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


async def registered(service: Running, **fields: str) -> str:
    async with talk(service) as client:
        return await client.register(**fields)


def assert_session(answer: dict[str, Any], *, route: str, version: int, username: str, nickname: str) -> str:
    """The success packet of login and authenticate, key by key; its session key."""
    keys = ["route", "receipt", "data"] if version == 1 else ["route", "receipt", "error", "data"]
    assert list(answer) == keys
    assert answer["route"] == route
    assert answer.get("error", False) is False
    assert list(answer["data"]) == ["session_key", "user"]
    user = answer["data"]["user"]
    shown = ["id", "username", "nickname", "level", "active", "created_at", "last_contact"]
    assert list(user) == shown
    assert type(user["id"]) is int
    assert (user["username"], user["nickname"], user["level"], user["active"]) == (username, nickname, 1, True)
    for name in ("created_at", "last_contact"):
        assert TIMESTAMP.fullmatch(user[name]), user[name]
        age = datetime.now(UTC) - datetime.fromisoformat(user[name])
        assert timedelta(0) <= age < timedelta(minutes=10)
    assert TOKEN.fullmatch(answer["data"]["session_key"])
    return str(answer["data"]["session_key"])


# Login and authentication


@pytest.mark.parametrize("version", [1, 2])
async def test_login_and_authenticate_answer_with_session_key_and_user(service: Running, version: int) -> None:
    username, nickname = fresh("Person"), fresh("Nick \u2603 ")
    await registered(service, username=username, nickname=nickname)
    async with talk(service, f"/auth/v{version}") as client, talk(service, f"/auth/v{version}") as other:
        answer = await client.call("login", username=username, password=PASSWORD)
        key = assert_session(answer, route="auth.login", version=version, username=username, nickname=nickname)
        again = await other.call("authenticate", session_key=key)
        route = "auth.authenticate"
        assert assert_session(again, route=route, version=version, username=username, nickname=nickname) == key
        assert again["data"] == answer["data"]


@pytest.mark.parametrize("path", PATHS)
async def test_a_failed_login_says_401_and_not_what_was_wrong(service: Running, path: str) -> None:
    username = await registered(service)
    async with talk(service, path) as client:
        wrong = await client.call("login", username=username, password=f"{PASSWORD}!")
        for nobody in (fresh(), "", "x", "a b", "admin", "\0", f"{username}\0", "x" * 5_000, "nobody@example.org"):
            assert await client.call("login", username=nobody, password=PASSWORD) == wrong
        for password in ("", "\0", " ", "\u0300" * 100, "x" * 5_000):
            assert await client.call("login", username=fresh(), password=password) == wrong
        assert_error(wrong, route="auth.login", receipt=1)
        assert wrong["data"]["error_code"] == 401
        await client.log_in(username)


async def test_a_username_is_compared_prepared(service: Running) -> None:
    username = await registered(service, username=f"Zo\u00eb{fresh()}")
    async with talk(service) as client:
        for spelling in (username.upper(), username.lower(), username.replace("\u00eb", "e\u0308")):
            await client.log_in(spelling)


async def test_an_email_address_is_an_identifier_as_well(service: Running) -> None:
    username = fresh()
    body = {"username": username, "nickname": fresh("nick"), "password": PASSWORD, "email": f"{username}@example.org"}
    assert service.ask("POST", "/api/register", body).status_code == 201
    async with talk(service) as client:
        answer = await client.call("login", username=f"{username}@Example.ORG", password=PASSWORD)
        assert answer["data"]["user"]["username"] == username


@pytest.mark.parametrize("path", PATHS)
async def test_a_session_key_that_is_not_one_is_refused_with_401(service: Running, path: str) -> None:
    username = await registered(service)
    async with talk(service, path) as client:
        key = await client.log_in(username)
        session, secret = key.split("|")
        keys = [
            "", "|", "x", session, secret, f"{session}|", f"|{secret}", f"{session}|{secret[:-1]}",
            f"{key}x", f" {key}", f"{key}\n", f"0{key}", f"-{key}", f"{int(session) + 9_999}|{secret}",
            f"{session}|{secret[::-1]}", f"{session}|{secret[:-1]}\0", f"{2**63}|{secret}", f"{2**70}|{secret}",
            f"\u0661|{secret}",
        ]  # fmt: skip
        for wrong in keys:
            assert await client.refusal("authenticate", session_key=wrong) == (401, []), wrong
        assert (await client.call("authenticate", session_key=key))["data"]["session_key"] == key


async def test_one_session_is_honoured_by_both_versions_and_the_other_doors(service: Running) -> None:
    username = await registered(service)
    async with talk(service, "/auth/v1") as first, talk(service) as second:
        key = await first.log_in(username)
        assert (await second.call("authenticate", session_key=key))["data"]["user"]["username"] == username
        assert service.ask("GET", "/api/session", token=key).status_code == 200
        opened = service.ask("POST", "/api/session", {"identifier": username, "password": PASSWORD}).json()
        assert (await first.call("authenticate", session_key=opened["token"]))["data"]["session_key"] == opened["token"]


async def test_a_login_replaces_the_session_of_its_connection(service: Running) -> None:
    one, other = await registered(service), await registered(service)
    async with talk(service) as client, talk(service) as witness:
        first = await client.log_in(one)
        await witness.call("authenticate", session_key=first)
        # … also when somebody else logs in, or over version 1.
        second = await client.log_in(other)
        assert await witness.refusal("update_profile") == (403, [])
        assert await witness.refusal("authenticate", session_key=first) == (401, [])
        assert (await witness.call("authenticate", session_key=second))["data"]["user"]["username"] == other
    async with talk(service, "/auth/v1") as client, talk(service) as witness:
        first, _ = await client.log_in(one), await client.log_in(one)
        assert await witness.refusal("authenticate", session_key=first) == (401, [])


async def test_logins_on_other_connections_replace_nothing(service: Running) -> None:
    username = await registered(service)
    async with talk(service) as one, talk(service) as two:
        keys = {await one.log_in(username), await two.log_in(username)}
        assert len(keys) == 2
        for client in (one, two):
            for key in keys:
                assert (await client.call("authenticate", session_key=key))["data"]["session_key"] == key


async def test_an_authentication_replaces_nothing_but_what_the_connection_holds(service: Running) -> None:
    one, other = await registered(service), await registered(service)
    async with talk(service) as client, talk(service) as second:
        held = await client.log_in(one)
        key = await second.log_in(other)
        await client.call("authenticate", session_key=key)
        nickname = fresh("nick")
        await client.call("update_profile", nickname=nickname)
        assert (await second.call("authenticate", session_key=key))["data"]["user"]["nickname"] == nickname
        # The session that it held before lives on.
        assert (await client.call("authenticate", session_key=held))["data"]["user"]["username"] == one


async def test_a_refused_login_or_authentication_leaves_the_connection_as_it_was(service: Running) -> None:
    username = await registered(service)
    async with talk(service) as client:
        key = await client.log_in(username)
        refused = [
            ("login", {"username": username, "password": "wrong"}, (401, [])),
            ("authenticate", {"session_key": "wrong"}, (401, [])),
            ("login", {"username": username}, (400, ["password"])),
            ("nothing", {}, (404, [])),
        ]
        for route, data, refusal in refused:
            assert await client.refusal(route, **data) == refusal
            assert (await client.call("update_profile"))["error"] is False
        assert (await client.call("authenticate", session_key=key))["data"]["session_key"] == key
        assert (await client.call("logout"))["error"] is False


# Logout


async def test_logout_ends_the_session_everywhere(service: Running) -> None:
    username = await registered(service)
    async with talk(service) as client, talk(service) as witness:
        key = await client.log_in(username)
        await witness.call("authenticate", session_key=key)
        answer = await client.ask({"route": "auth.logout", "receipt": 1})
        assert answer == {"route": "auth.logout", "receipt": 1, "error": False, "data": {"loggedout": True}}
        for connection in (client, witness):
            for route in ("logout", "update_profile"):
                assert await connection.refusal(route) == (403, [])
            assert await connection.refusal("authenticate", session_key=key) == (401, [])
        assert service.ask("GET", "/api/session", token=key).status_code == 401
        # The connection itself is as good as new.
        await client.log_in(username)
        assert (await client.call("update_profile"))["error"] is False


@pytest.mark.parametrize("route", ["logout", "update_profile"])
async def test_what_needs_a_session_is_forbidden_without_one(service: Running, route: str) -> None:
    async with talk(service) as client:
        assert await client.refusal(route) == (403, [])
        await client.register()
        assert await client.refusal(route) == (403, [])


async def test_a_session_that_ends_elsewhere_is_told_to_nobody_until_they_ask(service: Running) -> None:
    username = await registered(service)
    async with talk(service) as client:
        key = await client.log_in(username)
        assert service.ask("DELETE", "/api/session", token=key).is_success
        # The next thing that it hears is the answer to its next request.
        assert await client.refusal("update_profile", nickname=fresh("nick")) == (403, [])
        assert await client.refusal("logout") == (403, [])
        await client.log_in(username)
        assert (await client.call("logout"))["data"] == {"loggedout": True}


# Registration


async def test_registration_answers_with_no_data_and_logs_nobody_in(service: Running) -> None:
    fields = {"username": fresh(), "password": PASSWORD, "nickname": fresh("nick"), "email": 7, "level": 2, "extra": {}}
    async with talk(service) as client:
        await client.tell(json.dumps({"route": "auth.register", "receipt": 1, "data": fields}))
        assert await client.hear() == '{"route":"auth.register","receipt":1,"error":false}'
        await client.tell(
            json.dumps({"route": "auth.register", "data": fields | {"username": fresh(), "nickname": fresh()}})
        )
        assert await client.hear() == '{"route":"auth.register","error":false}'
        assert await client.refusal("logout") == (403, [])
        answer = await client.call("login", username=fields["username"], password=PASSWORD)
        assert answer["data"]["user"]["level"] == 1


BAD_FIELDS = {
    "username": {
        "nothing": "", "too short": "abc", "too long": "x" * 33, "too long in code points": "\u00eb" * 33,
        "an @": "some@body", "reserved": "Admin", "reserved, spelled wide": "\uff32oot", "a space": "some body",
        "a NUL": "some\0body", "a control character": "some\nbody", "an invisible character": "some\u200bbody",
        "a symbol": "some\u2603body",
    },
    "nickname": {
        "nothing": "", "too short": "x", "too long": "x" * 33, "too short without outer spaces": "  x  ",
        "reserved": "ADMIN", "a NUL": "some\0body",
    },
    "password": {
        "nothing": "", "too short": "1234567", "too short in code points": "\U0001f600" * 7, "a NUL": "secret\0secret",
        "common": "password123", "common, in other cases": "PassWord123",
    },
}  # fmt: skip


@pytest.mark.parametrize(
    ("field", "value"),
    [
        pytest.param(field, value, id=f"{field}: {why}")
        for field, cases in BAD_FIELDS.items()
        for why, value in cases.items()
    ],
)
async def test_a_field_that_breaks_its_rule_is_named_with_450(service: Running, field: str, value: str) -> None:
    fields = {"username": fresh(), "password": PASSWORD, "nickname": fresh("nick")} | {field: value}
    async with talk(service) as client:
        answer = await client.call("register", **fields)
        assert_error(answer, route="auth.register", receipt=1)
        assert answer["data"]["error_code"] == 450
        assert [fault["field"] for fault in answer["data"]["error_messages"]] == [field]
        assert answer["data"]["error_message"] == answer["data"]["error_messages"][0]["message"]
        assert await client.refusal("login", username=fields["username"], password=fields["password"]) == (401, [])


async def test_the_shortest_and_longest_names_and_passwords_are_taken(service: Running) -> None:
    async with talk(service) as client:
        number = fresh("")
        short = chr(0x4E00 + int(number))
        await client.register(username=number.rjust(4, "s"), nickname=f"{short}s", password="\u2603" * 8)
        await client.log_in(number.rjust(4, "s"), "\u2603" * 8)
        await client.register(username=number.rjust(32, "l"), nickname=number.rjust(32, "l"), password="y" * 60_000)
        assert await client.refusal("login", username=number.rjust(32, "l"), password="y" * 59_999) == (401, [])
        await client.log_in(number.rjust(32, "l"), "y" * 60_000)


async def test_all_fields_at_fault_are_named_at_once(service: Running) -> None:
    async with talk(service) as client:
        faults = await client.refusal("register", username="x", password="x", nickname="x")
        assert faults == (450, ["username", "nickname", "password"])


async def test_a_name_that_is_taken_however_it_is_spelled_is_refused(service: Running) -> None:
    async with talk(service) as client:
        username, nickname = fresh("Bj\u00f6rn"), fresh("The Bj\u00f6rn ")
        await client.register(username=username, nickname=nickname)
        for spelling in (str.upper, str.lower, str.swapcase):
            faults = await client.refusal(
                "register", username=spelling(username), password=PASSWORD, nickname=spelling(nickname)
            )
            assert faults == (450, ["username", "nickname"])
        assert await client.refusal("register", username=fresh(), password=PASSWORD, nickname=nickname) == (
            450,
            ["nickname"],
        )
        assert await client.refusal("register", username=username, password=PASSWORD, nickname=fresh()) == (
            450,
            ["username"],
        )
        # A username and a nickname may be the same.
        await client.register(username=fresh(), nickname=username)


# Profile


async def test_a_nickname_is_changed_and_the_old_one_is_free(service: Running) -> None:
    old, new = fresh("nick"), fresh("nick")
    username = await registered(service, nickname=old)
    async with talk(service) as client:
        key = await client.log_in(username)
        await client.tell(f'{{"route":"auth.update_profile","receipt":"r","data":{{"nickname":"{new}","x":1}}}}')
        assert await client.hear() == '{"route":"auth.update_profile","receipt":"r","error":false}'
        assert (await client.call("authenticate", session_key=key))["data"]["user"]["nickname"] == new
        await client.register(nickname=old)
        assert await client.refusal("update_profile", nickname=old.upper()) == (450, ["nickname"])
        # One's own, written otherwise, is no other's.
        assert (await client.call("update_profile", nickname=new.upper()))["error"] is False
        assert (await client.call("authenticate", session_key=key))["data"]["user"]["nickname"] == new.upper()


async def test_a_new_password_ends_every_other_session_of_the_user(service: Running) -> None:
    username, stranger = await registered(service), await registered(service)
    async with talk(service) as client, talk(service) as other, talk(service) as third:
        key, others = await client.log_in(username), await other.log_in(username)
        strangers = await third.log_in(stranger)
        changed = await client.call("update_profile", old_password=PASSWORD, new_password="a better horse")
        assert changed == {"route": "auth.update_profile", "receipt": 1, "error": False}
        assert await other.refusal("update_profile") == (403, [])
        assert await other.refusal("authenticate", session_key=others) == (401, [])
        assert (await client.call("authenticate", session_key=key))["error"] is False
        assert (await client.call("update_profile"))["error"] is False
        assert (await third.call("authenticate", session_key=strangers))["error"] is False
        assert await other.refusal("login", username=username, password=PASSWORD) == (401, [])
        await other.log_in(username, "a better horse")


BAD_CHANGES = [
    ({"old_password": "wrong", "new_password": "a better horse"}, 450, ["old_password"]),
    ({"old_password": "", "new_password": "a better horse"}, 450, ["old_password"]),
    ({"old_password": f"{PASSWORD}\0", "new_password": "a better horse"}, 450, ["old_password"]),
    ({"old_password": "wrong"}, 450, ["old_password"]),
    ({"old_password": "wrong", "nickname": "some other name"}, 450, ["old_password"]),
    ({"new_password": "a better horse"}, 400, ["old_password"]),
    ({"new_password": "a better horse", "nickname": "some other name"}, 400, ["old_password"]),
    ({"old_password": PASSWORD, "new_password": "short"}, 450, ["new_password"]),
    ({"old_password": PASSWORD, "new_password": ""}, 450, ["new_password"]),
    ({"old_password": PASSWORD, "new_password": "password123"}, 450, ["new_password"]),
    ({"old_password": PASSWORD, "new_password": "short", "nickname": "x"}, 450, ["nickname", "new_password"]),
    ({"nickname": ""}, 450, ["nickname"]),
    ({"nickname": "x" * 33}, 450, ["nickname"]),
    ({"nickname": "root"}, 450, ["nickname"]),
    ({"old_password": PASSWORD, "new_password": "a better horse", "nickname": "root"}, 450, ["nickname"]),
    ({"nickname": None}, 400, ["nickname"]),
    ({"old_password": 1, "new_password": [], "nickname": {}}, 400, ["new_password", "old_password", "nickname"]),
]  # fmt: skip


@pytest.mark.parametrize(("data", "code", "fields"), BAD_CHANGES)
async def test_a_change_that_breaks_a_rule_changes_nothing(
    service: Running, data: dict[str, Any], code: int, fields: list[str]
) -> None:
    username = await registered(service)
    async with talk(service) as client:
        key = await client.log_in(username)
        before = await client.call("authenticate", session_key=key)
        assert await client.refusal("update_profile", **data) == (code, fields)
        assert await client.call("authenticate", session_key=key) == before
    async with talk(service) as client:
        await client.log_in(username)


async def test_a_change_of_nothing_is_well_done_and_writes_nothing(service: Running) -> None:
    username = await registered(service)
    async with talk(service) as client:
        await client.log_in(username)
        before = service.events()
        for data in ({}, {"old_password": PASSWORD}, {"unknown": PASSWORD}):
            assert (await client.call("update_profile", **data))["error"] is False
        assert service.events() == before


# Receipts and order

RECEIPTS = [
    "null", "true", "false", "0", "-0", "1", "1.0", "1.50", "1e5", "1E+05", "123456789012345678901234567890",
    "9" * 2_000, '""', '"r"', r'"\u0041\/"', r'"\u0000"', r'"\ud83d\ude00"', '"\U0001f600\u2028"', "[]", "[ ]", "{}",
    '{"b": 1,\t"a" : [1.0 ,\n2e0]}', '{"a":1,"a":2}', '[{"route":"x","receipt":1}]', "[" * 31 + "]" * 31,
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
async def test_a_receipt_of_any_type_comes_back_byte_for_byte(service: Running, path: str) -> None:
    username = await registered(service)
    async with talk(service, path) as client:
        key = await client.log_in(username)
        requests = [
            (f'"route":"auth.authenticate","data":{{"session_key":"{key}"}}', "auth.authenticate", False),
            ('"route":"auth.authenticate","data":{"session_key":"x"}', "auth.authenticate", True),
            ('"route":"auth.authenticate","data":[]', "auth.authenticate", True),
            ('"route":"auth.nothing"', "auth.nothing", True),
        ]
        for receipt in RECEIPTS:
            for request, route, error in requests:
                for packet in (f'{{{request},"receipt":{receipt}}}', f'{{ "receipt" : {receipt} ,\r\n{request}}}'):
                    await client.tell(packet)
                    told = f'"error":{str(error).lower()},' if error or path == "/auth/v2" else ""
                    assert (await client.hear()).startswith(f'{{"route":"{route}","receipt":{receipt},{told}"data":')


@pytest.mark.parametrize("path", PATHS)
async def test_replies_come_in_the_order_of_the_requests(service: Running, path: str) -> None:
    username = await registered(service)
    async with talk(service, path) as client:
        key = await client.log_in(username)
        # A login takes longest, then what is written, then a lookup, then what is refused unseen.
        kinds: list[dict[str, Any]] = [
            {"route": "auth.login", "data": {"username": username, "password": PASSWORD}},
            {"route": "auth.login", "data": {"username": fresh(), "password": PASSWORD}},
            {"route": "auth.authenticate", "data": {"session_key": key}},
            {"route": "auth.nothing"},
            {"route": "auth.login", "data": 1},
        ]
        for number in range(60):
            await client.tell(kinds[number % len(kinds)] | {"receipt": number})
        assert [json.loads(await client.hear())["receipt"] for _ in range(60)] == list(range(60))


async def test_a_request_sees_what_the_one_before_it_did(service: Running) -> None:
    async with talk(service) as client:
        fields = {"username": fresh(), "password": PASSWORD, "nickname": fresh("nick")}
        for route in ("register", "login", "update_profile", "logout", "update_profile"):
            await client.tell(
                {"route": f"auth.{route}", "data": fields | {"old_password": PASSWORD, "nickname": fresh("n")}}
            )
        answers = [json.loads(await client.hear()) for _ in range(5)]
        assert [answer["error"] for answer in answers] == [False, False, False, False, True]


async def test_many_connections_have_each_their_own_session(service: Running) -> None:
    names = [await registered(service) for _ in range(3)]
    async with talk(service) as one, talk(service) as two, talk(service) as three:
        clients = (one, two, three)
        for client, name in zip(clients, names, strict=True):
            await client.tell({"route": "auth.login", "data": {"username": name, "password": PASSWORD}})
        answers = [json.loads(await client.hear()) for client in clients]
        assert [answer["data"]["user"]["username"] for answer in answers] == names
        await two.call("logout")
        assert [(await client.call("update_profile"))["error"] for client in clients] == [False, True, False]


# Bad input

MALFORMED = {
    "nothing": "", "no JSON": "hello", "an array": "[]", "a string": '"auth.login"', "a number": "1", "null": "null",
    "half an object": '{"route":"auth.logout"', "a comma too many": '{"route":"auth.logout",}',
    "NaN": '{"route":"auth.logout","receipt":NaN}', "a bare NUL": '{"route":"auth.logout","receipt":"\0"}',
    "half a surrogate pair": r'{"route":"auth.logout","receipt":"\ud800"}',
    "half a pair in a field": r'{"route":"auth.login","data":{"username":"\ud800","password":"x"}}',
    "a depth bomb": '{"a":' * 10_000 + "1" + "}" * 10_000, "brackets alone": "[" * 65_536,
    "too deep a receipt": '{"route":"auth.logout","receipt":' + "[" * 32 + "]" * 32 + "}",
    "no route": "{}", "a route of null": '{"route":null}', "a route that is a number": '{"route":1}',
    "a route in a list": '{"route":["auth.login"]}',
}  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
async def test_a_malformed_packet_is_answered_with_400_and_nothing_is_written(service: Running, path: str) -> None:
    username = await registered(service)
    async with talk(service, path) as client:
        before = service.events()
        for what, message in MALFORMED.items():
            answer = await client.ask(message)
            assert_error(answer, route=None)
            assert answer["data"]["error_code"] == 400, what
        assert service.events() == before
        await client.log_in(username)


WRONG_DATA = [
    ("login", '{"username":"x"}', ["password"]),
    ("login", "{}", ["username", "password"]),
    ("login", "null", ["data"]),
    ("login", "[]", ["data"]),
    ("login", '{"username":1,"password":null}', ["username", "password"]),
    ("authenticate", "{}", ["session_key"]),
    ("authenticate", '{"session_key":' + "9" * 5_000 + "}", ["session_key"]),
    ("register", '{"username":"xyzw","nickname":true}', ["password", "nickname"]),
    ("register", "1", ["data"]),
    ("register", '{"username":[],"password":{},"nickname":1.5}', ["username", "password", "nickname"]),
    ("update_profile", "null", ["data"]),
    ("update_profile", '"x"', ["data"]),
    ("update_profile", '{"nickname":7}', ["nickname"]),
]


async def test_missing_fields_and_wrong_types_are_named_and_nothing_is_written(service: Running) -> None:
    username = await registered(service)
    async with talk(service) as client:
        await client.log_in(username)
        before = service.events()
        for route, data, fields in WRONG_DATA:
            answer = await client.ask(f'{{"route":"auth.{route}","receipt":1,"data":{data}}}')
            assert_error(answer, route=f"auth.{route}", receipt=1)
            assert answer["data"]["error_code"] == 400
            assert [fault["field"] for fault in answer["data"]["error_messages"]] == fields, (route, data)
        assert service.events() == before


@pytest.mark.parametrize("route", ["login", "authenticate", "register", "update_profile"])
async def test_data_that_are_not_there_are_named(service: Running, route: str) -> None:
    async with talk(service) as client:
        answer = await client.ask({"route": f"auth.{route}"})
        assert_error(answer, route=f"auth.{route}")
        assert (answer["data"]["error_code"], answer["data"]["error_messages"][0]["field"]) == (400, "data")


async def test_routes_that_do_not_exist_are_told_so(service: Running) -> None:
    nowhere = ["", "auth", "auth.", "auth.Login", "login", "auth.nothing", "\0", "\u2603", "x" * 20_000]
    for path, routes in (("/auth/v1", nowhere + VERSION_2_ROUTES), ("/auth/v2", nowhere)):
        async with talk(service, path) as client:
            for route in routes:
                answer = await client.ask({"route": route, "receipt": [route], "data": {"username": "x"}})
                assert_error(answer, route=route, receipt=[route])
                assert answer["data"]["error_code"] == 404


@pytest.mark.parametrize("path", PATHS)
async def test_a_binary_message_closes_with_1003(service: Running, path: str) -> None:
    async with talk(service, path) as client:
        await client.tell(b'{"route":"auth.logout"}')
        assert await client.closing_code() == 1003


@pytest.mark.parametrize("path", PATHS)
async def test_64_kib_are_taken_and_one_byte_more_closes_with_1009(service: Running, path: str) -> None:
    async with talk(service, path) as client:
        answer = await client.ask('{"route":"auth.nothing","receipt":1}'.ljust(65_536))
        assert answer["data"]["error_code"] == 404
        await client.tell('{"route":"auth.nothing","receipt":1}'.ljust(65_537))
        assert await client.closing_code() == 1009


@pytest.mark.parametrize("path", PATHS)
async def test_text_that_is_not_utf_8_closes_with_1007(service: Running, path: str) -> None:
    async with talk(service, path) as client:
        await client.socket._stream.send_all(b"\x81\x82\0\0\0\0\xff\xfe")
        assert await client.closing_code() == 1007


async def test_earlier_requests_are_answered_before_a_close(service: Running) -> None:
    username = await registered(service)
    async with talk(service) as client:
        for number in range(3):
            await client.tell(
                {"route": "auth.login", "receipt": number, "data": {"username": username, "password": PASSWORD}}
            )
        await client.tell(b"bytes")
        assert [json.loads(await client.hear())["receipt"] for _ in range(3)] == [0, 1, 2]
        assert await client.closing_code() == 1003


# Throttling


@pytest.mark.parametrize("path", PATHS)
async def test_failures_are_throttled_with_429_and_when_to_try_again(service: Running, path: str) -> None:
    username, other = await registered(service), await registered(service)
    async with talk(service, path) as client:
        guess = {"route": "auth.login", "receipt": 1, "data": {"username": username, "password": "wrong"}}
        for _ in range(12):
            await client.tell(guess)
        answers = [json.loads(await client.hear()) for _ in range(12)]
        codes = [answer["data"]["error_code"] for answer in answers]
        # Should the service be held up for a second, one more guess is let in, and the next window is twice as long.
        assert codes[:5] == [401] * 5
        assert codes[5:].count(429) >= 5
        assert codes[-1] == 429
        assert_error(answers[-1], route="auth.login", receipt=1)
        assert type(answers[-1]["data"]["retry_after"]) is int
        assert answers[-1]["data"]["retry_after"] >= 1
        # The right password is not looked at; another account is not concerned.
        assert await client.refusal("login", username=username, password=PASSWORD) == (429, [])
        await client.log_in(other)


async def test_a_wrong_old_password_counts_like_a_failed_login(service: Running) -> None:
    username = await registered(service)
    async with talk(service) as client:
        await client.log_in(username)
        guess = {"route": "auth.update_profile", "data": {"old_password": "wrong", "new_password": "a better horse"}}
        for _ in range(8):
            await client.tell(guess)
        answers = [json.loads(await client.hear()) for _ in range(8)]
        codes = [answer["data"]["error_code"] for answer in answers]
        assert codes[:5] == [450] * 5
        assert codes[-1] == 429
        assert answers[-1]["data"]["retry_after"] >= 1
        assert await client.refusal("login", username=username, password=PASSWORD) == (429, [])
        # What needs no password goes on.
        assert (await client.call("update_profile", nickname=fresh("nick")))["error"] is False


# The book


async def test_each_of_these_is_an_event_with_its_door(service: Running) -> None:
    async with talk(service) as client, talk(service, "/auth/v1") as old:
        after = len(service.events())
        username = await client.register()
        await client.refusal("login", username=username, password="wrong")
        key = await client.log_in(username)
        await client.call("update_profile", nickname=fresh("nick"))
        await client.call("update_profile", old_password=PASSWORD, new_password="a better horse")
        await old.log_in(username, "a better horse")
        await client.call("logout")
        told = [(event["type"], event["door"]) for event in service.events()[after:]]
        assert told == [
            ("user.registered", "route-v2"),
            ("login.failed", "route-v2"),
            ("session.opened", "route-v2"),
            ("profile.changed", "route-v2"),
            ("password.changed", "route-v2"),
            ("session.opened", "route-v1"),
            ("session.closed", "route-v2"),
        ]
        book = json.dumps(service.events()[after:])
        assert key.split("|")[1] not in book
        assert PASSWORD not in book


@pytest.mark.parametrize("path", ["/", "/auth", "/auth/v3", "/auth/v2/", "/auth/V2", "/auth/v1/v2"])
async def test_an_address_that_nobody_serves_is_not_found(service: Running, path: str) -> None:
    async with await trio.open_tcp_stream("127.0.0.1", int(service.ws.rpartition(":")[2])) as stream:
        await stream.send_all(upgrade(path))
        assert (await read_all(stream)).startswith(b"HTTP/1.1 404")


async def test_a_query_behind_the_address_is_passed_over(service: Running) -> None:
    async with talk(service, "/auth/v2?token=x") as client:
        assert await client.refusal("logout") == (403, [])
