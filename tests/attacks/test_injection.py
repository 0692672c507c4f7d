"""Metacharacters in every parameter of every address and in every field of every socket.

Nothing but documented refusals comes of them, or the text itself, to the letter: no fault, no line of the log that
somebody else wrote, no file, no header. Every test's service verifies afterwards; see the fixture.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import quote, urlencode

import httpx
import pytest

from tests.attacks.asking import COOKIE, Asking
from tests.attacks.hostile import request
from tests.attacks.metacharacters import ALL, CONTROLS, MARK, PRINTABLE, controls_in, signs_of, wrong_lines
from tests.attacks.scene import (
    AUTHENTICATE,
    CLIENT,
    PASSWORD,
    SOCKET_RESUME,
    SOCKETS,
    Operation,
    Person,
    Scene,
    playing,
)
from tests.attacks.test_transport import told
from tests.conformance.running import free_ports, fresh
from tests.conformance.talk import Talk, talk
from tests.guards.edge import upgrade

JSON: Final = "application/json"
FORM: Final = "application/x-www-form-urlencoded"
BEYOND: Final = 10**15
"""A position that no book has: nobody is made to listen without an end."""
HEADERS: Final = (
    "User-Agent", "Referer", "Origin", "Accept", "Accept-Language", "Accept-Encoding", "Content-Type", "Range",
    "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "Forwarded", "X-Real-IP", "X-Request-Id", "Traceparent",
    "If-None-Match", "Last-Event-ID", "X-Forwarded-Method", "Sec-Fetch-Site", "Authorization", "Cookie",
    "X-Original-URL", "X-HTTP-Method-Override", "Expect", "Via", "Date",
)  # fmt: skip


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A service that logs all it can, and that is unharmed when everybody is gone."""
    folder, metrics = tmp_path_factory.mktemp("injected"), f"127.0.0.1:{free_ports(1)[0]}"
    with playing(folder, log_level="debug", metrics=metrics, messages_per_second=1_000_000) as found:
        leave_a_mark(found)
        files = {path.name for path in folder.iterdir()}
        yield found
        is_unharmed(found, files, httpx.get(f"http://{metrics}/metrics", trust_env=False).text)


def leave_a_mark(scene: Scene) -> None:
    """Whatever else is sent: something has the service write a line, and something the command line shows."""
    who, text = scene.person(), CONTROLS["a terminal's title in eight bits"]
    assert scene.ask("PATCH", "/api/profile", token=who.token, json={"nickname": f"<{MARK}>"}).status_code == 200
    form, headers = {"identifier": who.name, "password": PASSWORD}, {"User-Agent": text, "X-Forwarded-For": text}
    assert scene.ask("POST", "/api/session", json=form, headers=headers).status_code == 201


def is_unharmed(scene: Scene, files: set[str], metrics: str) -> None:
    """The log, the folder, the metrics, the book and what the command line shows of it."""
    # What it tells whoever started it comes first, and is for people.
    log = scene.service.log.read_bytes().decode().partition("Ctrl-C stops it.\n")[2].removeprefix("\n")
    assert wrong_lines(log) == []
    assert "proxy_not_understood" in log, "what was sent has moved nobody to write a line"
    assert {path.name for path in scene.service.store.parent.iterdir()} == files
    assert MARK not in metrics
    assert signs_of(metrics) == []
    verified = scene.service.cli("verify")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    for shown in (("users", "list"), ("sessions", "list"), ("events",)):
        said = scene.service.cli(*shown)
        assert (said.returncode, controls_in(said.stdout + said.stderr)) == (0, []), shown
        assert MARK in said.stdout, "it shows nothing of what was sent"


