"""Visitors who take canaries through every door: in their place, in the wrong one, and in what is no request at all."""

from __future__ import annotations

import base64
import json
from typing import Final
from urllib.parse import quote

import trio

from tests.attacks.canaries import Canaries, fresh_word
from tests.attacks.front import Front
from tests.conformance.talk import talk

CLIENT: Final = "shop"
AUTHENTICATE: Final = "fantaptik/react-auth/authenticate"
RESUME: Final = "fantaptik/react-auth/resume"
SOCKET_RESUME: Final = "fantaptik/react-auth/socket/resume"
CLOSE: Final = "fantaptik/react-auth/close"
FORM: Final = "application/x-www-form-urlencoded"
JSON: Final = "application/json"
ENDLESS: Final = "/admin/api/events/follow"
ECHO: Final = {"a receipt"}
"""What a client gets back as it was sent, and nobody else gets at all."""


class Visitor:
    """What somebody types, and where they come from with what, each a canary; those who register have an account."""

    def __init__(self, name: str, canaries: Canaries, number: int) -> None:
        add = canaries.add
        self.username = add(f"{name}'s username", fresh_word(name))
        self.nickname = add(f"{name}'s nickname", fresh_word(name))
        self.email = add(f"{name}'s email", f"{fresh_word(name)}@example.org")
        self.password = add(f"{name}'s password", f"{fresh_word()} {name} é ☃")
        address = add(f"{name}'s address", f"2001:db8:{number:x}eed:cafe::1:beef")
        agent = add(f"{name}'s agent", f"{fresh_word(name)}/1.0 (X11)")
        self.headers = {"X-Forwarded-For": address, "User-Agent": agent}
        self.names = {f"{name}'s {field}" for field in ("username", "nickname", "email")}
        """The canaries that the owner is shown."""
        self.shown = self.names | {f"{name}'s address", f"{name}'s agent"}
        """The canaries that an admin is shown."""

    @property
    def account(self) -> dict[str, str]:
        """What they register with."""
        return {name: getattr(self, name) for name in ("username", "nickname", "email", "password")}


