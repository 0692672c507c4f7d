"""Races over real sockets, fifty at a time, between two processes on one store: what must hold, holds each time.

Each round all contenders wait with the last byte of their request in hand until everybody is there. `GATEBOOK_RACES`
says how many rounds there are (3 by default): `GATEBOOK_RACES=500 make test ARGS=tests/attacks/test_races.py`.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Callable, Iterator
from functools import partial
from itertools import cycle, islice
from typing import Final, NamedTuple
from urllib.parse import urlencode

import pytest
import trio

from tests.attacks.arena import HTTP, Answer, Arena, Contender, Socket, arena, together
from tests.conformance.running import FAST, Running, fresh, running

FIFTY: Final = 50
ROUNDS: Final = int(os.environ.get("GATEBOOK_RACES", "3"))
FEWER: Final = max(1, ROUNDS // 3)
"""Rounds of what takes long."""
SESSIONS: Final = 60
"""The setting `sessions_per_user` here: more than contend at once, fewer than contend twice."""

PASSWORD: Final = "correct horse battery"
ANOTHER: Final = "plover cistern gravity"
AUTHENTICATE: Final = "fantaptik/react-auth/authenticate"
RESUME: Final = "fantaptik/react-auth/resume"
SOCKET_RESUME: Final = "fantaptik/react-auth/socket/resume"
CLOSE: Final = "fantaptik/react-auth/close"
SECRET: Final = "0123456789abcdef" * 4
BASIC: Final = {"Authorization": f"Basic {base64.b64encode(f'shop:{SECRET}'.encode()).decode()}"}

Pair = tuple[Running, Running]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Two processes on one store."""
    folder = tmp_path_factory.mktemp("races")
    variables = {"GATEBOOK_INTROSPECTION_CLIENTS": f"shop:{hashlib.sha256(SECRET.encode()).hexdigest()}"}
    settings = FAST | {"sessions_per_user": SESSIONS, "throttle_account_failures": 10_000}
    with (
        running(folder, variables=variables, **settings) as one,
        running(folder, variables=variables, **settings) as other,
    ):
        yield one, other


class Person(NamedTuple):
    """Somebody with an account."""

    id: int
    name: str


async def registered(place: Arena, service: Running) -> Person:
    name = fresh("racer")
    form = {"username": name, "nickname": name, "email": f"{name}@example.org", "password": PASSWORD}
    answer = await place.http(service, "POST", "/api/register", body=form).ask()
    assert answer.status == 201, answer
    return Person(answer.body["id"], name)


async def logged_in(place: Arena, service: Running, person: Person) -> str:
    form = {"identifier": person.name, "password": PASSWORD}
    return str((await place.http(service, "POST", "/api/session", body=form).ask()).body["token"])


# Logging in, at each door: how, and the token in an answer, None where nobody was let in.

Login = tuple[Contender, Callable[[Answer], str | None]]


def at_account_api(place: Arena, service: Running, name: str, guest: str) -> Login:
    form = {"identifier": name, "password": PASSWORD}
    return place.http(service, "POST", "/api/session", body=form), lambda answer: answer.body.get("token")


def at_react_auth(place: Arena, service: Running, name: str, guest: str) -> Login:
    form = urlencode({"type": AUTHENTICATE, "username": name, "password": PASSWORD})
    return place.http(service, "POST", "/react-auth", body=form), lambda answer: answer.body["session"] or None


def at_auth_server(place: Arena, service: Running, name: str, guest: str) -> Login:
    form = {"email": name, "password": PASSWORD}
    return place.http(service, "POST", "/api/login", token=guest, body=form), lambda answer: answer.body.get("at")


def at_route_v1(place: Arena, service: Running, name: str, guest: str) -> Login:
    packet = {"route": "auth.login", "data": {"username": name, "password": PASSWORD}}
    return place.socket(service, "/auth/v1", packet), lambda answer: answer.body["data"].get("session_key")


def at_route_v2(place: Arena, service: Running, name: str, guest: str) -> Login:
    packet = {"route": "auth.login", "data": {"username": name, "password": PASSWORD}}
    return place.socket(service, "/auth/v2", packet), lambda answer: answer.body["data"].get("session_key")


