"""Mass assignment: fields that nobody asked for, at every registration, login and change of every door.

The words are all that the service's own document knows, of accounts, sessions, events and settings, and what other
services call them. Whoever sends them gets what an honest client gets who does not, field by field.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest

from events.catalogue import USER
from tests.attacks.scene import AUTHENTICATE, PASSWORD, SOCKET_RESUME, Person, Scene
from tests.conformance.running import fresh
from tests.conformance.talk import talk
from tests.credentials.forging import unb64

JSON: Final = "application/json"
USUAL: Final = (
    "admin", "is_admin", "isAdmin", "administrator", "role", "roles", "group", "is_staff", "permissions", "scope",
    "verified", "email_verified", "enabled", "owner", "_id", "uid", "pk", "__proto__", "constructor", "prototype",
    "__class__", "__dict__", "__init__", "$set", "$where", "user", "account", "session", "user[level]", "user.level",
    "level[]", "Level", "LEVEL", " level", "level ", "level\0", "l\u0435vel", "is_active", "lifetime", "ttl", "max_age",
    "session_lifetime", "expires", "open_sessions", "token_lifetime", "throttle", "user_levels", "door", "actor", "at",
    "password_hash", "hash", "created_at", "now", "position", "stream", "command_id", "replaces",
)  # fmt: skip
VALUES: Final[dict[str, Any]] = {
    "active": False, "id": 1, "user_id": 1, "session_id": 1, "level": 2, "expires_at": "2999-01-01T00:00:00Z",
    "lifetime": 10**9, "session_lifetime": 10**9, "ttl": 10**9, "max_age": 10**9, "open_sessions": [],
    "password_hash": "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$AAAAAAAAAAAAAAAAAAAAAA", "__proto__": {"level": 2},
    "constructor": {"prototype": {"level": 2}}, "user": {"level": 2, "active": False, "id": 1}, "role": "admin",
    "roles": ["admin"], "$set": {"level": 2}, "door": "command-line", "actor": "operator",
}  # fmt: skip
LIFETIME: Final = timedelta(days=1)


@pytest.fixture(scope="module")
def words(scene: Scene) -> dict[str, Any]:
    """Every field that the service knows anywhere, and the usual ones, with a value that would do harm."""
    known: set[str] = set()
    for schema in scene.components.values():
        known |= schema.get("properties", {}).keys()
    assert {"level", "active", "password_hash", "expires_at", "user_id"} <= known
    return {name: VALUES.get(name, 2) for name in sorted(known | {*USUAL, *VALUES})}


def handfuls(words: Mapping[str, Any], *taken: str) -> list[dict[str, Any]]:
    """The words without those that are asked for, some at a time: a form has a hundred fields at most."""
    left = [(name, value) for name, value in words.items() if name not in taken]
    return [dict(left[at : at + 60]) for at in range(0, len(left), 60)]


def written(words: Mapping[str, Any]) -> dict[str, str]:
    """The same for a form."""
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in words.items()}


def is_plain(scene: Scene, token: str, who: Person, since: datetime, door: str, **changed: str) -> None:
    """Account and session are what an honest client's are, in the book and for whoever asks, and the admin is one."""
    me = scene.ask("GET", "/api/session", token=token).json()["user"]
    names = {"username": who.name, "nickname": who.name} | changed
    assert {field: me[field] for field in names} == names
    assert (me["id"], me["level"], me["active"]) == (who.id, 1, True)
    user = scene.document("users", who.id)
    assert (user.id, user.level, user.active, user.password_version) == (who.id, USER, True, who.id)
    assert since <= user.created_at <= user.last_contact <= datetime.now(UTC)
    session = scene.document("sessions", token.partition("|")[0])
    assert (session.user_id, session.guest, session.door) == (who.id, False, door)
    assert timedelta() <= session.expires_at - session.opened_at - LIFETIME < timedelta(seconds=1)
    assert since <= session.opened_at <= datetime.now(UTC)
    assert scene.ask("GET", "/admin/api/projections", token=token).status_code == 403
    assert scene.logged_in(who.name)
    assert scene.ask("GET", "/admin/api/projections", token=scene.warden.token).status_code == 200


