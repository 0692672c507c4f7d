"""react-auth over sockets, message by message: what a message asks for, and its reply, byte for byte."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET, Raw

from service.doors.react_auth_socket import Call, Close, NotARequest, Request, Resume, notification, read

RESUME = "fantaptik/react-auth/socket/resume"
CLOSE = "fantaptik/react-auth/close"
KINDS = pytest.mark.parametrize("kind", [RESUME, CLOSE], ids=["resume", "close"])


def asked(message: str | dict[str, Any], *, enveloped: bool = False) -> Request:
    found = read(message if isinstance(message, str) else json.dumps(message), enveloped=enveloped)
    assert isinstance(found, Request), found
    return found


def refused(message: str | dict[str, Any], *, enveloped: bool = False) -> tuple[str, str]:
    """The reply to a message that asks for nothing, and the refusal's word."""
    found = read(message if isinstance(message, str) else json.dumps(message), enveloped=enveloped)
    assert isinstance(found, NotARequest), found
    return found.envelope.reply(success=False), found.refusal.code


def plain(call: Call) -> tuple[str, str]:
    return type(call).__name__, call.session


@KINDS
@pytest.mark.parametrize("user", ['"user":{"id":4},', '"user":null,', '"user":[],', '"user":1,', ""])
def test_bare_messages_get_bare_replies(kind: str, user: str) -> None:
    request = asked(f'{{"type":"{kind}",{user}"session":"4|x"}}')
    assert plain(request.call) == ("Resume" if kind == RESUME else "Close", "4|x")
    assert request.envelope.reply(success=True) == '{"success":true}'
    assert request.envelope.reply(success=False) == '{"success":false}'
    request = asked(f'{{"type":"{kind}","session":"4|x",{user}"id":"a"}}')
    assert request.envelope.reply(success=True) == '{"id":"a","success":true}'
    assert not request.envelope.enveloped


@KINDS
def test_enveloped_messages_get_enveloped_replies(kind: str) -> None:
    inner = {"type": kind, "session": "4|x", "user": {"id": 4}}
    request = asked({"data": inner, "id": "6f1c"})
    assert plain(request.call) == ("Resume" if kind == RESUME else "Close", "4|x")
    assert request.envelope.reply(success=True) == '{"id":"6f1c","data":{"success":true}}'
    assert request.envelope.enveloped
    assert asked({"data": inner}).envelope.reply(success=False) == '{"data":{"success":false}}'


def test_what_stands_beside_data_counts_for_nothing_but_the_id() -> None:
    inner = {"type": CLOSE, "session": "4|x", "id": "inside"}
    for beside in ({"type": CLOSE}, {"type": RESUME, "session": "5|y", "user": {}}, {"type": 1, "session": []}):
        request = asked({"data": inner, "id": 7, **beside})
        assert plain(request.call) == ("Close", "4|x")
        assert request.envelope.reply(success=True) == '{"id":7,"data":{"success":true}}'
    # What the envelope lacks is not taken from beside it.
    assert refused({"data": {"type": CLOSE}, "session": "4|x"}) == ('{"data":{"success":false}}', "malformed")


@pytest.mark.parametrize(
    "data", ["null", "1", '"x"', "[]", "{}", '{"session":"5|y"}', '{"type":null}', '{"type":1}', '{"type":[]}',
             '[{"type":"fantaptik/react-auth/close","session":"5|y"}]'],
)  # fmt: skip
def test_without_a_typed_object_in_data_a_message_is_bare(data: str) -> None:
    request = asked(f'{{"type":"{CLOSE}","session":"4|x","data":{data},"id":7}}')
    assert plain(request.call) == ("Close", "4|x")
    assert request.envelope.reply(success=True) == '{"id":7,"success":true}'
    assert refused(f'{{"data":{data},"id":7}}') == ('{"id":7,"success":false}', "malformed")


def test_the_types_are_told_apart_from_all_others() -> None:
    others = [
        "", "close", "socket/resume", "fantaptik/react-auth", "fantaptik/react-auth/authenticate",
        "fantaptik/react-auth/resume", f"{CLOSE}\0", f" {CLOSE}", "Fantaptik/react-auth/close", "\u2603", "x" * 9_999,
    ]  # fmt: skip
    for other in others:
        message = {"type": other, "session": "4|x"}
        assert refused(message) == ('{"success":false}', "no_such_route")
        assert refused(message | {"id": 1}, enveloped=True) == ('{"id":1,"success":false}', "no_such_route")
        assert refused({"data": message, "id": 1}) == ('{"id":1,"data":{"success":false}}', "no_such_route")


def test_keys_may_be_spelled_with_escapes() -> None:
    request = asked('{"\\u0074ype":"fantaptik\\/react-auth\\/close","s\\u0065ssion":"4|\\u0078"}')
    assert plain(request.call) == ("Close", "4|x")