LOGINS: Final = (at_account_api, at_react_auth, at_auth_server, at_route_v1, at_route_v2)


async def logins(place: Arena, pair: Pair, person: Person, number: int) -> list[Login]:
    """So many logins, at all doors of both processes in turn; a guest's with a guest of its own."""
    ways = islice(((door, service) for door in cycle(LOGINS) for service in pair), number)
    guests = iter(await together(place.http(pair[0], "POST", "/api/authenticate").ask for _ in range(number)))
    return [door(place, service, person.name, next(guests).body["at"]) for door, service in ways]


async def alive(place: Arena, pair: Pair, tokens: list[str]) -> list[str]:
    """Those of the tokens that are good at one process or the other."""
    answers = await together(
        place.http(service, "GET", "/api/session", token=token).ask for token in tokens for service in pair
    )
    good = [answer.status == 200 for answer in answers]
    assert good[::2] == good[1::2]
    return [token for token, is_good in zip(tokens, good[::2], strict=True) if is_good]


async def sessions_of(place: Arena, service: Running, token: str) -> int:
    return len((await place.http(service, "GET", "/api/sessions", token=token).ask()).body["sessions"])


@pytest.mark.parametrize("contended", ["username", "nickname", "email"])
async def test_one_name_is_registered_once(pair: Pair, contended: str) -> None:
    """ASVS 15.4.2, 2.3.4; CWE-367: that a name is free, and taking it, are one step."""
    for _ in range(ROUNDS):
        name = fresh("wanted")
        async with arena() as place:
            forms = []
            for number in range(FIFTY):
                form = {"username": fresh("racer"), "nickname": fresh("nick"), "password": f"{PASSWORD} {number}"}
                # In other letters it is the same name.
                wanted = name.upper() if number % 3 else name
                form[contended] = f"{wanted}@example.org" if contended == "email" else wanted
                forms.append(form)
            contenders: list[Contender] = []
            for number, form in enumerate(forms):
                service = pair[number % 2]
                if number % 4 < 2 or contended == "email":
                    contenders.append(place.http(service, "POST", "/api/register", body=form))
                else:
                    contenders.append(place.socket(service, "/auth/v2", {"route": "auth.register", "data": form}))
            answers = await place.race(*contenders)
            won = [form for form, answer in zip(forms, answers, strict=True) if answer.status in {200, 201}]
            assert len(won) == 1
            assert {answer.status for answer in answers} <= {200, 201, 422, 450}
            # The account is the winner's, whole: nobody else's password opens it.
            identifier = f"{name}@example.org" if contended == "email" else won[0]["username"]
            tries = [{"identifier": identifier, "password": form["password"]} for form in forms]
            opened = await together(place.http(pair[0], "POST", "/api/session", body=form).ask for form in tries)
            assert [form for form, answer in zip(forms, opened, strict=True) if answer.status == 201] == won


async def test_no_session_that_the_old_password_opened_outlives_the_change(pair: Pair) -> None:
    """ASVS 7.4.3, 15.4.2; CWE-367: a password is verified before the login is decided, and may be another by then."""
    for turn in range(ROUNDS):
        async with arena() as place:
            person = await registered(place, pair[0])
            own = await logged_in(place, pair[0], person)
            before = [await logged_in(place, service, person) for service in pair]
            ways = await logins(place, pair, person, FIFTY - 1)
            new = {"old_password": PASSWORD, "new_password": ANOTHER}
            change: list[Contender]
            if turn % 2:
                data = {"session_key": own}
                packet = {"route": "auth.update_profile", "data": new}
                change = [place.socket(pair[0], "/auth/v2", packet, {"route": "auth.authenticate", "data": data})]
            else:
                change = [place.http(pair[1], "PATCH", "/api/profile", token=own, body=new)]
            # It goes first, in the middle or last: it takes two hashes, and a login one.
            at = turn % 3 * 24
            contenders = [way for way, _ in ways]
            answers = await place.race(*contenders[:at], *change, *contenders[at:])
            changed = answers.pop(at)
            assert changed.status == 200, changed
            tokens = [token for (_, find), answer in zip(ways, answers, strict=True) if (token := find(answer))]
            assert await alive(place, pair, [*before, *tokens]) == []
            assert await sessions_of(place, pair[1], own) == 1
            old, fine = ({"identifier": person.name, "password": password} for password in (PASSWORD, ANOTHER))
            assert (await place.http(pair[1], "POST", "/api/session", body=old).ask()).status == 401
            assert (await place.http(pair[0], "POST", "/api/session", body=fine).ask()).status == 201