def test_a_body_has_the_fields_that_its_address_knows_and_no_other(scene: Scene, words: dict[str, Any]) -> None:
    """ASVS 5.0: 15.3.3, 2.2.1; CWE-915: one more, whichever it is, and nothing at all is done."""
    admin = scene.person(admin=True)
    name, other = fresh("person"), scene.person()
    good: dict[str, dict[str, Any]] = {
        "POST /api/register": {"username": name, "nickname": name, "password": PASSWORD},
        "POST /api/session": {"identifier": admin.name, "password": PASSWORD},
        "PATCH /api/profile": {"nickname": fresh("nick")},
        "POST /admin/api/users/{id}/level": {"level": 2},
    }
    alone = {*USUAL, *VALUES, *(name for one in ("User", "Session", "UserView") for name in scene.fields_of(one))}
    before, asked = scene.head, set()
    for operation in scene.operations():
        if operation.media != (JSON,):
            continue
        id_ = other.session if "sessions" in operation.template else other.id
        for word in alone - scene.fields(operation):
            answer = scene.ask(
                operation.method, operation.path(id=id_, name="activity"), token=admin.token,
                json=good.get(operation.name, {}) | {word: words[word]},
            )  # fmt: skip
            assert answer.status_code == 400, (operation.name, word)
            assert "not known here" in answer.text, (operation.name, word)
        asked.add(operation.name)
    assert asked > good.keys()
    assert scene.head == before
    for operation_name, body in good.items():
        method, _, path = operation_name.partition(" ")
        answer = scene.ask(method, path.replace("{id}", str(other.id)), token=admin.token, json=body)
        assert answer.is_success, operation_name


def test_a_query_says_nothing_of_an_account(scene: Scene, words: dict[str, Any]) -> None:
    """ASVS 5.0: 15.3.3, 15.3.7; CWE-915, CWE-235: what stands in the address is no part of the body."""
    since, name = datetime.now(UTC), fresh("person")
    form = {"username": name, "nickname": name, "password": PASSWORD}
    query = written(words)
    registered = scene.aside.ask("POST", "/api/register", json=form, params=query)
    assert registered.status_code == 201
    opened = scene.aside.ask("POST", "/api/session", json={"identifier": name, "password": PASSWORD}, params=query)
    token = opened.json()["token"]
    who = Person(registered.json()["id"], name, token)
    is_plain(scene, token, who, since, "account-api")
    changed = scene.aside.ask("PATCH", "/api/profile", token=token, json={"nickname": f"{name}!"}, params=query)
    assert changed.status_code == 200
    is_plain(scene, token, who, since, "account-api", nickname=f"{name}!")


@pytest.mark.parametrize("kind", ["json", "data"])
def test_a_login_over_http_opens_an_honest_session(scene: Scene, words: dict[str, Any], kind: str) -> None:
    """ASVS 5.0: 15.3.3; CWE-915: at the doors that pass over what they do not know, as a form and as JSON."""
    since = datetime.now(UTC)
    who = scene.person()
    for some in handfuls(words, "type", "username", "password", "email"):
        more = some if kind == "json" else written(some)
        body: dict[str, Any] = {kind: {"type": AUTHENTICATE, "username": who.name, "password": PASSWORD} | more}
        answer = scene.ask("POST", "/react-auth", **body)
        assert (answer.json()["user"]["id"], answer.json()["user"]["level"]) == (who.id, 1)
        is_plain(scene, answer.json()["session"], who, since, "react-auth")

        body = {kind: more}
        token = scene.ask("POST", "/api/authenticate", **body).json()["at"]
        session = scene.document("sessions", token.partition("|")[0])
        assert (session.guest, session.user_id, session.door) == (True, session.id, "auth-server")
        body = {kind: {"email": who.name, "password": PASSWORD} | more}
        answer = scene.ask("POST", "/api/login", token=token, **body)
        is_plain(scene, answer.json()["at"], who, since, "auth-server")


@pytest.mark.parametrize("version", [1, 2])
async def test_a_login_over_a_socket_opens_an_honest_session(scene: Scene, words: dict[str, Any], version: int) -> None:
    """ASVS 5.0: 15.3.3; CWE-915: in the packet and in its data."""
    since = datetime.now(UTC)
    who = scene.person()
    for some in handfuls(words, "username", "password", "session_key", "device_key", "route", "receipt", "data"):
        data = {"username": who.name, "password": PASSWORD} | some
        async with talk(scene.service, f"/auth/v{version}") as talking:
            answer = await talking.ask(some | {"route": "auth.login", "data": data})
            token = answer["data"]["session_key"]
            assert (answer["data"]["user"]["id"], answer["data"]["user"]["level"]) == (who.id, 1)
            is_plain(scene, token, who, since, f"route-v{version}")
            again = await talking.call("authenticate", session_key=token, **some)
            said = again["data"]["user"]
            assert (said["id"], said["level"], said["active"]) == (who.id, 1, True)
        is_plain(scene, token, who, since, f"route-v{version}")