def test_keys_that_are_not_known_are_passed_over() -> None:
    request = asked({"type": CLOSE, "session": "4|x", "username": 1, "success": [{"type": 1}], "": None})
    assert plain(request.call) == ("Close", "4|x")


def test_of_a_key_that_stands_twice_the_last_one_counts() -> None:
    request = asked(f'{{"type":1,"type":"{CLOSE}","id":1,"session":"1|a","id":2,"session":"2|b"}}')
    assert (plain(request.call), request.envelope.reply(success=True)) == (
        ("Close", "2|b"),
        '{"id":2,"success":true}',
    )


@KINDS
@pytest.mark.parametrize("wrong", ["null", "1", "1.5", "true", "[]", '["4|x"]', '{"a":"b"}', "9" * 5_000])
def test_a_session_that_is_no_string_is_malformed(kind: str, wrong: str) -> None:
    message = f'{{"type":"{kind}","session":{wrong}}}'
    assert refused(message) == ('{"success":false}', "malformed")
    assert refused(f'{{"data":{message},"id":[7]}}') == ('{"id":[7],"data":{"success":false}}', "malformed")


@KINDS
def test_a_session_that_is_missing_is_malformed(kind: str) -> None:
    assert refused({"type": kind, "id": 7}) == ('{"id":7,"success":false}', "malformed")
    assert refused({"data": {"type": kind}}) == ('{"data":{"success":false}}', "malformed")


@pytest.mark.parametrize("wrong", ["null", "1", "true", "[]", '["x"]', '{"type":"x"}', "9" * 5_000])
def test_a_type_that_is_no_string_is_malformed(wrong: str) -> None:
    assert refused(f'{{"type":{wrong},"session":"4|x","id":null}}') == ('{"id":null,"success":false}', "malformed")


UNREADABLE = {
    "nothing": "", "blanks": " \n ", "no JSON": "hello", "an array": "[]", "a string": f'"{CLOSE}"', "a number": "1",
    "null": "null", "half an object": f'{{"type":"{CLOSE}"', "two objects": "{}{}", "a comma too many": '{"id":1,}',
    "NaN": '{"id":NaN}', "Infinity in data": '{"id":1,"data":[Infinity]}', "half a surrogate pair": '{"id":"\\ud800"}',
    "a bare NUL": '{"id":"\0"}', "a byte order mark": '\ufeff{"id":1}', "a list of messages": f'[{{"type":"{CLOSE}"}}]',
    "nested too deep": f'{{"id":1,"type":"{CLOSE}","session":"4|x","user":{"[" * 32 + "]" * 32}}}',
    "nested far too deep": '{"data":' * 10_000 + "1" + "}" * 10_000, "brackets that never close": "[" * 65_536,
}  # fmt: skip


@pytest.mark.parametrize("message", UNREADABLE.values(), ids=UNREADABLE.keys())
def test_what_cannot_be_read_is_answered_as_the_connection_speaks(message: str) -> None:
    assert refused(message) == ('{"success":false}', "malformed")
    assert refused(message, enveloped=True) == ('{"data":{"success":false}}', "malformed")


def test_what_can_be_read_is_answered_as_it_came() -> None:
    bare, enveloped = {"type": CLOSE, "session": "4|x"}, {"data": {"type": CLOSE, "session": "4|x"}}
    assert asked(bare, enveloped=True).envelope.reply(success=True) == '{"success":true}'
    assert asked(enveloped, enveloped=False).envelope.reply(success=True) == '{"data":{"success":true}}'
    assert refused({}, enveloped=True) == ('{"success":false}', "malformed")


def test_as_deep_as_the_limit_is_taken() -> None:
    deep = "[" * 31 + "]" * 31
    request = asked(f'{{"type":"{CLOSE}","session":"4|x","id":{deep}}}')
    assert request.envelope.reply(success=True) == f'{{"id":{deep},"success":true}}'


# Ids

IDS = [
    "null", "true", "false", "0", "-0", "1", "1.0", "1.10", "1e5", "1E+5", "-1.5e-300", "1e999", "9" * 5_000,
    '""', '"r"', r'"\u0041"', r'"\/"', r'"\u0000"', r'"\ud83d\ude00"', '"\U0001f600"', '"\u2028"', '"\x7f"',
    "[]", "[ ]", "{}", '{"b": 1, "a" : [1.0 ,2e0]}', '{"a":1,"a":2}', "[\n\t1,\r\n 2 ]", '{"id":1,"data":{"type":"x"}}',
]  # fmt: skip


def check_echo(written: str, around: str = "{}") -> None:
    """On success and on every kind of refusal, bare and enveloped, first and last among the keys."""
    stands = f'"id":{around.format(written)}'
    for message in (f'"type":"{CLOSE}","session":"4|x"', f'"type":"{CLOSE}"', '"type":1', '"type":"x"', '"x":1'):
        inner = f"{{{message}}}"
        bare = [f"{{{stands},{message}}}", f"{{{message},{stands}}}"]
        enveloped = [f'{{{stands},"data":{inner}}}', f'{{"data":{inner},{stands}}}']
        typed = '"type":"' in message
        for text in bare + (enveloped if typed else []):
            for speaks in (False, True):
                reply = read(text, enveloped=speaks).envelope.reply(success=False)
                dressed = '"data":{"success":false}' if text in enveloped else '"success":false'
                assert reply == f'{{"id":{written},{dressed}}}'