# What a token is worth, at each door: how it is asked, and whether the answer is yes.

Check = tuple[HTTP | Socket, Callable[[Answer], bool]]


def checks(place: Arena, service: Running, token: str, cookie: str, access: str, nickname: str) -> list[Check]:
    authenticate = {"route": "auth.authenticate", "data": {"session_key": token}}
    profile = {"route": "auth.update_profile", "data": {}}
    resume = {"type": SOCKET_RESUME, "session": token}
    http, socket = place.http, place.socket
    form = urlencode({"type": RESUME})

    def is_done(answer: Answer) -> bool:
        assert answer.status in {200, 201, 204, 401, 403}, answer
        return answer.status < 300

    return [
        (http(service, "GET", "/api/session", token=token), is_done),
        (http(service, "GET", "/api/session", cookie=cookie), is_done),
        (http(service, "GET", "/api/sessions", token=token), is_done),
        (http(service, "PATCH", "/api/profile", token=token, body={"nickname": nickname}), is_done),
        (http(service, "POST", "/api/token", token=token), is_done),
        (http(service, "GET", "/verify", token=token), is_done),
        (http(service, "GET", "/verify", token=access), is_done),
        (http(service, "GET", "/verify", cookie=cookie, headers={"X-Forwarded-Method": "GET"}), is_done),
        (http(service, "POST", "/api/introspect", headers=BASIC, body=urlencode({"token": token})), is_active),
        (http(service, "POST", "/api/introspect", headers=BASIC, body=urlencode({"token": access})), is_active),
        (http(service, "POST", "/api/authenticate", token=token), lambda answer: bool(answer.body["at"] == token)),
        (http(service, "POST", "/api/authenticate", cookie=cookie), lambda answer: bool(answer.body["at"] == token)),
        (http(service, "POST", "/react-auth", cookie=cookie, body=form), lambda answer: bool(answer.body["success"])),
        (socket(service, "/auth/v1", authenticate), is_done),
        (socket(service, "/auth/v2", authenticate), is_done),
        (socket(service, "/auth/v2", profile, authenticate), is_done),
        (socket(service, "/react-auth", resume), lambda answer: bool(answer.body.get("success"))),
    ]


def is_active(answer: Answer) -> bool:
    return bool(answer.body["active"])


# Ending a session, at each door: what is asked, as one request.

End = Callable[[Arena, Running, "Victim"], Contender]


class Victim(NamedTuple):
    """Whose session ends, and what those have who end it."""

    person: Person
    token: str
    other: str
    """Another session of the same person."""
    admin: str

    @property
    def session(self) -> str:
        return self.token.partition("|")[0]


def log_out(place: Arena, service: Running, victim: Victim) -> Contender:
    return place.http(service, "DELETE", "/api/session", token=victim.token)


def log_out_by_route(place: Arena, service: Running, victim: Victim) -> Contender:
    authenticate = {"route": "auth.authenticate", "data": {"session_key": victim.token}}
    return place.socket(service, "/auth/v2", {"route": "auth.logout"}, authenticate)


def close_at_react_auth(place: Arena, service: Running, victim: Victim) -> Contender:
    return place.socket(service, "/react-auth", {"type": CLOSE, "session": victim.token})


def end_from_another(place: Arena, service: Running, victim: Victim) -> Contender:
    return place.http(service, "DELETE", f"/api/sessions/{victim.session}", token=victim.other)


def end_all_others(place: Arena, service: Running, victim: Victim) -> Contender:
    return place.http(service, "DELETE", "/api/sessions", token=victim.other)


def change_the_password(place: Arena, service: Running, victim: Victim) -> Contender:
    form = {"old_password": PASSWORD, "new_password": ANOTHER}
    return place.http(service, "PATCH", "/api/profile", token=victim.other, body=form)