class Attacker:
    """An admin who asks everything, in ways in which it can be done, and comes again when that ended the session."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.target = scene.person()
        self._admin = scene.person(admin=True)
        self._token = self._admin.token

    def parts(self, operation: Operation) -> dict[str, Any]:
        """Parts of the address that are there, and read models that are not where one would be rebuilt."""
        name = "nothing" if operation.template.endswith("rebuild") else "users"
        return {"name": name, "key": self.target.id, "id": self.target.id, "session_id": BEYOND, "position": 1}

    def query(self, operation: Operation) -> dict[str, str]:
        return {"after": str(BEYOND)} if operation.template.endswith("follow") else {}

    def shown(self, operation: Operation) -> dict[str, str]:
        """What says who asks."""
        if operation.takes("basic"):
            return dict(CLIENT)
        if operation.template == "/api/login":
            return {"Authorization": f"Bearer {self.scene.guest()}"}
        return {"Authorization": f"Bearer {self._token}"} if operation.takes("bearer") else {}

    def ask(
        self, operation: Operation, path: str, *, by: Asking | None = None, headers: dict[str, str], **body: Any
    ) -> httpx.Response:
        """One request, whose answer is held against the document unless another asks it; fails at any sign."""
        sent = {name.lower(): value for name, value in (self.shown(operation) | headers).items()}
        answer = (by or self.scene).ask(operation.method, path, headers=sent, **body)
        what = f"{operation.name} {path!r:.99} {headers!r:.99} {body!r:.99}: {answer.status_code} {answer.text!r:.99}"
        assert answer.status_code < 500, what
        assert MARK not in {*answer.headers, *answer.cookies}, what
        assert signs_of(answer.text) == [], what
        if answer.is_success and (operation.method == "DELETE" or operation.template == "/api/logout"):
            self._token = self.scene.logged_in(self._admin.name)
        return answer


@pytest.fixture(scope="module")
def attacker(scene: Scene) -> Attacker:
    return Attacker(scene)


def test_no_part_of_an_address_and_no_parameter_of_it_is_code(scene: Scene, attacker: Attacker) -> None:
    """ASVS 5.0: 1.2.4, 1.2.5, 1.3.7, 1.3.10, 2.2.1; CWE-89, CWE-22, CWE-78, CWE-113, CWE-1336, CWE-134."""
    asked = 0
    for operation in scene.operations():
        parts, query = attacker.parts(operation), attacker.query(operation)
        whole = operation.path(**parts)
        for number, text in enumerate(ALL.values()):
            # What has a slash is another address, of which the document knows nothing.
            by = scene.aside if "/" in text else scene
            for part in operation.parameters("path"):
                path = operation.path(**parts | {part: quote(text, safe="")})
                answer = attacker.ask(operation, path, by=by, headers={})
                assert answer.status_code in {400, 404, 415}, (operation.name, text)
                asked += 1
            for name in operation.parameters("query"):
                path = f"{whole}?{urlencode(query | {name: text})}"
                assert attacker.ask(operation, path, headers={}).status_code in {400, 404}, (operation.name, text)
                asked += 1
            if (number + len(whole)) % 4 == 0:
                # By turns: a parameter that nobody knows.
                path = f"{whole}?{urlencode(query | {text: text})}"
                attacker.ask(operation, path, by=scene.aside, headers={})
    assert asked > 10 * len(ALL)


def test_no_header_and_no_cookie_is_code(scene: Scene, attacker: Attacker) -> None:
    """ASVS 5.0: 1.2.1, 1.2.4, 16.4.1; CWE-89, CWE-117, CWE-644."""
    # All at once, since none of them is looked at in the light of another, but for those that say who asks.
    alone = {"Authorization", "Cookie", "Content-Type", "Origin"}
    for operation in scene.operations():
        path = f"{operation.path(**attacker.parts(operation))}?{urlencode(attacker.query(operation))}".rstrip("?")
        for number, text in enumerate(text.strip(" ") for text in PRINTABLE.values()):
            ways: list[dict[str, str]] = [
                {"Authorization": text}, {"Authorization": f"Bearer {text}"}, {"Origin": text}, {"Content-Type": text},
                {"Authorization": "", "Cookie": f"{text}={text}"}, {"Authorization": "", "Cookie": f"{COOKIE}={text}"},
            ]  # fmt: skip
            attacker.ask(operation, path, headers={name: text for name in HEADERS if name not in alone})
            # By turns: each way meets every text at one address or another.
            attacker.ask(operation, path, headers=ways[(number + len(path)) % len(ways)])


async def test_what_ends_a_line_ends_no_header(scene: Scene) -> None:
    """ASVS 5.0: 1.2.1, 16.4.1; CWE-93, CWE-113, CWE-117, CWE-150: sent byte by byte, which no client does."""
    for name in HEADERS:
        for text in CONTROLS.values():
            for method, path in (("GET", "/api/session"), ("POST", "/react-auth")):
                sent = request(f"{name}: {text}", "connection: close", "content-length: 0", method=method, path=path)
                answer = await told(scene.service.http, sent)
                assert answer.startswith((b"HTTP/1.1 4", b"HTTP/1.1 505")), (name, text)
                assert MARK.encode() not in answer
            opening = upgrade("/auth/v3", **{name.replace("-", "_"): text.encode()})
            answer = await told(scene.service.ws, opening)
            assert answer.startswith(b"HTTP/1.1 4"), (name, text)
            assert MARK.encode() not in answer


def good_body(scene: Scene, operation: Operation, target: Person) -> dict[str, Any]:
    """A body of which all is well that no metacharacters take the place of."""
    name = fresh("person")
    return {
        "POST /api/register": {
            "username": name,
            "nickname": name,
            "password": PASSWORD,
            "email": f"{name}@example.org",
        },
        "POST /api/session": {"identifier": target.name, "password": PASSWORD},
        "POST /react-auth": {"type": AUTHENTICATE, "username": target.name, "password": PASSWORD},
        "POST /api/login": {"email": target.name, "password": PASSWORD},
        "PATCH /api/profile": {"nickname": name},
    }.get(operation.name, {})


def test_no_field_of_a_body_is_code(scene: Scene, attacker: Attacker) -> None:
    """ASVS 5.0: 1.2.3, 1.2.4, 1.2.5, 1.3.7, 1.5.2, 2.2.1; CWE-89, CWE-78, CWE-116, CWE-502, CWE-1336."""
    asked = 0
    for operation in scene.operations():
        if not operation.media:
            continue
        path = operation.path(**attacker.parts(operation))
        for text in ALL.values():
            for name in sorted(scene.fields(operation)):
                body = good_body(scene, operation, attacker.target) | {name: text}
                for kind, how in ((JSON, "json"), (FORM, "data")):
                    if kind in operation.media:
                        sent: dict[str, Any] = {how: body}
                        attacker.ask(operation, path, headers={}, **sent)
                        asked += 1
            for kind in operation.media:
                content = json.dumps({text: text}) if kind == JSON else urlencode({text: text})
                answer = attacker.ask(operation, path, headers={"Content-Type": kind}, content=content.encode())
                assert answer.is_client_error or operation.template == "/react-auth", (operation.name, text)
    assert asked > 10 * len(ALL)


ROUTES: Final[dict[str, tuple[str, ...]]] = {
    "auth.login": ("username", "password"),
    "auth.authenticate": ("session_key",),
    "auth.register": ("username", "password", "nickname"),
    "auth.update_profile": ("nickname", "old_password", "new_password"),
    "auth.logout": (),
}
REFUSALS: Final = {400, 401, 403, 404, 429, 450}


async def answered(talking: Talk, packet: dict[str, Any]) -> dict[str, Any]:
    """The answer, which has the receipt as it was sent, and is a documented one."""
    answer = await talking.ask(packet)
    assert answer.get("receipt") == packet.get("receipt")
    assert answer["data"]["error_code"] in REFUSALS if answer.get("error") else True
    assert signs_of(json.dumps(answer.get("data"))) == []
    return answer


@pytest.mark.parametrize("path", SOCKETS)
async def test_no_field_of_a_message_is_code(scene: Scene, path: str) -> None:
    """ASVS 5.0: 1.2.3, 1.2.4, 1.3.7, 2.2.1; CWE-89, CWE-78, CWE-116, CWE-1336: receipts come back as they were sent."""
    who = scene.person()
    good = {"username": who.name, "password": PASSWORD, "session_key": who.token, "nickname": who.name}
    async with talk(scene.service, path) as talking:
        for text in ALL.values():
            if path == "/react-auth":
                for message in (
                    {"type": text, "session": who.token}, {"type": SOCKET_RESUME, "session": text}, {text: text},
                    {"type": SOCKET_RESUME, "session": who.token, "user": {"id": text}},
                    {"type": [text], "session": {}},
                ):  # fmt: skip
                    assert await talking.ask({"id": text, **message}) == {"id": text, "success": False}
                    assert await talking.ask({"id": {text: text}, "data": {"type": "", **message}}) is not None
                continue
            for route, fields in ROUTES.items():
                data = {name: good[name] for name in fields if name in good}
                for name in fields:
                    await answered(talking, {"route": route, "receipt": text, "data": data | {name: text}})
                await answered(talking, {"route": route, "receipt": {text: [text]}, "data": {text: text}})
                await answered(talking, {"route": f"{route}{text}", "receipt": text, "data": {}})
            assert (await answered(talking, {"route": text, "receipt": text, "data": text}))["route"] == text
        assert scene.ask("GET", "/api/session", token=who.token).json()["user"]["id"] == who.id


def test_a_text_is_the_text_that_it_is(scene: Scene) -> None:
    """ASVS 5.0: 1.1.1, 1.1.2, 1.2.3; CWE-116, CWE-79, CWE-150: what is taken comes back to the letter."""
    nicknames, agents, reasons = set(), set(), set()
    for name, text in ALL.items():
        who = scene.person()
        short = f"{text[:22]}{who.id}"
        changed = scene.ask("PATCH", "/api/profile", token=who.token, json={"nickname": short})
        me = scene.ask("GET", "/api/session", token=who.token).json()["user"]
        if changed.status_code == 200:
            nicknames.add(name)
        assert me["nickname"] == (short if changed.status_code == 200 else who.name)
        if name in PRINTABLE and name != "long":
            form, agent = {"identifier": who.name, "password": PASSWORD}, text.strip(" ")
            token = scene.ask("POST", "/api/session", json=form, headers={"User-Agent": agent}).json()["token"]
            mine = scene.ask("GET", "/api/sessions", token=token).json()["sessions"]
            # Bytes of a header that are no ASCII stand for themselves.
            assert agent.encode().decode("latin-1") in {one["agent"] for one in mine}, name
            agents.add(name)
        path = f"/admin/api/users/{who.id}/deactivate"
        if scene.ask("POST", path, token=scene.warden.token, json={"reason": text}).status_code == 200:
            query = f"/admin/api/events?user={who.id}&type=user.deactivated"
            [event] = scene.ask("GET", query, token=scene.warden.token).json()["events"]
            assert event["reason"] == text
            reasons.add(name)
    assert {"SQL", "HTML", "templates", "a command"} <= nicknames & agents & reasons
    assert not nicknames & CONTROLS.keys()
