"""What exists at a service: values that mean something, and for each operation what is carried out when one may ask."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from tests.attacks.visitors import AUTHENTICATE, FORM, JSON
from tests.conformance.running import PATIENCE, Running, fresh
from tests.conformance.talk import PASSWORD
from tests.schema.askers import ADMIN, LEVELS, Asker

Parts = dict[str, Any]
"""Keywords of schemathesis' `Case`."""

Values = Mapping[str, list[int] | list[str]]
"""Values that mean something, by what they are."""

STANDING: Final = {
    "path.id": "ids",
    "path.session_id": "ids",
    "path.position": "positions",
    "path.key": "keys",
    "query.user": "ids",
    "query.at": "positions",
    "header.If-None-Match": "tags",
    "header.X-Forwarded-Method": "methods",
    "body.identifier": "names",
    "body.email": "names",
    "body.username": "names",
    "body.password": "passwords",
    "body.old_password": "passwords",
    "body.token": "tokens",
}
"""Which of them stand where in every other request that is made up."""


class Known:
    """Makes what requests are about, as an admin of its own."""

    def __init__(self, service: Running) -> None:
        self._warden = Asker(service, ADMIN)
        self._is_rebuilt = False
        listed = self._warden.ask("GET", "/admin/api/projections")["projections"]
        self._projections = [one["name"] for one in listed]
        people = [self._person() for _ in range(3)]
        self._somebody = people[0]
        sessions = [self._session(person) for person in people]
        ids = [*(person["id"] for person in people), *(number for number, _ in sessions)]
        self.values: Values = {
            "ids": ids,
            "positions": [1, 2, 3, *ids],
            "keys": [str(number) for number in ids],
            "names": [self._somebody["username"]],
            "passwords": [PASSWORD],
            "tokens": [token for _, token in sessions],
            "tags": ["*", '"x"', 'W/"x", "y"'],
            "methods": ["GET", "POST"],
        }

    def close(self) -> None:
        """Ends its connections."""
        self._warden.close()

    def promote(self, user: int) -> None:
        """Makes an admin of somebody."""
        self._warden.ask("POST", f"/admin/api/users/{user}/level", {"level": LEVELS["admin"]})

    def example(self, operation: str, asker: Asker) -> Parts:
        """A request that is carried out when one asks who may."""
        make = self._examples.get(operation)
        return {} if make is None else make(self, asker)

    def _person(self) -> dict[str, Any]:
        account = {"username": fresh("person"), "nickname": fresh("nick")}
        answer = self._warden.client.post("/api/register", json=account | {"password": PASSWORD})
        assert answer.status_code == 201, answer.text
        person: dict[str, Any] = account | answer.json()
        return person

    def _session(self, person: Mapping[str, Any]) -> tuple[int, str]:
        form = {"identifier": person["username"], "password": PASSWORD}
        answer = self._warden.client.post("/api/session", json=form)
        assert answer.status_code == 201, answer.text
        token: str = answer.json()["token"]
        return int(token.partition("|")[0]), token

    def _registration(self, _: Asker) -> Parts:
        account = {"username": fresh("new"), "nickname": fresh("nick"), "email": f"{fresh('new')}@example.org"}
        return _json(account | {"password": PASSWORD})

    def _login(self, field: str, **more: str) -> Parts:
        return _json({field: self._somebody["username"], "password": PASSWORD, **more})

    def _one_of_theirs(self, asker: Asker) -> Parts:
        # Whoever has no account has no session to end here.
        token = asker.log_in() if asker.account else None
        return _path(session_id=1 if token is None else int(token.partition("|")[0]))

    def _deactivated(self, _: Asker) -> Parts:
        number = self._person()["id"]
        self._warden.ask("POST", f"/admin/api/users/{number}/deactivate")
        return _path(id=number)

    def _to_rebuild(self, _: Asker) -> Parts:
        # One is made at a time.
        deadline = time.monotonic() + PATIENCE
        while any(self._is_being_rebuilt(name) for name in self._projections):
            assert time.monotonic() < deadline, "a rebuild does not end"
        return _path(name="activity")

    def _rebuilt(self, asker: Asker) -> Parts:
        # Once is enough: it is told of until the service stops.
        if not self._is_rebuilt:
            self._to_rebuild(asker)
            self._warden.ask("POST", "/admin/api/projections/activity/rebuild")
            self._is_rebuilt = True
        return _path(name="activity")

    def _is_being_rebuilt(self, name: str) -> bool:
        rebuild = self._warden.ask("GET", f"/admin/api/projections/{name}/rebuild", may_be_absent=True)
        return rebuild is not None and rebuild["state"] == "running"

    def _then(self, _: Asker) -> Parts:
        number = self._somebody["id"]
        return _path(name="users", key=str(number)) | {"query": {"at": number}}

    _examples: Final[dict[str, Callable[[Known, Asker], Parts]]] = {
        "POST /api/register": _registration,
        "POST /api/session": lambda self, _: self._login("identifier"),
        "PATCH /api/profile": lambda _, __: _json({"nickname": fresh("nick")}),
        "DELETE /api/sessions/{session_id}": _one_of_theirs,
        "POST /react-auth": lambda self, _: self._login("username", type=AUTHENTICATE),
        "POST /api/login": lambda self, _: self._login("email"),
        "POST /api/introspect": lambda self, _: {
            "body": {"token": self._session(self._somebody)[1]},
            "media_type": FORM,
        },
        "GET /admin/api/projections/{name}": lambda _, __: _path(name="users") | {"query": {"limit": 3}},
        "GET /admin/api/projections/{name}/{key}": _then,
        "GET /admin/api/projections/{name}/rebuild": _rebuilt,
        "POST /admin/api/projections/{name}/rebuild": _to_rebuild,
        "GET /admin/api/events/{position}": lambda _, __: _path(position=1),
        "GET /admin/api/events/follow": lambda _, __: {"query": {"after": 0}},
        "POST /admin/api/users/{id}/deactivate": lambda self, _: (
            _path(id=self._person()["id"]) | _json({"reason": "x"})
        ),
        "POST /admin/api/users/{id}/reactivate": _deactivated,
        "POST /admin/api/users/{id}/level": lambda self, _: _path(id=self._person()["id"]) | _json({"level": 2}),
        "DELETE /admin/api/sessions/{id}": lambda self, _: _path(id=self._session(self._person())[0]),
    }
    """By method and path; the others need nothing."""


def _path(**parts: int | str) -> Parts:
    return {"path_parameters": parts}


def _json(body: Mapping[str, Any]) -> Parts:
    return {"body": dict(body), "media_type": JSON}