@pytest.mark.parametrize("written", IDS)
@pytest.mark.parametrize("around", ["{}", " {} ", "\n\t{}\r\n"])
def test_an_id_comes_back_byte_for_byte(written: str, around: str) -> None:
    check_echo(written, around)


JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("typedaionu", max_size=4), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@given(JSONS, st.booleans(), st.sampled_from([None, 1, "\t"]))
def test_an_id_of_any_json_comes_back_byte_for_byte(value: Any, ascii_only: bool, indent: int | str | None) -> None:
    check_echo(json.dumps(value, ensure_ascii=ascii_only, indent=indent))


KEYS = st.sampled_from(["type", "session", "user", "id", "data", "success", "x"])
VALUES = JSONS | st.sampled_from([RESUME, CLOSE, "4|x", {"type": CLOSE, "session": "4|x"}, {"type": RESUME}, {"id": 4}])


@given(st.dictionaries(KEYS, VALUES), st.booleans())
def test_any_object_is_answered_once_and_in_its_own_form(message: dict[str, Any], enveloped: bool) -> None:
    found = read(json.dumps(message), enveloped=enveloped)
    reply = json.loads(found.envelope.reply(success=False))
    data = message.get("data")
    dressed = isinstance(data, dict) and isinstance(data.get("type"), str)
    assert found.envelope.enveloped == dressed
    assert reply.pop("id", "none") == message.get("id", "none")
    assert reply == ({"data": {"success": False}} if dressed else {"success": False})
    said = data if isinstance(data, dict) and dressed else message
    known = said.get("type") in {RESUME, CLOSE} if isinstance(said.get("type"), str) else False
    assert isinstance(found, Request) == (known and isinstance(said.get("session"), str))


@given(st.text(max_size=200), st.booleans())
def test_any_text_is_answered(message: str, enveloped: bool) -> None:
    if not message.isascii():
        message = message.encode("utf-8", "replace").decode()
    found = read(message, enveloped=enveloped)
    assert json.loads(found.envelope.reply(success=False)) in (
        {"success": False},
        {"data": {"success": False}},
    )


# Who the client says it is


def believes(user: str | None, user_id: int = 17) -> bool:
    message = f'{{"type":"{RESUME}","session":"4|x"' + ("}" if user is None else f',"user":{user}}}')
    call = asked(message).call
    assert isinstance(call, Resume)
    assert asked(f'{{"data":{message}}}').call == call
    return call.believes(user_id)


@pytest.mark.parametrize(
    "user", [None, "{}", '{"id":17}', '{ "id" : 17 }', '{"name":"Mallory","level":2,"id":17}', '{"ID":18,"":1}',
             '{"id":18,"id":17}', '{"nested":{"id":18}}'],
)  # fmt: skip
def test_a_user_that_says_nothing_else_is_believed(user: str | None) -> None:
    assert believes(user)


@pytest.mark.parametrize(
    "user",
    [
        "null", "true", "1", "17", '"17"', "[]", '[{"id":17}]', '"{}"', "[17]",
        '{"id":18}', '{"id":1}', '{"id":171}', '{"id":-17}', '{"id":0}', '{"id":null}', '{"id":true}', '{"id":"17"}',
        '{"id":17.0}', '{"id":1.7e1}', '{"id":[17]}', '{"id":{"id":17}}', '{"id":17,"id":18}', '{"id":""}',
        '{"id":' + "9" * 5_000 + "}",
    ],
)  # fmt: skip
def test_a_user_who_is_somebody_else_or_no_object_is_not_believed(user: str) -> None:
    assert not believes(user)


def test_true_is_not_one() -> None:
    assert believes('{"id":1}', 1)
    assert not believes('{"id":true}', 1)


@given(JSONS)
def test_of_all_users_only_those_without_another_id_are_believed(user: Any) -> None:
    said = user.get("id", 17) if isinstance(user, dict) else None
    assert believes(json.dumps(user)) == (type(said) is int and said == 17)


# Notifications


def test_the_notification_is_what_the_contract_shows() -> None:
    assert notification(enveloped=False) == '{"type":"fantaptik/react-auth/close"}'
    assert notification(enveloped=True) == '{"data":{"type":"fantaptik/react-auth/close"}}'


def test_a_call_shows_no_token() -> None:
    for call in (Resume("4|secret", Raw(b'{"id":4}')), Resume("4|secret", UNSET), Close("4|secret")):
        assert repr(call) == f"{type(call).__name__}(\u2026)"
        assert call.__rich_repr__() == []
