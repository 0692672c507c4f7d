"""A service to attack, with people who have accounts there, its book to look into, and its addresses as told by it."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, NamedTuple

from service.book import Book, open_book, parse_address
from tests.attacks.asking import Asking
from tests.conformance.running import FAST, Running, fresh, running
from tests.conformance.talk import talk

PASSWORD: Final = "correct horse battery"
HOST: Final = "auth.example.org"
OWN: Final = f"https://{HOST}"
TRUSTED: Final = "https://app.example.org"
BROWSER: Final = {"Host": HOST, "X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https"}
"""What a proxy that ends TLS says of a browser's request."""
SOCKETS: Final = ("/auth/v1", "/auth/v2", "/react-auth")
SECRET: Final = "0123456789abcdef" * 4
CLIENT: Final = {"Authorization": f"Basic {base64.b64encode(f'shop:{SECRET}'.encode()).decode()}"}
"""What a service shows that may introspect."""
AUTHENTICATE: Final = "fantaptik/react-auth/authenticate"
RESUME: Final = {"type": "fantaptik/react-auth/resume"}
SOCKET_RESUME: Final = "fantaptik/react-auth/socket/resume"


class Person(NamedTuple):
    """Somebody with an account, and a session's token."""

    id: int
    name: str
    token: str

    @property
    def session(self) -> str:
        """The session's id."""
        return self.token.partition("|")[0]


class Operation(NamedTuple):
    """One method of one address, and what the document tells of it."""

    method: str
    template: str
    told: Mapping[str, Any]

    @property
    def name(self) -> str:
        """What a test calls it."""
        return f"{self.method} {self.template}"

    def takes(self, scheme: str) -> bool:
        """Whether `bearer`, `cookie` or `basic` says who asks."""
        return any(scheme in one for one in self.told["security"])

    @property
    def sets_cookie(self) -> bool:
        """Whether an answer may have the cookie."""
        return any("Set-Cookie" in answer.get("headers", {}) for answer in self.told["responses"].values())

    @property
    def media(self) -> tuple[str, ...]:
        """The types that a body may have."""
        return tuple(self.told.get("requestBody", {}).get("content", ()))

    def parameters(self, place: str) -> list[str]:
        """The names of the parameters there: `path`, `query`, `header`."""
        return [one["name"] for one in self.told.get("parameters", ()) if one["in"] == place]

    def path(self, **parts: object) -> str:
        """The address, with its parts filled in as they are; one that is not given is 1."""
        return re.sub(r"\{(\w+)\}", lambda found: str(parts.get(found[1], 1)), self.template)