async def test_whoever_registers_over_a_socket_is_a_plain_user(scene: Scene, words: dict[str, Any]) -> None:
    """ASVS 5.0: 15.3.3; CWE-915, CWE-269."""
    since, several = datetime.now(UTC), handfuls(words, "username", "password", "nickname", "route", "receipt", "data")
    levels = [{"level": value, "active": value} for value in (2, "2", 2.0, True, [2], {"$gt": 0}, None, "admin", 2**70)]
    async with talk(scene.service, "/auth/v2") as talking:
        for some in [*several, *levels]:
            name = fresh("person")
            data = {"username": name, "nickname": name, "password": PASSWORD} | some
            answer = await talking.ask(some | {"route": "auth.register", "receipt": 1, "data": data})
            assert answer["error"] is False
            token = scene.logged_in(name)
            me = scene.ask("GET", "/api/session", token=token).json()["user"]
            is_plain(scene, token, Person(me["id"], name, token), since, "account-api")


async def test_a_change_over_a_socket_changes_what_it_may(scene: Scene, words: dict[str, Any]) -> None:
    """ASVS 5.0: 15.3.3, 8.2.3; CWE-915, CWE-269."""
    since = datetime.now(UTC)
    who, token = scene.person(), ""
    taken = ("nickname", "old_password", "new_password", "route", "receipt", "data", "username")
    async with talk(scene.service, "/auth/v2") as talking:
        token = await talking.log_in(who.name, PASSWORD)
        for some in handfuls(words, *taken):
            before = scene.document("users", who.id)
            # Without anything of its own there is nothing to change.
            answer = await talking.ask(some | {"route": "auth.update_profile", "receipt": 1, "data": some})
            assert answer["error"] is False
            assert scene.document("users", who.id) == before
            nickname = fresh("nick")
            data = some | {"nickname": nickname, "username": "another"}
            answer = await talking.ask(some | {"route": "auth.update_profile", "receipt": 1, "data": data})
            assert answer["error"] is False
            is_plain(scene, token, who, since, "route-v2", nickname=nickname)


async def test_what_a_client_believes_of_its_user_is_nothing(scene: Scene, words: dict[str, Any]) -> None:
    """ASVS 5.0: 15.3.3, 8.3.1; CWE-915, CWE-602: react-auth's clients send a whole user along."""
    since = datetime.now(UTC)
    who = scene.person()
    before = scene.head
    async with talk(scene.service, "/react-auth") as talking:
        for some in handfuls(words, "type", "session", "user", "id", "data"):
            user = some | {"id": who.id, "level": 2, "active": False}
            message = some | {"type": SOCKET_RESUME, "session": who.token, "user": user}
            assert await talking.ask(message) == {"success": True}
            assert await talking.ask({"data": message, **some}) == {"data": {"success": True}}
    assert scene.head == before
    is_plain(scene, who.token, who, since, "account-api")


def test_an_access_token_says_what_is_so(scene: Scene, words: dict[str, Any]) -> None:
    """ASVS 5.0: 15.3.3, 9.2.3; CWE-915: nobody asks for another account's, for a longer one or for another audience."""
    who = scene.person()
    honest = claims_of(scene.access_token(who.token))
    wanted = {
        "sub": str(scene.warden.id),
        "sid": scene.warden.session,
        "aud": "bank",
        "iss": "x",
        "exp": 2**40,
        "level": 2,
    }
    for kind in ("json", "data"):
        body: dict[str, Any] = {kind: written(words | wanted) if kind == "data" else words | wanted}
        answer = scene.aside.ask("POST", "/api/token", token=who.token, **body)
        claims = claims_of(answer.json()["access_token"])
        assert claims.keys() == honest.keys()
        fixed = ("sub", "sid", "aud", "iss", "client_id")
        assert [claims[name] for name in fixed] == [honest[name] for name in fixed]
        assert claims["exp"] - claims["iat"] == 300
    assert scene.ask("POST", "/api/token?aud=bank", token=who.token).status_code == 400


def claims_of(token: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(unb64(token.split(".")[1]))
    return found