class Visit:
    """All of them at one service. `handed` is what it handed out: tokens and cookies, by name."""

    def __init__(self, front: Front, client_secret: str) -> None:
        self.front = front
        self.client_secret = front.canaries.add("the client's secret", client_secret)
        self.alice, self.warden, self.spare, self.stranger = (
            Visitor(name, front.canaries, number) for number, name in enumerate(("al", "wa", "sp", "st"), 1)
        )
        self.handed: dict[str, str] = {}
        self.receipt = front.canaries.add("a receipt", fresh_word())

    @property
    def seen_by_admins(self) -> set[str]:
        """The canaries that admins and operators are shown."""
        return {"a reason", *self.alice.shown, *self.warden.shown, *self.spare.shown}

    @property
    def secrets(self) -> str:
        """Everything that nobody else may know, in one text."""
        of_people = [[*one.account.values(), *one.headers.values()] for one in (self.alice, self.spare, self.stranger)]
        return " ".join([*self.handed.values(), self.client_secret, *(value for one in of_people for value in one)])

    def log_in(self, who: Visitor, name: str) -> str:
        """A session of that account; its token is called so."""
        form = {"identifier": who.username, "password": who.password}
        device = f"the device of {name}"
        answer = self.front.ask(
            "POST", "/api/session", headers=who.headers, json=form, may={*who.names, name, device}, status=201
        )
        self.handed[device] = self.front.sealed(device, answer.json()["device_key"])
        self.handed[name] = self.front.token(name, answer.json()["token"])
        return self.handed[name]

    def register(self, who: Visitor) -> None:
        """An account, and refusals of one."""
        account = who.account
        for form in (
            account | {"password": "password"}, account | {"password": account["password"][:7]},
            account | {"username": account["password"], "password": account["username"]},
            account | {"email": account["password"]}, account | {account["password"]: 1}, [account],
            account | {"username": [account["password"]]}, account | {"nickname": account["password"] * 9},
        ):  # fmt: skip
            assert self.front.ask("POST", "/api/register", headers=who.headers, json=form).is_client_error
        self.front.ask("POST", "/api/register", headers=who.headers, json=account, status=201)
        self.front.ask("POST", "/api/register", headers=who.headers, json=account, status=422)

    def at_http_doors(self) -> None:
        """Each as it is meant to be used, after tries that are refused."""
        ask, alice, stranger, handed = self.front.ask, self.alice, self.stranger, self.handed
        by = alice.headers
        good = {"identifier": alice.username, "password": alice.password}
        for form in (
            good | {"password": stranger.password}, good | {"identifier": stranger.username},
            good | {"identifier": stranger.email}, {"identifier": alice.password, "password": alice.username},
        ):  # fmt: skip
            ask("POST", "/api/session", headers=by, json=form, status=401)
        token = self.log_in(alice, "the account API's token")
        ask("GET", "/api/session", headers=by, token=token, may=alice.names, status=200)
        ask("GET", "/api/sessions", headers=by, token=token, may=alice.shown, status=200)

        may = {"a guest's token", "a guest's cookie"}
        answer = ask("POST", "/api/authenticate", headers=stranger.headers, may=may, status=200)
        guest = handed["a guest's token"] = self.front.token("a guest's token", answer.json()["at"])
        handed["a guest's cookie"] = self.front.cookie("a guest's cookie", answer)
        for form in ({"email": alice.email, "password": stranger.password}, {"email": stranger.email, "password": "x"}):
            ask("POST", "/api/login", headers=by, token=guest, data=form, status=422)
        may = {"auth-server's token", "auth-server's cookie", "auth-server's device"}
        form = {"email": alice.email, "password": alice.password}
        answer = ask("POST", "/api/login", headers=by, token=guest, data=form, may=may, status=200)
        handed["auth-server's token"] = self.front.token("auth-server's token", answer.json()["at"])
        handed["auth-server's cookie"] = self.front.cookie("auth-server's cookie", answer)
        handed["auth-server's device"] = self.front.device("auth-server's device", answer)

        for form in (
            {"type": AUTHENTICATE, "username": alice.username, "password": stranger.password},
            {"type": AUTHENTICATE, "username": stranger.username, "password": stranger.password},
            {"type": RESUME, "session": token},
        ):
            ask("POST", "/react-auth", headers=by, data=form, status=200)
        form = {"type": AUTHENTICATE, "username": alice.username, "password": alice.password}
        may = {*alice.names, "react-auth's token", "react-auth's cookie", "react-auth's device"}
        answer = ask("POST", "/react-auth", headers=by, json=form, may=may, status=200)
        handed["react-auth's token"] = self.front.token("react-auth's token", answer.json()["session"])
        cookie = handed["react-auth's cookie"] = self.front.cookie("react-auth's cookie", answer)
        handed["react-auth's device"] = self.front.device("react-auth's device", answer)
        may = {*alice.names, "react-auth's token", "a resume's cookie"}
        answer = ask("POST", "/react-auth", headers=by, cookie=cookie, data={"type": RESUME}, may=may, status=200)
        handed["a resume's cookie"] = self.front.cookie("a resume's cookie", answer)

    def about_tokens(self) -> None:
        """Access tokens, and what services and proxies ask about tokens."""
        ask, token = self.front.ask, self.handed["the account API's token"]
        answer = ask("POST", "/api/token", token=token, may={"an access token"}, status=200)
        access = self.handed["an access token"] = answer.json()["access_token"]
        self.front.canaries.add("an access token", access.rpartition(".")[2])
        client, nobody = basic(CLIENT, self.client_secret), basic(self.client_secret, self.alice.password)
        may = {"al's username"}
        for good in (token, access):
            answer = ask("POST", "/api/introspect", headers=client, data={"token": good}, may=may, status=200)
            assert answer.json()["active"] is True
            ask("GET", "/verify", headers={"X-Forwarded-Method": "GET"}, token=good, may=may, status=204)
        for bad in (self.handed["a guest's token"], token[:-1], f"{access}x", self.alice.password):
            ask("POST", "/api/introspect", headers=client, data={"token": bad}, status=200)
            ask("GET", "/verify", token=bad, status=401)
        ask("POST", "/api/introspect", headers=nobody, data={"token": token}, status=401)
        ask("POST", "/api/introspect", headers=client, json={"token": token}, status=415)
        ask("GET", "/.well-known/jwks.json", status=200)

    def profile(self) -> None:
        """New names and a new password, after some that are refused."""
        alice, add, token = self.alice, self.front.canaries.add, self.handed["the account API's token"]
        new = add("al's new password", f"{fresh_word()} new")
        for form in (
            {"old_password": self.stranger.password, "new_password": new},
            {"old_password": alice.password, "new_password": "x"}, {"new_password": new}, {new: alice.password},
        ):  # fmt: skip
            answer = self.front.ask("PATCH", "/api/profile", headers=alice.headers, token=token, json=form)
            assert answer.is_client_error
        alice.nickname, alice.email = add("al's nickname", fresh_word("al")), add("al's email", f"{fresh_word()}@x.org")
        form = {"old_password": alice.password, "new_password": new, "nickname": alice.nickname, "email": alice.email}
        self.front.ask(
            "PATCH", "/api/profile", headers=alice.headers, token=token, json=form, may=alice.names, status=200
        )
        alice.password = new

    async def at_sockets(self) -> None:
        """Both versions of the route protocol, and react-auth: well, badly, and with what is no message."""
        alice, stranger, secrets, by = self.alice, self.stranger, self.secrets, self.alice.headers
        say, may = self.front.say, {*self.alice.names, *ECHO}
        for path in ("/auth/v1", "/auth/v2"):
            name = f"the token of {path}"
            async with talk(self.front.service, path, by) as found:
                for username, password in (
                    (alice.username, stranger.password), (stranger.email, stranger.password),
                    (alice.password, alice.username), (secrets, secrets),
                ):  # fmt: skip
                    data = {"username": username, "password": password}
                    await say(found, {"route": "auth.login", "receipt": self.receipt, "data": data}, ECHO)
                data = {"username": alice.username, "password": alice.password}
                answer = await say(found, {"route": "auth.login", "receipt": self.receipt, "data": data}, {*may, name})
                self.handed[name] = self.front.token(name, answer["data"]["session_key"])
                for key in (secrets, alice.password, self.handed[name][:-1]):
                    await say(found, {"route": "auth.authenticate", "data": {"session_key": key}})
                data = {"session_key": self.handed[name]}
                await say(found, {"route": "auth.authenticate", "data": data}, {*may, name})
                for message in (
                    secrets, f"[{secrets}", json.dumps(secrets), {"data": {secrets: secrets}},
                    {"route": 1, "data": secrets}, {"route": "auth.login", "data": {"username": [secrets]}},
                    {secrets: secrets, "receipt": self.receipt},
                ):  # fmt: skip
                    await say(found, message, ECHO)
                await say(found, {"route": self.receipt, "receipt": {"x": [self.receipt]}, "data": {}}, ECHO)
        async with talk(self.front.service, "/auth/v2", by) as found:
            for data in (
                {"username": secrets, "password": secrets, "nickname": secrets},
                {"username": alice.username, "password": stranger.password, "nickname": alice.nickname},
                {"username": stranger.username, "password": stranger.username, "nickname": stranger.nickname},
            ):
                assert (await say(found, {"route": "auth.register", "data": data}))["error"] is True
            token = {"session_key": self.handed["the token of /auth/v2"]}
            await say(found, {"route": "auth.authenticate", "data": token}, {*may, "the token of /auth/v2"})
            for data in (
                {"old_password": stranger.password, "new_password": stranger.username}, {"nickname": secrets},
                {"new_password": secrets}, {"old_password": alice.password, "new_password": alice.username},
            ):  # fmt: skip
                assert (await say(found, {"route": "auth.update_profile", "data": data}))["error"] is True
        await self._at_react_auth(secrets)
        for path in ("/auth/v1", "/auth/v2", "/react-auth"):
            messages: list[tuple[str | bytes, int]] = [(secrets.encode(), 1003), ("x" * 65_536 + secrets, 1009)]
            for bad, code in messages:
                async with talk(self.front.service, path, by) as found:
                    with self.front.closing(f"a message at {path}", code):
                        await found.tell(bad)
                        await found.hear()
            async with talk(self.front.service, path, by) as found:
                with self.front.closing(f"no UTF-8 at {path}", 1007):
                    # Its mask is of zeros.
                    text = b"\xff" + secrets.encode()
                    await found.socket._stream.send_all(b"\x81\xfe" + len(text).to_bytes(2, "big") + bytes(4) + text)
                    await found.hear()

    async def _at_react_auth(self, secrets: str) -> None:
        token, say = self.handed["react-auth's token"], self.front.say
        async with talk(self.front.service, "/react-auth", self.alice.headers) as found:
            for message in (
                {"type": SOCKET_RESUME, "session": token, "user": {"id": self.alice.password, secrets: secrets}},
                {"type": SOCKET_RESUME, "session": secrets}, {"type": CLOSE, "session": secrets, "user": secrets},
                {"type": secrets, "session": secrets}, secrets, f'{{"data": {json.dumps(secrets)}}}',
            ):  # fmt: skip
                assert await say(found, message) == {"success": False} or message["type"] == CLOSE  # type: ignore[index]  # a text fails
            message = {"type": SOCKET_RESUME, "session": token, "user": self.alice.account}
            assert (await say(found, {"id": self.receipt, "data": message}, ECHO))["data"] == {"success": True}
            # Whoever holds it is told that it is over, and not whose it was.
            async with talk(self.front.service, "/react-auth", self.alice.headers) as other:
                assert await say(other, {"type": CLOSE, "session": token, "user": self.alice.account}) == {
                    "success": True
                }
            self.front.hear("the end of a session", (await found.hear()).encode())

    def as_admin(self) -> None:
        """All that an admin may look at and do: names are shown opened, what opens a door never is."""
        ask, token = self.front.ask, self.log_in(self.warden, "the admin's token")
        reason = self.front.canaries.add("a reason", f"{fresh_word()} was rude")
        seen = self.seen_by_admins
        me = self.handed["the account API's token"]
        user = ask("GET", "/api/session", token=me, may=self.alice.names).json()["user"]["id"]
        wrong = {"reason": reason, reason: 1}
        ask("POST", f"/admin/api/users/{user}/deactivate", token=token, json=wrong, status=400)
        acts: list[tuple[str, dict[str, str | int]]] = [
            ("deactivate", {"reason": reason}), ("reactivate", {}), ("level", {"level": 2}), ("level", {"level": 1})
        ]  # fmt: skip
        for what, body in acts:
            ask("POST", f"/admin/api/users/{user}/{what}", token=token, json=body, may=seen, status=200)
        for path in (
            "projections", "projections/users", "projections/sessions", "projections/names", "projections/throttles",
            "projections/activity", f"projections/users/{user}", f"projections/users/{user}?at={user}",
            "events?limit=999", "events/1",
        ):  # fmt: skip
            ask("GET", f"/admin/api/{path}", token=token, may=seen, status=200)
        self.front.follow(f"{ENDLESS}?after=0", token, seen)
        # An admin who mistakes the field for another.
        for typed in (self.alice.username, me.partition("|")[2], me, self.alice.email, self.alice.password):
            for name in ("names", "throttles", "activity", "users"):
                ask("GET", f"/admin/api/projections/{name}/{quote(typed)}", token=token, status=404)

    def everywhere(self) -> None:
        """Every address of the document, with every secret in every place where none belongs."""
        ask, secrets = self.front.ask, self.secrets
        quoted = quote(secrets, safe="")
        strange = {"Origin": f"https://{quoted}.example", f"X-{quoted}": secrets, "Referer": f"https://x/?{quoted}"}
        seen = self.seen_by_admins
        for template, methods in ask("GET", "/openapi.json").json()["paths"].items():
            path = "/".join(quoted if part.startswith("{") else part for part in template.split("/"))
            for method in (name.upper() for name in methods):
                for kind in (JSON, FORM, quoted):
                    body = f"{quoted}={quoted}" if kind == FORM else json.dumps({secrets: secrets})
                    ask(method, path, headers=strange | {"Content-Type": kind}, content=body)
                    ask(method, path, headers={"Content-Type": kind}, content=f"{{{secrets}".encode())
                for shown in (f"Bearer {secrets}", f"Basic {secrets}", *basic(secrets, secrets).values(), secrets):
                    ask(method, f"{path}?{quoted}={quoted}", headers={"Authorization": shown})
                ask(method, path, cookie=quoted)
                query = f"{path}?{quoted}={quoted}&token={quoted}"
                if template.startswith("/admin/"):
                    ask(method, query, token=self.handed["the admin's token"], may=seen)
                spare = self.log_in(self.spare, "a spare token")
                # To authenticate with a token is to be given it back.
                again = {"a spare token"} if template == "/api/authenticate" else set()
                ask(method, query, token=spare, may={*self.spare.shown, *again})
        for path in (f"/{quoted}", f"/api/{quoted}", f"/{quoted}/api/session", "/api/session/" + "x" * 9_000 + quoted):
            for method in ("GET", "POST", "OPTIONS"):
                ask(method, path)

    def with_bytes(self) -> None:
        """What is no request, at each listener."""
        secrets = quote(self.secrets)
        host, raw = "Host: x\r\nConnection: close\r\n", self.secrets.encode()
        body = f"{host}Content-Type: application/json\r\n"
        cases: dict[str, bytes] = {
            name: text.encode()
            for name, text in {
                "a method": f"{secrets.partition('%')[0]} / HTTP/1.1\r\n{host}\r\n",
                "a version": f"GET / {secrets}\r\n{host}\r\n",
                "a target": f"GET {self.secrets} HTTP/1.1\r\n{host}\r\n",
                "an absolute target": f"GET http://{secrets}@x/api/session HTTP/1.1\r\n{host}\r\n",
                "a proxy's method": f"CONNECT {secrets}:443 HTTP/1.1\r\n{host}\r\n",
                "no header": f"GET / HTTP/1.1\r\n{host}{self.secrets}\r\n\r\n",
                "a folded header": f"GET / HTTP/1.1\r\n{host}A: b\r\n {self.secrets}\r\n\r\n",
                "a host": f"GET / HTTP/1.1\r\nHost: {self.secrets}\r\nConnection: close\r\n\r\n",
                "two hosts": f"GET / HTTP/1.1\r\n{host}Host: {secrets}\r\n\r\n",
                "a length": f"POST /api/session HTTP/1.1\r\n{body}Content-Length: {secrets}\r\n\r\n",
                "a coding": f"POST /api/session HTTP/1.1\r\n{body}Transfer-Encoding: {secrets}\r\n\r\n",
                "a chunk": f"POST /api/session HTTP/1.1\r\n{body}Transfer-Encoding: chunked\r\n\r\n{secrets}\r\n",
                "both": f"POST /api/session HTTP/1.1\r\n{body}Transfer-Encoding: chunked\r\nContent-Length: 9\r\n\r\n0",
                "too short": f"POST /api/session HTTP/1.1\r\n{body}Content-Length: 60000\r\n\r\n{self.secrets}",
                "too long": f"POST /api/session HTTP/1.1\r\n{body}Content-Length: 99999999\r\n\r\n{self.secrets}",
                "too much head": f"GET / HTTP/1.1\r\n{host}A: {secrets * 40}\r\n\r\n",
                "another protocol": f"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n{self.secrets}",
                "an upgrade to it": f"GET / HTTP/1.1\r\n{host}Upgrade: h2c\r\nHTTP2-Settings: {secrets}\r\n\r\n",
                "no HTTP": self.secrets,
                **{f"an upgrade with {name}": text for name, text in upgrades(secrets, self.secrets).items()},
            }.items()
        }
        cases["bytes behind an upgrade"] = upgrades("x", "x")["nothing"].encode() + raw
        cases["half a frame"] = upgrades("x", "x")["nothing"].encode() + b"\x81\xff" + raw
        cases["a close"] = upgrades("x", "x")["nothing"].encode() + b"\x88\xfd\0\0\0\0\x03\xe8" + raw[:123]
        for address in (self.front.service.http, self.front.service.ws, self.front.metrics):
            for name, data in cases.items():
                self.front.send(name, data, address)

    def all(self, *, everywhere: bool) -> None:
        """Everything, in an order in which each finds what it needs; `everywhere` takes longest."""
        for who in (self.alice, self.spare):
            self.register(who)
        self.at_http_doors()
        self.about_tokens()
        trio.run(self.at_sockets)
        self.profile()
        self.as_admin()
        if everywhere:
            self.everywhere()
        self.with_bytes()