class Scene(Asking):
    """See the module."""

    def __init__(self, service: Running, book: Book) -> None:
        super().__init__(service.http)
        # By another name: what is asked here is not held against the document.
        self.aside = Asking(service.http.replace("127.0.0.1", "localhost"))
        self.service = service
        self.book = book
        self.openapi: dict[str, Any] = self.ask("GET", "/openapi.json").json()
        self._warden: Person | None = None

    @property
    def head(self) -> int:
        """How many entries the book has: where it stands still, nothing happened at all."""
        return self.book.log.head().position

    @property
    def warden(self) -> Person:
        """An admin, whom the command line made."""
        if self._warden is None:
            name = fresh("warden")
            made = self.service.cli("users", "add", name, "--level", "admin", "--password-stdin", given=PASSWORD)
            assert made.returncode == 0, made.stderr
            token = self.logged_in(name)
            me = self.ask("GET", "/api/session", token=token).json()["user"]["id"]
            self._warden = Person(me, name, token)
        return self._warden

    def person(self, *, admin: bool = False) -> Person:
        """Somebody new, who has logged in."""
        name = fresh("person")
        form = {"username": name, "nickname": name, "email": f"{name}@example.org", "password": PASSWORD}
        answer = self.ask("POST", "/api/register", json=form)
        assert answer.status_code == 201, answer.text
        who = answer.json()["id"]
        if admin:
            path = f"/admin/api/users/{who}/level"
            assert self.ask("POST", path, token=self.warden.token, json={"level": 2}).status_code == 200
        return Person(who, name, self.logged_in(name))

    def logged_in(self, name: str, password: str = PASSWORD) -> str:
        """The token of a new session."""
        answer = self.ask("POST", "/api/session", json={"identifier": name, "password": password})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["token"])

    def guest(self) -> str:
        """A new guest's token."""
        return str(self.ask("POST", "/api/authenticate").json()["at"])

    def cookie(self, token: str) -> str:
        """A cookie of a live session."""
        answer = self.ask("POST", "/api/authenticate", token=token)
        assert answer.json() == {"at": token}
        return cookie_in(answer.headers["Set-Cookie"])

    def access_token(self, token: str) -> str:
        """An access token of a live session."""
        answer = self.ask("POST", "/api/token", token=token)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["access_token"])

    def introspected(self, token: str) -> dict[str, Any]:
        """What a service is told of a token."""
        answer = self.ask("POST", "/api/introspect", headers=CLIENT, data={"token": token})
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def document(self, projection: str, key: object) -> Any:
        """What the book knows under a key, as it was committed last; fails where that is nothing."""
        which = self.book.projection(projection)
        found = None if which is None else self.book.document(which, str(key))
        assert found is not None, f"{projection} has no {key}"
        return found

    @property
    def components(self) -> dict[str, Any]:
        """The schemas that the service tells."""
        found: dict[str, Any] = self.openapi["components"]["schemas"]
        return found

    def operations(self) -> list[Operation]:
        """All that can be asked over HTTP, as the service itself tells it."""
        return [
            Operation(method.upper(), template, told)
            for template, methods in self.openapi["paths"].items()
            for method, told in methods.items()
        ]

    def fields_of(self, component: str) -> set[str]:
        """The names of all fields of a message or document."""
        return self._fields([self.components[component]])

    def fields(self, operation: Operation) -> set[str]:
        """The names of all fields that its body may have."""
        return self._fields([content["schema"] for content in operation.told["requestBody"]["content"].values()])

    def _fields(self, schemas: list[Any]) -> set[str]:
        found: set[str] = set()
        while schemas:
            schema = schemas.pop()
            schemas += [*schema.get("anyOf", ()), *schema.get("oneOf", ())]
            if "$ref" in schema:
                schemas.append(self.components[schema["$ref"].rpartition("/")[2]])
            found |= schema.get("properties", {}).keys()
        return found

    async def known_as(
        self, token: str | None = None, cookie: str | None = None, access: str | None = None
    ) -> dict[str, int | None]:
        """The id of the account for which each door and each socket takes whoever shows these; None for nobody's."""
        found: dict[str, int | None] = {}
        for way, shown in (("token", token), ("cookie", cookie)):
            if shown is not None:
                found |= self._known_as(way, shown)
        if token is not None:
            found["introspection"] = _number(self.introspected(token).get("sub"))
            for path in ("/auth/v1", "/auth/v2"):
                async with talk(self.service, path) as talking:
                    said = await talking.call("authenticate", session_key=token)
                    found[path] = said["data"]["user"]["id"] if "user" in said["data"] else None
            async with talk(self.service, "/react-auth") as talking:
                resumed = await talking.ask({"type": SOCKET_RESUME, "session": token})
                # It does not say whose it is, only that it is somebody's.
                found["react-auth's socket"] = (found["account API by token"] or 0) if resumed["success"] else None
        if access is not None:
            found["introspection of an access token"] = _number(self.introspected(access).get("sub"))
            answer = self.ask("GET", "/verify", token=access)
            found["a proxy by an access token"] = _number(answer.headers.get("X-User-Id"))
        return found

    def _known_as(self, way: str, shown: str) -> dict[str, int | None]:
        what: Any = {way: shown}
        at = self.ask("POST", "/api/authenticate", **what).json()["at"]
        verified = self.ask("GET", "/verify", headers={"X-Forwarded-Method": "GET"}, **what)
        found = {
            f"account API by {way}": self._account(**what),
            f"auth-server by {way}": self._account(token=at),
            f"a proxy by {way}": _number(verified.headers.get("X-User-Id")),
        }
        if way == "cookie":
            found["react-auth by cookie"] = (
                self.ask("POST", "/react-auth", data=RESUME, **what).json()["user"].get("id")
            )
        return found

    def _account(self, **what: Any) -> int | None:
        answer = self.ask("GET", "/api/session", **what)
        if answer.status_code == 401:
            return None
        user = answer.json()["user"]
        return int(user["id"]) if user["level"] > 0 else None

    def close(self) -> None:
        """Ends its connections."""
        super().close()
        self.aside.close()


def cookie_in(said: str) -> str:
    """The value of a Set-Cookie header."""
    return said.partition(";")[0].partition("=")[2]


def _number(said: str | None) -> int | None:
    return None if said is None else int(said)


@contextmanager
def playing(folder: Path, **settings: Any) -> Iterator[Scene]:
    """A scene in that folder: behind a proxy that ends TLS, with pages elsewhere that are trusted."""
    variables = {"GATEBOOK_INTROSPECTION_CLIENTS": f"shop:{sha256(SECRET.encode()).hexdigest()}"}
    usual = {"trusted_proxies": "127.0.0.1", "trusted_origins": TRUSTED, "throttle_account_failures": 10_000}
    with (
        running(folder, variables=variables, **FAST | usual | settings) as service,
        closing(open_book(parse_address(f"sqlite:{service.store}"))) as book,
        closing(Scene(service, book)) as found,
    ):
        yield found
