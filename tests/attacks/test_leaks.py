"""Canaries: secrets that went through every door, well and badly, stand nowhere but where they are promised to.

Passwords, names, addresses, agents, tokens, cookies and keys are taken to a running service; then its answers, its log,
its files, its metrics and its processes are searched for them, in any spelling and as hashes that anybody could make.

What may stand where: a name in the answers to its owner and to admins, and sealed in the book; a token or cookie in the
one answer that hands it out (and where its owner shows it to be told of it), its SHA-256 in the book; the master key in
its file, or in the environment where the operator put it. A password stands nowhere.
"""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from secrets import token_bytes
from subprocess import CompletedProcess
from typing import Final, NamedTuple
from urllib.parse import quote

import apsw
import httpx
import pytest
import trio

from tests.attacks.canaries import Canaries, fresh_word
from tests.attacks.front import Front
from tests.attacks.visitors import CLIENT, CLOSE, SOCKET_RESUME, Visit
from tests.conformance.running import FAST, PATIENCE, Running, free_ports, running
from tests.conformance.talk import talk

Place = tuple[str, bytes]
"""Where something stands, and all that stands there."""

ENVIRONMENT: Final = "JSON, key in the environment"
FILE: Final = "console, key in a file"

NOBODY: Final = f"username:{hashlib.sha256().hexdigest()}"
CHILDREN: Final = {
    b"service.past": ("GET", f"/admin/api/projections/names/{NOBODY}?at=1"),
    b"service.rebuild_child": ("POST", "/admin/api/projections/names/rebuild"),
}
"""What the service does in a process of its own, and how it is asked to."""

FAULTS: Final = (
    "UPDATE read_users SET document = json_set(document, '$.username.box', substr(document ->> '$.username.box', 5))",
    "UPDATE read_users SET document = json_set(document, '$.password_hash.box', 'AAAA')",
    "UPDATE read_sessions SET document = json_remove(document, '$.id')",
    "UPDATE read_users SET document = json_remove(document, '$.id')",
)
"""What makes documents unreadable, each in another way."""


class Found(NamedTuple):
    """What a service said and left behind, after every visitor was there."""

    visit: Visit
    log: Place
    public: list[Place]
    command_lines: list[Place]
    environments: list[Place]
    files: list[Place]
    commands: list[Place]

    @property
    def canaries(self) -> Canaries:
        return self.visit.front.canaries

    @property
    def tokens(self) -> set[str]:
        """The canaries of which the book keeps a SHA-256: the tokens of sessions, of 238 bits of chance."""
        return {name for name in self.canaries if "token" in name and "device" not in name} - {"an access token"}

    def leaks(self, *places: Place, besides: Iterable[str] = (), hashed: Iterable[str] = ()) -> dict[str, list[str]]:
        """The canaries by place, but for those that may stand there."""
        but, as_hash = {*besides}, {*hashed}
        found = {place: self.canaries.found_in(data, besides=but, hashed=as_hash) for place, data in places}
        return {place: names for place, names in found.items() if names}


@pytest.fixture(scope="module", params=[ENVIRONMENT, FILE])
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Found:
    with_variable = request.param == ENVIRONMENT
    folder, metrics = tmp_path_factory.mktemp("canaries"), f"127.0.0.1:{free_ports(1)[0]}"
    canaries, secret = Canaries(), fresh_word() * 4
    canaries.add("a password hash", "$argon2id$v=")
    master = canaries.add("the master key", base64.b64encode(token_bytes(32)).decode())
    settings = FAST | {
        "metrics": metrics, "log_level": "debug", "log_format": "json" if with_variable else "console",
        "trusted_proxies": "127.0.0.1", "throttle_account_failures": 10_000,
    }  # fmt: skip
    variables = {"GATEBOOK_INTROSPECTION_CLIENTS": f"{CLIENT}:{hashlib.sha256(secret.encode()).hexdigest()}"}
    if with_variable:
        variables["GATEBOOK_MASTER_KEY"] = master
    else:
        key_file = tmp_path_factory.mktemp("key") / "master"
        key_file.touch(0o600)
        key_file.write_text(master)
        variables["GATEBOOK_MASTER_KEY_FILE"] = str(key_file)
    with (
        running(folder, variables=variables, **settings) as service,
        closing(Front(service, metrics, canaries)) as front,
    ):
        visit = Visit(front, secret)
        commands = typed(service, visit, wrongly=with_variable)
        visit.all(everywhere=with_variable)
        command_lines, environments = processes(service, visit)
        addresses = (f"http://{metrics}/metrics", f"{service.http}/openapi.json", f"{service.http}/health/ready")
        public = [(address, httpx.get(address, trust_env=False).content) for address in addresses]
        commands += told(service) if with_variable else []
        files = [(path.name, path.read_bytes()) for path in folder.glob("gatebook.*")]
    files += [(f"{path.name}, at rest", path.read_bytes()) for path in folder.glob("gatebook.*")]
    log = (service.log.name, service.log.read_bytes())
    return Found(visit, log, public, command_lines, environments, files, commands)


