"""The route protocol, packet by packet: what a message asks for, and what the answers look like, byte for byte."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec.structs import asdict

from service import errors
from service.doors.route_calls import V1, V2, Edition
from service.doors.route_protocol import Account, NotARequest, Request, read
from service.errors import FieldError, InvalidFields, Refused, Throttled

NOON = datetime(2026, 11, 21, 12, 30, 15, 250_000, tzinfo=UTC)
ALICE = Account(17, "alice", "Alice \u2603", 1, True, NOON, NOON)
ALICE_SHOWN = (
    '{"id":17,"username":"alice","nickname":"Alice \u2603","level":1,"active":true,'
    '"created_at":"2026-11-21T12:30:15.250000Z","last_contact":"2026-11-21T12:30:15.250000Z"}'
)

LOGIN = {"username": "alice", "password": "secret"}
KEY = {"session_key": "4|x"}
REGISTRATION = {"username": "alice", "password": "secret", "nickname": "Al"}
NEEDS_DATA: dict[str, dict[str, str]] = {
    "auth.login": LOGIN,
    "auth.authenticate": KEY,
    "auth.register": REGISTRATION,
    "auth.update_profile": {},
}


def asked(message: str | dict[str, Any], edition: Edition = V2) -> Request:
    found = read(message if isinstance(message, str) else json.dumps(message), edition)
    assert isinstance(found, Request), found
    return found


def refused(message: str | dict[str, Any], edition: Edition = V2) -> dict[str, Any]:
    found = read(message if isinstance(message, str) else json.dumps(message), edition)
    assert isinstance(found, NotARequest), found
    packet: dict[str, Any] = json.loads(found.packet)
    assert packet["error"] is True
    assert found.code == ("no_such_route" if packet["data"]["error_code"] == 404 else "malformed")
    return packet


def at_fault(packet: dict[str, Any]) -> list[str]:
    assert packet["data"]["error_code"] == 400
    return [fault["field"] for fault in packet["data"]["error_messages"]]


@pytest.mark.parametrize(
    ("route", "data", "kind"),
    [
        ("auth.login", LOGIN, "Login"),
        ("auth.authenticate", KEY, "Authenticate"),
        ("auth.register", REGISTRATION, "Registration"),
        ("auth.update_profile", {"nickname": "Al"}, "ProfileUpdate"),
        ("auth.update_profile", {"new_password": "new", "old_password": "old"}, "ProfileUpdate"),
        ("auth.update_profile", {"old_password": "old"}, "ProfileUpdate"),
        ("auth.update_profile", {}, "ProfileUpdate"),
    ],
)
def test_each_route_takes_its_fields_and_passes_over_others(route: str, data: dict[str, str], kind: str) -> None:
    packet = {"route": route, "data": data | {"more": [1]}, "more": {"route": 1}}
    request = asked(packet)
    given = {name: value for name, value in asdict(request.call).items() if isinstance(value, str)}
    assert (type(request.call).__name__, given) == (kind, data)
    assert "secret" not in repr(request)
    assert "old" not in repr(request)


@pytest.mark.parametrize("data", ["", ',"data":null', ',"data":{}', ',"data":[1]', ',"data":"x"'])
def test_logout_takes_no_data_whatever_stands_there(data: str) -> None:
    assert type(asked(f'{{"route":"auth.logout"{data}}}').call).__name__ == "Logout"


@pytest.mark.parametrize("route", ["auth.logout", "auth.register", "auth.update_profile"])
def test_version_1_knows_two_routes_only(route: str) -> None:
    packet = refused({"route": route, "receipt": 1, "data": REGISTRATION}, V1)
    assert packet["data"]["error_code"] == 404
    assert (packet["route"], packet["receipt"]) == (route, 1)
    for known in ("auth.login", "auth.authenticate"):
        asked({"route": known, "data": LOGIN | KEY}, V1)


@pytest.mark.parametrize(
    "route", ["", "auth", "auth.Login", "auth.login ", "login", "auth.login\0", "\u2603", "x" * 9_999]
)
@pytest.mark.parametrize("edition", [V1, V2], ids=["v1", "v2"])
def test_a_route_that_does_not_exist_is_told_so(edition: Edition, route: str) -> None:
    packet = refused({"route": route, "receipt": "r", "data": LOGIN}, edition)
    assert packet == {
        "route": route,
        "receipt": "r",
        "error": True,
        "data": {"error_code": 404, "error_message": "There is no such route."},
    }


def test_a_route_may_be_spelled_with_escapes() -> None:
    assert asked('{"rout\\u0065":"auth\\u002elogout"}').route == "auth.logout"


NO_PACKET = {
    "nothing": "",
    "blanks": " \n ",
    "no JSON": "hello",
    "an array": "[]",
    "a string": '"auth.login"',
    "a number": "1",
    "null": "null",
    "half an object": '{"route":"auth.logout"',
    "two objects": '{"route":"auth.logout"}{}',
    "a comma too many": '{"route":"auth.logout",}',
    "single quotes": "{'route':'auth.logout'}",
    "a comment": '{"route":"auth.logout"/**/}',
    "NaN": '{"route":"auth.logout","receipt":NaN}',
    "Infinity": '{"route":"auth.logout","receipt":-Infinity}',
    "NaN where it is not known": '{"route":"auth.logout","x":[NaN]}',
    "a number with a leading zero": '{"route":"auth.logout","receipt":01}',
    "an escape that is none": r'{"route":"auth.logout","receipt":"\q"}',
    "half a surrogate pair": r'{"route":"auth.logout","receipt":"\ud800"}',
    "half a surrogate pair in a field": r'{"route":"auth.login","data":{"username":"\udc00","password":"x"}}',
    "a bare NUL": '{"route":"auth.logout","receipt":"\0"}',
    "a bare newline": '{"route":"auth.logout","receipt":"\n"}',
    "a byte order mark": '\ufeff{"route":"auth.logout"}',
    "nested too deep": '{"route":"auth.logout","receipt":' + "[" * 32 + "]" * 32 + "}",
    "nested far too deep": '{"a":' * 10_000 + "1" + "}" * 10_000,
    "brackets that never close": "[" * 65_536,
    "nested too deep and unknown": '{"route":"auth.logout","x":' + '{"y":' * 32 + "1" + "}" * 33,
}


@pytest.mark.parametrize("message", NO_PACKET.values(), ids=NO_PACKET.keys())
@pytest.mark.parametrize("edition", [V1, V2], ids=["v1", "v2"])
def test_what_is_no_packet_is_answered_with_an_error_of_no_route(edition: Edition, message: str) -> None:
    packet = refused(message, edition)
    assert list(packet) == ["route", "error", "data"]
    assert packet["route"] is None
    assert packet["data"]["error_code"] == 400
    assert list(packet["data"]) == ["error_code", "error_message"]


def test_the_sentence_says_why_it_is_no_packet() -> None:
    sentences = {"[]": "not a JSON object", "{": "not valid JSON", "[" * 33: "nested deeper than 32 levels"}
    for message, sentence in sentences.items():
        assert sentence in refused(message)["data"]["error_message"]


def test_as_deep_as_the_limit_is_taken() -> None:
    receipt = "[" * 31 + "]" * 31
    request = asked(f'{{"route":"auth.logout","receipt":{receipt}}}')
    assert request.done() == f'{{"route":"auth.logout","receipt":{receipt},"error":false}}'


@pytest.mark.parametrize("route", ["1", "null", "true", "[]", '{"route":"auth.login"}', '["auth.login"]', "1" * 5_000])
def test_a_route_that_is_no_string_is_malformed_and_not_echoed(route: str) -> None:
    packet = refused(f'{{"route":{route},"receipt":[7]}}')
    assert at_fault(packet) == ["route"]
    assert (packet["route"], packet["receipt"]) == (None, [7])
    assert packet["data"]["error_message"] == "`route` must be a string."


def test_a_packet_without_a_route_is_malformed() -> None:
    packet = refused('{"receipt":{"a":1}}')
    assert at_fault(packet) == ["route"]
    assert (packet["route"], packet["receipt"]) == (None, {"a": 1})
    assert packet["data"]["error_message"] == "`route` is missing."


@pytest.mark.parametrize("route", NEEDS_DATA)
def test_data_that_are_missing_or_no_object_are_at_fault(route: str) -> None:
    packet = refused({"route": route, "receipt": 1})
    assert at_fault(packet) == ["data"]
    assert packet["data"]["error_message"] == "`data` is missing."
    wrong: list[Any] = [None, [], "x", 1, True]
    for data in wrong:
        packet = refused({"route": route, "receipt": 1, "data": data})
        assert at_fault(packet) == ["data"]
        assert packet["data"]["error_message"] == "`data` must be an object."
        assert (packet["route"], packet["receipt"]) == (route, 1)


@pytest.mark.parametrize(
    ("route", "field"),
    [(route, field) for route, data in NEEDS_DATA.items() for field in data],
)
def test_each_field_that_is_missing_is_named(route: str, field: str) -> None:
    data = {name: value for name, value in NEEDS_DATA[route].items() if name != field}
    packet = refused({"route": route, "receipt": 1, "data": data})
    assert packet["data"]["error_messages"] == [{"field": field, "message": f"`{field}` is missing."}]
    assert packet["data"]["error_message"] == f"`{field}` is missing."
    assert (packet["route"], packet["receipt"]) == (route, 1)


@pytest.mark.parametrize("wrong", ["null", "1", "1.5", "true", "[]", '{"a":"b"}', '["x"]', "9" * 5_000])
@pytest.mark.parametrize(
    ("route", "field"),
    [(route, field) for route, data in NEEDS_DATA.items() for field in data]
    + [("auth.update_profile", field) for field in ("new_password", "old_password", "nickname")],
)
def test_each_field_that_is_no_string_is_named(route: str, field: str, wrong: str) -> None:
    text = json.dumps(NEEDS_DATA[route] | {field: "HERE"}).replace('"HERE"', wrong)
    packet = refused(f'{{"route":"{route}","receipt":"r","data":{text}}}')
    assert packet["data"]["error_messages"] == [{"field": field, "message": f"`{field}` must be a string."}]
    assert (packet["route"], packet["receipt"]) == (route, "r")


def test_all_fields_at_fault_are_named_at_once() -> None:
    packet = refused({"route": "auth.register", "data": {"username": 1, "password": None}})
    assert at_fault(packet) == ["username", "password", "nickname"]
    assert packet["data"]["error_message"] == "Some fields are missing or of a wrong type."


def test_a_new_password_without_the_old_one_is_a_missing_field() -> None:
    packet = refused({"route": "auth.update_profile", "data": {"new_password": "long enough", "nickname": "Al"}})
    assert packet["data"]["error_messages"] == [{"field": "old_password", "message": "`old_password` is missing."}]


def test_of_a_key_that_stands_twice_the_last_one_counts() -> None:
    request = asked('{"route":"auth.x","route":"auth.logout","receipt":1,"receipt":2}')
    assert request.done() == '{"route":"auth.logout","receipt":2,"error":false}'
    assert at_fault(refused('{"route":"auth.authenticate","data":{"session_key":1,"session_key":"x"}}')) == ["data"]


RECEIPTS = [
    "null", "true", "false", "0", "-0", "1", "1.0", "1.10", "1e5", "1E+5", "-1.5e-300", "1e999",
    "123456789012345678901234567890", "9" * 5_000,
    '""', '"r"', r'"\u0041"', r'"\/"', r'"\u0000"', r'"\ud83d\ude00"', '"\U0001f600"', '"\u2028"', '"\x7f"',
    "[]", "[ ]", "{}", '{"b": 1, "a" : [1.0 ,2e0]}', '{"a":1,"a":2}', "[\n\t1,\r\n 2 ]", '[{"route":"x","receipt":1}]',
]  # fmt: skip


@pytest.mark.parametrize("receipt", RECEIPTS)
@pytest.mark.parametrize("around", ["{}", " {} ", "\n\t{}\r\n"])
def test_a_receipt_comes_back_byte_for_byte(receipt: str, around: str) -> None:
    # On success, on a refusal, on wrong types, on an unknown route, and where the route is no string.
    stands = f'"receipt":{around.format(receipt)}'
    request = asked(f'{{{stands},"route":"auth.logout"}}')
    echoed = f'"receipt":{receipt},"error":'
    assert request.logged_out() == f'{{"route":"auth.logout",{echoed}false,"data":{{"loggedout":true}}}}'
    assert f'"route":"auth.logout",{echoed}true' in request.refused(errors.Forbidden())
    for route, data in (("auth.login", "[]"), ("auth.login", '{"username":1}'), ("nowhere", "{}")):
        found = read(f'{{"route":"{route}",{stands},"data":{data}}}', V2)
        assert isinstance(found, NotARequest)
        assert found.packet.startswith(f'{{"route":"{route}",{echoed}true')
    found = read(f'{{"route":1,{stands}}}', V2)
    assert isinstance(found, NotARequest)
    assert found.packet.startswith(f'{{"route":null,{echoed}true')


def test_without_a_receipt_there_is_none_in_the_answer() -> None:
    request = asked({"route": "auth.login", "data": LOGIN})
    for packet in (request.done(), request.logged_in("k", ALICE), request.refused(errors.BadCredentials())):
        assert "receipt" not in packet


@pytest.mark.parametrize("route", ["auth.login", "auth.authenticate"])
def test_a_session_is_shown_in_full_and_version_1_has_no_error_key(route: str) -> None:
    message = {"route": route, "receipt": 1, "data": LOGIN | KEY}
    shown = f'"data":{{"session_key":"4|k","user":{ALICE_SHOWN}}}}}'
    assert asked(message, V1).logged_in("4|k", ALICE) == f'{{"route":"{route}","receipt":1,{shown}'
    assert asked(message, V2).logged_in("4|k", ALICE) == f'{{"route":"{route}","receipt":1,"error":false,{shown}'


def test_what_is_done_is_said_without_data() -> None:
    message = {"route": "auth.register", "receipt": 1, "data": REGISTRATION}
    assert asked(message).done() == '{"route":"auth.register","receipt":1,"error":false}'


REFUSALS: list[tuple[Refused, dict[str, Any]]] = [
    (errors.Malformed("No."), {"error_code": 400, "error_message": "No."}),
    (errors.BadCredentials(), {"error_code": 401, "error_message": errors.BadCredentials.message}),
    (errors.Unauthenticated(), {"error_code": 401, "error_message": errors.Unauthenticated.message}),
    (errors.Forbidden("No."), {"error_code": 403, "error_message": "No."}),
    (Throttled(7), {"error_code": 429, "error_message": Throttled(7).message, "retry_after": 7}),
    (
        InvalidFields(FieldError("username", "Short."), FieldError("nickname", "Taken.")),
        {
            "error_code": 450,
            "error_message": "Some fields break their rules.",
            "error_messages": [
                {"field": "username", "message": "Short."},
                {"field": "nickname", "message": "Taken."},
            ],
        },
    ),
    (
        InvalidFields(FieldError("nickname", "Taken.")),
        {"error_code": 450, "error_message": "Taken.", "error_messages": [{"field": "nickname", "message": "Taken."}]},
    ),
    (errors.LastAdmin(), {"error_code": 450, "error_message": errors.LastAdmin.message}),
    (errors.InternalError(), {"error_code": 500, "error_message": errors.InternalError.message}),
    (errors.MethodNotAllowed(), {"error_code": 500, "error_message": errors.MethodNotAllowed.message}),
]


@pytest.mark.parametrize(("refusal", "data"), REFUSALS, ids=[type(refusal).__name__ for refusal, _ in REFUSALS])
@pytest.mark.parametrize("edition", [V1, V2], ids=["v1", "v2"])
def test_a_refusal_has_its_code_and_its_fields(edition: Edition, refusal: Refused, data: dict[str, Any]) -> None:
    request = asked({"route": "auth.login", "receipt": 1, "data": LOGIN}, edition)
    expected = {"route": "auth.login", "receipt": 1, "error": True, "data": data}
    assert json.loads(request.refused(refusal)) == expected
    assert list(json.loads(request.refused(refusal))) == list(expected)
