"""The admin endpoint, for principals of level 2, by what they do there."""

from __future__ import annotations

from service.web.admin.routes import Admin, admin_routes

__all__ = ["Admin", "admin_routes"]
