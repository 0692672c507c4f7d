"""The addresses of the admin endpoint, and what it is made of."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from projections.projection import AnyProjection
from service.audit import DOOR, Audit
from service.past import Past
from service.readers import Readers
from service.web.admin.looks import Looks
from service.web.principals import Needs, Route

PAGE: Final = 100


class Admin(Struct, frozen=True):
    """What the endpoint is made of: where it reads, where looks are written down, the page when none is asked for.

    `projections` are those of the service's own book: their names, keys and indexes.
    """

    readers: Readers
    audit: Audit
    past: Past
    projections: tuple[AnyProjection, ...]
    page: int = PAGE


def admin_routes(admin: Admin) -> list[Route]:
    """The addresses of the admin endpoint; all of them need an admin."""
    looks = Looks(admin.readers, admin.audit, admin.past, admin.projections, admin.page)
    views = {
        "/admin/api/projections": looks.projections,
        "/admin/api/projections/<name>": looks.documents,
        "/admin/api/projections/<name>/<key>": looks.document,
        "/admin/api/events": looks.events,
        "/admin/api/events/<position>": looks.event,
    }
    return [Route("GET", path, view, DOOR, Needs.ADMIN) for path, view in views.items()]
