"""What the addresses of the admin endpoint take and answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec.structs import replace

from projections.projection import AnyProjection
from service.errors import Conflict, LastAdmin, NotFound
from service.inspection import DocumentsPage, DocumentThen, EventsPage, ProjectionsView
from service.rebuilds import RebuildState
from service.shown import ShownEvent
from service.web.admin.looks import DOCUMENT, DOCUMENTS, EVENTS, KEY, POSITION
from service.web.admin.messages import Deactivation, LevelChange, Nothing, UserDocument
from service.web.admin.tail import PARAMETERS
from service.web.admin.writes import SESSION, USER
from service.web.event_stream import CONTENT_TYPE, LAST_EVENT_ID
from service.web.operations import Operation
from service.web.queries import Choice, Whole

LAST_SEEN: Final = Whole(LAST_EVENT_ID, "The id of the last event that was seen; it wins over `after`.")


def admin_operations(projections: Sequence[AnyProjection]) -> dict[str, Operation]:
    """The operations by method and path."""
    projection = Choice("name", "The projection.", tuple(one.name for one in projections))
    user = Operation(
        answers={200: UserDocument}, parts=(USER,), no_query=True, body=Nothing, optional=True, refuses=(Conflict,)
    )
    rebuild = Operation(answers={200: RebuildState}, parts=(projection,), no_query=True)
    return {
        "GET /admin/api/projections": Operation(answers={200: ProjectionsView}, no_query=True),
        "GET /admin/api/projections/<name>": Operation(
            answers={200: DocumentsPage}, parts=(projection,), query=DOCUMENTS
        ),
        "GET /admin/api/projections/<name>/<key>": Operation(
            answers={200: DocumentThen}, parts=(projection, KEY), query=DOCUMENT
        ),
        "GET /admin/api/projections/<name>/rebuild": rebuild,
        "POST /admin/api/projections/<name>/rebuild": replace(
            rebuild, answers={202: RebuildState}, body=Nothing, optional=True, refuses=(Conflict,)
        ),
        "GET /admin/api/events": Operation(answers={200: EventsPage}, query=EVENTS),
        "GET /admin/api/events/<position>": Operation(answers={200: ShownEvent}, parts=(POSITION,), no_query=True),
        "GET /admin/api/events/follow": Operation(
            answers={200: str}, media=CONTENT_TYPE, query=PARAMETERS, headers=(LAST_SEEN,), refuses=(NotFound,)
        ),
        "POST /admin/api/users/<id>/deactivate": replace(user, body=Deactivation, refuses=(Conflict, LastAdmin)),
        "POST /admin/api/users/<id>/reactivate": user,
        "POST /admin/api/users/<id>/level": replace(user, body=LevelChange, optional=False, refuses=(LastAdmin,)),
        "DELETE /admin/api/sessions/<id>": Operation(
            answers={204: None}, parts=(SESSION,), no_query=True, body=Nothing, optional=True
        ),
    }