def revoke(place: Arena, service: Running, victim: Victim) -> Contender:
    return place.http(service, "DELETE", f"/admin/api/sessions/{victim.session}", token=victim.admin)


def deactivate(place: Arena, service: Running, victim: Victim) -> Contender:
    return place.http(service, "POST", f"/admin/api/users/{victim.person.id}/deactivate", token=victim.admin)


ENDS: Final[tuple[End, ...]] = (
    log_out, log_out_by_route, close_at_react_auth, end_from_another, end_all_others, change_the_password, revoke,
    deactivate,
)  # fmt: skip


@pytest.fixture(scope="module")
def admin(pair: Pair) -> str:
    """The token of an admin, whom the command line made."""
    name = fresh("warden")
    made = pair[0].cli("users", "add", name, "--level", "admin", "--password-stdin", given=PASSWORD)
    assert made.returncode == 0, made.stderr
    form = {"identifier": name, "password": PASSWORD}
    return str(pair[0].ask("POST", "/api/session", form).json()["token"])


async def victim_of(place: Arena, pair: Pair, admin: str) -> Victim:
    person = await registered(place, pair[0])
    token, other = [await logged_in(place, pair[0], person) for _ in range(2)]
    return Victim(person, token, other, admin)


async def asked_to_the_end(asked: HTTP | Socket, yes: Callable[[Answer], bool], ended: trio.Event) -> bool:
    """Asks until one that was asked after the end was answered has its answer; whether that was a yes."""
    while True:
        after = ended.is_set()
        good = yes(await asked.ask())
        if after:
            return good


async def ending(ender: Contender, ended: trio.Event) -> bool:
    """Ends it, and says so as soon as that was answered."""
    assert (await ender.go()).status in {200, 204}
    ended.set()
    return False


@pytest.mark.parametrize("end", ENDS, ids=[end.__name__ for end in ENDS])
async def test_a_token_never_succeeds_after_its_end_was_answered(pair: Pair, admin: str, end: End) -> None:
    """ASVS 7.4.1, 7.4.2, 7.4.3, 7.4.5; CWE-613: at no door of either process, by token, cookie or access token."""
    for turn in range(ROUNDS):
        async with arena() as place:
            victim = await victim_of(place, pair, admin)
            answer = await place.http(pair[0], "POST", "/api/authenticate", token=victim.token).ask()
            access = (await place.http(pair[0], "POST", "/api/token", token=victim.token).ask()).body["access_token"]
            found = [
                check
                for service in pair
                for check in checks(place, service, victim.token, answer.cookie, access, fresh("nick"))
            ]
            ender, ended = end(place, pair[turn % 2], victim), trio.Event()
            first = await together(asked.ask for asked, _ in found)
            assert all(yes(answer) for (_, yes), answer in zip(found, first, strict=True))
            await ender.ready()
            late = await together(
                [*(partial(asked_to_the_end, *check, ended) for check in found), partial(ending, ender, ended)]
            )
            assert [number for number, good in enumerate(late) if good] == []


async def test_whoever_resumes_while_a_session_ends_is_refused_or_told(pair: Pair, admin: str) -> None:
    """ASVS 7.4.1; CWE-613, CWE-362: no socket holds a session that is over without ever hearing of it."""
    for turn in range(FEWER * len(ENDS)):
        async with arena() as place:
            victim = await victim_of(place, pair, admin)
            resume = {"type": SOCKET_RESUME, "session": victim.token}
            sockets = [place.socket(pair[number % 2], "/react-auth", resume) for number in range(FIFTY - 1)]
            ender = ENDS[turn % len(ENDS)](place, pair[turn % 2], victim)
            answers = await place.race(*sockets[:20], ender, *sockets[20:])
            assert answers.pop(20).status in {200, 204}
            held = [one for one, answer in zip(sockets, answers, strict=True) if answer.body["success"]]
            assert await together(one.hear for one in held) == [{"type": CLOSE}] * len(held)


