"""`GET /openapi.json`: the routes told in OpenAPI 3.1, out of what they are made of."""

from __future__ import annotations

from service.web.openapi.route import openapi_route

__all__ = ["openapi_route"]
