"""Who asks: nobody, guests, users, admins and a client, each with what is good at the moment of asking."""

from __future__ import annotations

from collections.abc import Callable
from threading import Timer
from typing import Any, Final, NamedTuple

import httpx
from requests import PreparedRequest, Response
from requests.auth import AuthBase

from tests.attacks.asking import COOKIE
from tests.attacks.visitors import CLIENT, ENDLESS, basic
from tests.conformance.running import PATIENCE, Running, fresh
from tests.conformance.talk import PASSWORD

BEARER: Final = "bearer"
BY_COOKIE: Final = "cookie"
BASIC: Final = "basic"

LEVELS: Final = {"guest": 0, "user": 1, "admin": 2}

SOON: Final = (0.05, 1.0, 3.0, 9.0)
"""Seconds after which something is appended, for whoever follows the book: again, where they were not there yet."""


class Who(NamedTuple):
    """Somebody of a level, and the scheme by which they show it; nobody has neither."""

    level: str
    by: str | None = None

    def __str__(self) -> str:
        return self.level if self.by is None else f"{self.level}-{self.by}"


NOBODY: Final = Who("nobody")
ADMIN: Final = Who("admin", BEARER)
THE_CLIENT: Final = Who("client", BASIC)
EVERYBODY: Final = (
    NOBODY, *(Who(level, by) for level in LEVELS for by in (BEARER, BY_COOKIE)), THE_CLIENT
)  # fmt: skip
"""All who may ask, by the name that the command line has for them: `user-cookie`."""


class Asker(AuthBase):
    """Shows with each request a session that is open then: what was asked before may have ended it.

    So may it have changed or closed the account; then there is another one. `promote` makes an admin of an account, by
    its id; without it, the first admin is made by the operator.
    """

    def __init__(
        self,
        service: Running,
        who: Who,
        *,
        client_secret: str = "",
        promote: Callable[[int], object] | None = None,
    ) -> None:
        self.who = who
        self.account: dict[str, str] = {}
        self.client = httpx.Client(base_url=service.http, trust_env=False, timeout=PATIENCE)
        self._service = service
        self._client_secret = client_secret
        self._promote = promote
        self._token = self._cookie = ""
        self._may_have_changed = True
        self._coming: list[Timer] = []
        self._came: list[Timer] = []

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        """Called by requests when a request is ready to be sent."""
        self._nobody_need_come()
        if request.path_url.startswith(ENDLESS):
            self._let_somebody_come()
        request.headers.update(self.shown())
        request.register_hook("response", self._hear)
        return request

    def shown(self) -> dict[str, str]:
        """The header by which they are known at this moment."""
        if self.who.by == BASIC:
            return basic(CLIENT, self._client_secret)
        if self._may_have_changed and not self._is_known():
            self._come_anew()
        self._may_have_changed = False
        return {"Cookie": f"{COOKIE}={self._cookie}"} if self.who.by == BY_COOKIE else _bearer(self._token)

    def ask(self, method: str, path: str, body: object = None, *, may_be_absent: bool = False) -> Any:
        """What they are answered, others having asked before; None where nothing is there. Fails on other refusals."""
        self._may_have_changed = True
        answer = self.client.request(method, path, json=body, headers=self.shown())
        if may_be_absent and answer.status_code == 404:
            return None
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json()

    def log_in(self) -> str | None:
        """The token of one more session, None where the account is not what it was."""
        if self.who.level == "guest":
            return str(self.client.post("/api/authenticate").json()["at"])
        form = {"identifier": self.account.get("username", ""), "password": PASSWORD}
        answer = self.client.post("/api/session", json=form)
        is_theirs = answer.status_code == 201 and answer.json()["user"]["level"] == LEVELS[self.who.level]
        return answer.json()["token"] if is_theirs else None

    def close(self) -> None:
        """Ends its connections, after everybody came."""
        self._nobody_need_come()
        for timer in self._came:
            timer.join()
        self.client.close()

    def _hear(self, response: Response, **_: object) -> None:
        # Nothing comes to an end by being looked at, or by what was refused.
        self._may_have_changed |= response.ok and response.request.method != "GET"

    def _is_known(self) -> bool:
        if not self._token:
            return False
        answer = self.client.get("/api/session", headers=_bearer(self._token))
        return answer.status_code == 200 and answer.json()["user"]["level"] == LEVELS[self.who.level]

    def _come_anew(self) -> None:
        token = self.log_in()
        if token is None:
            self._get_an_account()
            token = self.log_in()
        assert token is not None, f"{self.who} has an account, and cannot log in"
        self._token = token
        if self.who.by == BY_COOKIE:
            answer = self.client.post("/api/authenticate", headers=_bearer(token))
            self._cookie = answer.headers["Set-Cookie"].partition(";")[0].partition("=")[2]

    def _get_an_account(self) -> None:
        name = fresh(self.who.level)
        self.account = {"username": name, "nickname": fresh("nick")}
        if self.who.level == "admin" and self._promote is None:
            made = self._service.cli("users", "add", name, "--level", "admin", "--password-stdin", given=PASSWORD)
            assert made.returncode == 0, made.stderr
            return
        answer = self.client.post("/api/register", json=self.account | {"password": PASSWORD})
        assert answer.status_code == 201, answer.text
        if self.who.level == "admin" and self._promote is not None:
            self._promote(answer.json()["id"])

    def _let_somebody_come(self) -> None:
        first, *others = (Timer(seconds, self.client.post, ["/api/authenticate"]) for seconds in SOON)
        for timer in (first, *others):
            timer.start()
        self._came.append(first)
        self._coming = others

    def _nobody_need_come(self) -> None:
        for timer in self._coming:
            timer.cancel()
        # The first always comes, so that the book is the same each time.
        self._came += self._coming
        self._coming = []


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}