def typed(service: Running, visit: Visit, *, wrongly: bool) -> list[Place]:
    """What the command line says to an operator who types passwords, good ones and, if so, bad ones."""
    warden, typing = visit.warden, "--password-stdin"
    add = ("users", "add", warden.username, "--nickname", warden.nickname, "--email", warden.email, "--level", "admin")
    change = ("users", "set-password", warden.username)
    new = visit.front.canaries.add("wa's new password", fresh_word())
    lines: list[tuple[int, tuple[str, ...], str]] = [(0, (*add, typing), warden.password)]
    if wrongly:
        lines = [(1, (*add, typing), warden.password[:7]), *lines, (1, (*change, typing, "--json"), warden.nickname)]
        lines.append((0, (*change, typing), new))
    ends = [(code, service.cli(*line, given=given)) for code, line, given in lines]
    assert all(end.returncode == code for code, end in ends), ends
    warden.password = lines[-1][2]
    return [(" ".join(end.args), (end.stdout + end.stderr).encode()) for _, end in ends]


def told(service: Running) -> list[Place]:
    """What the command line tells of the book."""
    lines = (
        ("users", "list", "--json"), ("sessions", "list", "--json"), ("events", "--json"),
        ("events",), ("replay", "--json"), ("doctor",),
    )  # fmt: skip
    with ThreadPoolExecutor(2) as pool:
        ends: list[CompletedProcess[str]] = list(pool.map(lambda line: service.cli(*line), lines))
    assert [end.returncode for end in ends] == [0] * len(lines), [end.stderr for end in ends]
    return [(" ".join(line), (end.stdout + end.stderr).encode()) for line, end in zip(lines, ends, strict=True)]


def processes(service: Running, visit: Visit) -> tuple[list[Place], list[Place]]:
    """The command lines and the environments of the service and of children of both kinds, as every user sees them."""
    own, deadline = Path(f"/proc/{service.process.pid}"), time.monotonic() + PATIENCE
    seen = {own: ((own / "cmdline").read_bytes(), (own / "environ").read_bytes())}
    with ThreadPoolExecutor(1) as pool:
        for module, (method, path) in CHILDREN.items():
            answer = pool.submit(service.ask, method, path, token=visit.handed["the admin's token"])
            while not any(module in line for line, _ in seen.values()):
                assert time.monotonic() < deadline, f"{path} had no child"
                for children in own.glob("task/*/children"):
                    for child in (Path(f"/proc/{pid}") for pid in children.read_text().split()):
                        # It may be over by now. What it was before it became what it is, is told again.
                        with suppress(OSError):
                            seen[child] = ((child / "cmdline").read_bytes(), (child / "environ").read_bytes())
            assert answer.result().status_code in {202, 404}
    lines = {str(process): line for process, (line, _) in seen.items()}
    return [*lines.items()], [(str(process), environment) for process, (_, environment) in seen.items()]


def test_no_answer_and_no_close_reason_tells_what_is_not_its_readers(found: Found) -> None:
    """ASVS 14.2.6, 16.5.1; CWE-209, CWE-201."""
    heard = found.visit.front.heard
    leaks = [(said.to, names) for said in heard if (names := found.canaries.found_in(said.data, besides=said.may))]
    assert leaks == []
    assert len(heard) > 200
    # What each door hands out was found where it was handed out, so it would be found elsewhere.
    handed = {name for said in heard for name in found.canaries.found_in(said.data) if name in said.may}
    assert handed >= found.visit.handed.keys() | found.visit.alice.shown | found.visit.warden.shown | {"a receipt"}


def test_no_line_of_the_log_holds_a_secret(found: Found) -> None:
    """ASVS 16.2.5; CWE-532."""
    assert found.leaks(found.log) == {}
    assert b"listening" in found.log[1]


def test_the_files_of_the_store_hold_nothing_that_is_not_sealed(found: Found) -> None:
    """ASVS 11.4.2, 14.2.4; CWE-312, CWE-256. Of tokens the SHA-256 stands there; of names and passwords not that."""
    assert found.leaks(*found.files, hashed=found.tokens) == {}
    names = {name.partition(",")[0] for name, _ in found.files}
    assert names >= {"gatebook.db", "gatebook.db-wal", "gatebook.keys.db", "gatebook.keys.db-wal"}
    # The book is not empty, and what stands there is found.
    hashed = found.leaks(*(place for place in found.files if place[0] == "gatebook.db, at rest"))
    assert set(hashed["gatebook.db, at rest"]) == found.tokens


def test_metrics_health_and_the_openapi_document_hold_none(found: Found) -> None:
    """ASVS 13.4.5, 14.2.4; CWE-200."""
    assert found.leaks(*found.public) == {}


def test_no_command_line_of_a_process_holds_a_secret(found: Found) -> None:
    """CWE-214: everybody on the machine may read it."""
    assert found.leaks(*found.command_lines) == {}