async def test_one_guest_logs_in_once(pair: Pair) -> None:
    """ASVS 7.2.4, 15.4.2; CWE-367, CWE-384: a guest's token is worth one login, to one account."""
    guests = set()
    for _ in range(ROUNDS):
        async with arena() as place:
            people = [await registered(place, service) for service in pair]
            guest = (await place.http(pair[0], "POST", "/api/authenticate").ask()).body["at"]
            names = [people[number % 4 // 2].name for number in range(FIFTY)]
            tries = [
                place.http(
                    pair[number % 2], "POST", "/api/login", token=guest, body={"email": name, "password": PASSWORD}
                )
                for number, name in enumerate(names)
            ]
            answers = await place.race(*tries)
            assert sorted(answer.status for answer in answers) == [200] + [401] * (FIFTY - 1)
            (token,) = [answer.body["at"] for answer in answers if answer.status == 200]
            assert await alive(place, pair, [token, guest]) == [token]
            assert await sessions_of(place, pair[0], token) == 1
        guests.add(f"session-{guest.partition('|')[0]}")
    linked = [event["stream"] for event in pair[0].events("--type", "guest.linked") if event["stream"] in guests]
    assert sorted(linked) == sorted(guests)


async def test_of_fifty_admins_who_step_down_at_once_one_stays(pair: Pair, admin: str) -> None:
    """ASVS 15.4.2, 2.3.2; CWE-367: the last admin is counted in the step in which the one before goes."""
    for _ in range(FEWER):
        async with arena() as place:
            people = await together(partial(registered, place, pair[number % 2]) for number in range(FIFTY))
            level = [("POST", f"/admin/api/users/{person.id}/level", {"level": 2}) for person in people]
            raised = await together(
                place.http(pair[0], method, path, token=admin, body=body).ask for method, path, body in level
            )
            assert {answer.status for answer in raised} == {200}
            tokens = await together(partial(logged_in, place, pair[0], person) for person in people)
            # The one who made them steps down with them, and keeps the session for the next round.
            me = (await place.http(pair[0], "GET", "/api/session", token=admin).ask()).body["user"]["id"]
            everybody = [(me, admin), *((person.id, token) for person, token in zip(people, tokens, strict=True))]
            contenders = [
                place.http(pair[number % 2], "POST", f"/admin/api/users/{user}/deactivate", token=token)
                if number % 3 == 1
                else place.http(
                    pair[number % 2], "POST", f"/admin/api/users/{user}/level", token=token, body={"level": 1}
                )
                for number, (user, token) in enumerate(everybody)
            ]
            answers = await place.race(*contenders)
            assert sorted(answer.status for answer in answers) == [200] * FIFTY + [409]
            stays = next(token for answer, (_, token) in zip(answers, everybody, strict=True) if answer.status == 409)
            path = "/admin/api/projections/users?index=active_admin&value=1"
            shown = (await place.http(pair[1], "GET", path, token=stays).ask()).body["documents"]
            assert [one["document"]["level"] for one in shown] == [2]
            again = f"/admin/api/users/{me}/level"
            assert (await place.http(pair[0], "POST", again, token=stays, body={"level": 2}).ask()).status == 200
            if stays != admin:
                # Who stayed is one too many in the next round.
                user = next(user for user, token in everybody if token == stays)
                path = f"/admin/api/users/{user}/level"
                assert (await place.http(pair[0], "POST", path, token=admin, body={"level": 1}).ask()).status == 200


async def test_nobody_ever_has_more_sessions_than_the_setting_allows(pair: Pair) -> None:
    """ASVS 7.1.2, 2.3.2; CWE-367, CWE-770: also while logins of one account come at once."""
    for _ in range(FEWER):
        async with arena() as place:
            person, tokens = await registered(place, pair[0]), []
            for _ in range(2):
                ways = await logins(place, pair, person, FIFTY)
                answers = await place.race(*(way for way, _ in ways))
                tokens += [token for (_, find), answer in zip(ways, answers, strict=True) if (token := find(answer))]
            assert len(tokens) == 2 * FIFTY
            good = await alive(place, pair, tokens)
            assert len(good) == SESSIONS
            assert await sessions_of(place, pair[1], good[0]) == SESSIONS
        # Whenever one more was opened, the oldest had ended: the book was never beyond it.
        open_now = most = 0
        for event in pair[0].events("--user", str(person.id)):
            open_now += {"session.opened": 1, "session.closed": -1}.get(event["type"], 0)
            most = max(most, open_now)
        assert (open_now, most) == (SESSIONS, SESSIONS)
