"""The Quart-Trio application: routes from tables, a principal for each of them, and one shape for every refusal."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Final

import structlog
from quart import Request, Response
from quart.ctx import RequestContext
from quart.globals import request_ctx
from quart_trio import QuartTrio
from werkzeug.exceptions import MethodNotAllowed

from service.credentials.clients import Clients
from service.errors import InternalError, NoSuchRoute, Refused
from service.gate.access_tokens import AccessTokens
from service.gate.gate import Gate
from service.gate.guests import Guests
from service.guards.http1 import Refusal
from service.guards.hypercorn import render_refusal
from service.guards.quart_trio import WholeRequestConnection
from service.guards.reporting import describe
from service.metrics import Metrics
from service.web import answers
from service.web.access_tokens import access_token_routes
from service.web.account import account_routes
from service.web.admin import Admin, admin_routes
from service.web.auth_server import auth_server_routes
from service.web.cookies import SessionCookies
from service.web.cors import CORS
from service.web.forward_auth import forward_auth_route
from service.web.health import health_routes
from service.web.introspection import introspection_route
from service.web.openapi import openapi_route
from service.web.origins import Origins
from service.web.principals import Route, asked
from service.web.react_auth import react_auth_routes

log = structlog.get_logger("gatebook.web")

BODY_BYTES: Final = 65_536
_DISGUISED: Final = re.compile(rb"%(?:2[d-f]|3[0-9]|[46][1-9a-f]|[57][0-9a]|5f|7e)", re.IGNORECASE)
"""A letter, a digit or one of `-._~/` that is percent-encoded, without need (RFC 3986, 2.3)."""
OURS_ALONE: Final = Origins()
NO_CLIENTS: Final = Clients()


class Doors(QuartTrio):
    """Quart-Trio with its dispatching narrowed to our routes: closed by default, and no exception unanswered."""

    asgi_http_class = WholeRequestConnection

    def __init__(
        self, gate: Gate, routes: Sequence[Route], cookies: SessionCookies, origins: Origins, metrics: Metrics
    ) -> None:
        super().__init__("service.web", static_folder=None)
        self._gate = gate
        self._cookies = cookies
        self._origins = origins
        self._metrics = metrics
        self._cors = CORS(origins.trusted)
        self._routes = {route.endpoint: route for route in routes}
        self._seconds = {route.door: metrics.request_seconds.labels(route.door) for route in routes}
        # An address has one contract, whatever the method.
        self._unheard = {route.path.encode(): route.unheard for route in routes}
        for route in routes:
            self.add_url_rule(
                route.path, route.endpoint, route.view, methods=[route.method], provide_automatic_options=False
            )

    def unheard(self, refusal: Refusal, target: bytes) -> bytes:
        """What the listener says to a request that never gets here, in the shape of the address's contract."""
        return self._unheard.get(target.partition(b"?")[0], render_refusal)(refusal)

    async def full_dispatch_request(self, request_context: RequestContext | None = None) -> Response:
        """The answer to a request; refusals and faults of ours are answers too.

        Quart would send signals and run hooks around this; there are none, and they were a fifth of the cost.
        """
        context = request_context or request_ctx
        return self._cors.opened(context.request, await self._dispatched(context.request))

    async def _dispatched(self, request: Request) -> Response:
        try:
            # Werkzeug takes //admin for /admin, and whoever decodes first takes /%61dmin and /admin%2Fapi for it too.
            # What a proxy in front of us lets pass by its prefix must not come out there.
            if request.scope["path"].startswith("//") or _DISGUISED.search(request.scope["raw_path"]):
                raise NoSuchRoute
            if request.routing_exception is not None or request.url_rule is None:
                return self._unrouted(request.method, request.routing_exception)
            return await self._answered(request, self._routes[request.url_rule.endpoint])
        except Refused as refusal:
            return answers.refused(refusal)
        except Exception as error:  # noqa: BLE001 - the last word on a request
            return answers.refused(_failed(request, error))

    async def _answered(self, request: Request, route: Route) -> Response:
        """The route's answer; its refusals are those of its contract."""
        started = perf_counter()
        try:
            return await route.view(await asked(request, route, self._gate, self._cookies, self._origins))
        except Refused as refusal:
            self._metrics.refusals.labels(refusal.code, route.door).inc()
            return route.refused(refusal, token_given="Authorization" in request.headers)
        except Exception as error:  # noqa: BLE001 - one fault is one request's
            self._metrics.refusals.labels(InternalError.code, route.door).inc()
            return route.refused(_failed(request, error))
        finally:
            self._seconds[route.door].observe(perf_counter() - started)

    def _unrouted(self, method: str, error: Exception | None) -> Response:
        # Werkzeug would redirect some addresses to others; an address is what it is, and no body is ever sent twice.
        if not isinstance(error, MethodNotAllowed):
            raise NoSuchRoute
        methods = sorted({*(error.valid_methods or ()), "OPTIONS"})
        return answers.options(methods) if method == "OPTIONS" else answers.not_allowed(methods)


def _failed(request: Request, error: Exception) -> InternalError:
    # By kind and place: the error's own text may quote what was sent, a password included.
    log.error("request_failed", endpoint=request.endpoint, error=describe(error))
    return InternalError()


def create_app(
    gate: Gate,
    guests: Guests,
    admin: Admin,
    readiness: Callable[[], list[str]],
    metrics: Metrics,
    *,
    cookies: SessionCookies,
    tokens: AccessTokens,
    clients: Clients = NO_CLIENTS,
    origins: Origins = OURS_ALONE,
    body_bytes: int = BODY_BYTES,
) -> Doors:
    """The application, to be served by `service.guards.hypercorn.serve_http` and by nothing else.

    `readiness` gives the reasons why the service is not ready, none when it is; it must not wait.
    """
    routes = [
        *account_routes(gate, admin.readers, cookies, body_bytes),
        *react_auth_routes(gate, cookies, body_bytes),
        *auth_server_routes(gate, guests, cookies, body_bytes),
        *access_token_routes(tokens),
        introspection_route(tokens, gate.lookups, clients, body_bytes),
        forward_auth_route(gate, tokens, cookies, origins),
        *admin_routes(admin, body_bytes),
        *health_routes(readiness),
    ]
    return Doors(gate, [*routes, openapi_route(routes)], cookies, origins, metrics)
