"""The addresses of the admin endpoint, and what it is made of."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from projections.projection import AnyProjection
from service.audit import DOOR, Audit
from service.gate.lookups import Lookups
from service.past import Past
from service.readers import Readers
from service.rebuilds import Rebuilds
from service.tails import Tails
from service.web.admin.looks import Looks
from service.web.admin.operations import admin_operations
from service.web.admin.rebuilds import RebuildViews
from service.web.admin.tail import TailView
from service.web.admin.writes import Writes
from service.web.operations import Operation
from service.web.principals import Needs, Route, View
from service.writer import Writer

PAGE: Final = 100


class Admin(Struct, frozen=True):
    """What the endpoint is made of: where it reads and writes, where looks are written down, the usual page.

    `projections` are those of the service's own book: their names, keys and indexes.
    """

    readers: Readers
    writer: Writer
    lookups: Lookups
    audit: Audit
    past: Past
    rebuilds: Rebuilds
    tails: Tails
    projections: tuple[AnyProjection, ...]
    page: int = PAGE


def admin_routes(admin: Admin, body_bytes: int) -> list[Route]:
    """The addresses of the admin endpoint; all of them need an admin."""
    looks = Looks(admin.readers, admin.audit, admin.past, admin.projections, admin.page)
    writes = Writes(admin.writer, admin.lookups, admin.audit, body_bytes)
    rebuilds = RebuildViews(admin.rebuilds, admin.audit, admin.projections, body_bytes)
    views = {
        "GET /admin/api/projections": looks.projections,
        "GET /admin/api/projections/<name>": looks.documents,
        "GET /admin/api/projections/<name>/<key>": looks.document,
        "GET /admin/api/projections/<name>/rebuild": rebuilds.look,
        "POST /admin/api/projections/<name>/rebuild": rebuilds.ask,
        "GET /admin/api/events": looks.events,
        "GET /admin/api/events/<position>": looks.event,
        "GET /admin/api/events/follow": TailView(admin.tails, admin.audit).follow,
        "POST /admin/api/users/<id>/deactivate": writes.deactivate,
        "POST /admin/api/users/<id>/reactivate": writes.reactivate,
        "POST /admin/api/users/<id>/level": writes.set_level,
        "DELETE /admin/api/sessions/<id>": writes.end_session,
    }
    operations = admin_operations(admin.projections)
    return [_route(endpoint, view, operations[endpoint]) for endpoint, view in views.items()]


def _route(endpoint: str, view: View, operation: Operation) -> Route:
    method, _, path = endpoint.partition(" ")
    return Route(method, path, view, DOOR, Needs.ADMIN, operation=operation)