def basic(name: str, secret: str) -> dict[str, str]:
    """HTTP Basic."""
    return {"Authorization": f"Basic {base64.b64encode(f'{name}:{secret}'.encode()).decode()}"}


def upgrades(quoted: str, plain: str) -> dict[str, str]:
    """Openings of a WebSocket with these in one place or another."""
    opening = "Host: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    return {
        "nothing": f"GET /auth/v2 HTTP/1.1\r\n{opening}{key}\r\n",
        "a path": f"GET /{quoted} HTTP/1.1\r\n{opening}{key}\r\n",
        "a query": f"GET /auth/v2?token={quoted} HTTP/1.1\r\n{opening}{key}\r\n",
        "a key": f"GET /auth/v2 HTTP/1.1\r\n{opening}Sec-WebSocket-Key: {quoted}\r\n\r\n",
        "a subprotocol": f"GET /auth/v2 HTTP/1.1\r\n{opening}{key}Sec-WebSocket-Protocol: {quoted}\r\n\r\n",
        "a strange subprotocol": f"GET /auth/v2 HTTP/1.1\r\n{opening}{key}Sec-WebSocket-Protocol: {plain}\r\n\r\n",
        "an extension": f"GET /auth/v2 HTTP/1.1\r\n{opening}{key}Sec-WebSocket-Extensions: {plain}\r\n\r\n",
        "a version": f"GET /auth/v2 HTTP/1.1\r\n{opening}{key}Sec-WebSocket-Version: {quoted}\r\n\r\n",
        "an origin": f"GET /auth/v2 HTTP/1.1\r\n{opening}{key}Origin: https://{quoted}\r\n\r\n",
        "headers": f"GET /react-auth HTTP/1.1\r\n{opening}{key}Authorization: {plain}\r\nCookie: {plain}\r\n\r\n",
    }