def test_the_environment_of_processes_holds_the_master_key_where_the_operator_put_it_there_and_else_nothing(
    found: Found, request: pytest.FixtureRequest
) -> None:
    """CWE-526. A client's secret is in the settings as its SHA-256 alone."""
    leaks = found.leaks(*found.environments, hashed={"the client's secret"})
    in_variable = request.node.callspec.params["found"] == ENVIRONMENT
    assert leaks == ({place: ["the master key"] for place, _ in found.environments} if in_variable else {})


def test_the_command_line_shows_names_and_nothing_that_opens_a_door(found: Found) -> None:
    """ASVS 14.2.6, 16.5.1; CWE-200, CWE-209."""
    assert found.leaks(*found.commands, besides=found.visit.seen_by_admins) == {}


def test_a_fault_of_ours_tells_nothing_either(tmp_path: Path) -> None:
    """ASVS 16.5.1, 16.5.4; CWE-209, CWE-532: documents that cannot be read, under everything that asks for them."""
    canaries, metrics = Canaries(), f"127.0.0.1:{free_ports(1)[0]}"
    settings = FAST | {"metrics": metrics, "log_level": "debug", "trusted_proxies": "127.0.0.1"}
    with running(tmp_path, faults=True, **settings) as service, closing(Front(service, metrics, canaries)) as front:
        visit = Visit(front, fresh_word())
        visit.register(visit.alice)
        token = visit.log_in(visit.alice, "a token")
        statuses = []
        for statement in FAULTS:
            with closing(apsw.Connection(str(service.store))) as connection:
                connection.execute(statement)
            statuses += [answer.status_code for answer in faulty(visit, token)]
        trio.run(faulty_sockets, visit, token)
        errors = service.errors()
    log = service.log.read_bytes()
    assert {500, 503} <= set(statuses) <= {200, 201, 500, 503}
    assert len(errors) > 5
    assert canaries.found_in(log) == []
    assert [said.to for said in front.heard if canaries.found_in(said.data, besides=said.may)] == []


def faulty(visit: Visit, token: str) -> list[httpx.Response]:
    """Requests that need the documents of the account and of its session."""
    ask, alice = visit.front.ask, visit.alice
    by = alice.headers
    good = {"identifier": alice.username, "password": alice.password}
    form = {"type": "fantaptik/react-auth/authenticate", "username": alice.username, "password": alice.password}
    change = {"old_password": alice.password, "new_password": alice.nickname}
    return [
        ask("POST", "/api/session", headers=by, json=good), ask("POST", "/react-auth", headers=by, data=form),
        ask("GET", "/api/session", headers=by, token=token, may=alice.names),
        ask("GET", "/api/sessions", headers=by, token=token, may=alice.shown),
        ask("PATCH", "/api/profile", headers=by, token=token, json=change), ask("POST", "/api/token", token=token),
        ask("GET", "/verify", token=token),
    ]  # fmt: skip


async def faulty_sockets(visit: Visit, token: str) -> None:
    """The same over sockets, which are closed: nobody can say."""
    alice, by = visit.alice, visit.alice.headers
    login = {"username": alice.username, "password": alice.password}
    for path, message in (
        ("/auth/v2", {"route": "auth.authenticate", "data": {"session_key": token}}),
        ("/auth/v1", {"route": "auth.login", "data": login}),
        ("/react-auth", {"type": SOCKET_RESUME, "session": token, "user": alice.account}),
        ("/react-auth", {"type": CLOSE, "session": token, "user": alice.account}),
    ):
        async with talk(visit.front.service, path, by) as found:
            with visit.front.closing(f"a message at {path}", 1013):
                await found.tell(message)
                await found.hear()


@pytest.mark.parametrize("value", ["3f1c9d5ab2e87704", "Grüße ☃ 9f2c", "ab|cdEF0123456789xyz"])
@pytest.mark.parametrize("around", [b"", b"x", b"xy", b"\0" * 65_530])
def test_the_search_finds_every_spelling_wherever_it_stands(value: str, around: bytes) -> None:
    canaries = Canaries()
    canaries.add("it", value)
    plain, digest = value.encode(), hashlib.sha256(value.encode()).digest()
    for spelling in (
        plain, plain.hex().encode(), base64.b64encode(around[:2] + plain), json.dumps(value).encode(),
        base64.urlsafe_b64encode(around[:2] + plain + around[:1]), value.encode("utf-16-le"), quote(value).encode(),
        repr(value).encode(), repr(plain).encode()[2:-1],
    ):  # fmt: skip
        assert canaries.found_in(around + spelling + b"tail") == ["it"], spelling
        assert canaries.found_in(around + spelling[:6] + b"tail") == []
        assert canaries.found_in(around + spelling, besides={"it"}) == []
    for spelling in (digest, digest.hex().encode(), hashlib.md5(plain).hexdigest().upper().encode()):  # noqa: S324 - ours
        assert canaries.found_in(around + spelling) == ["it"]
        assert canaries.found_in(around + spelling, hashed={"it"}) == []
