"""Hypercorn's settings and log, as far as the guard leaves them any say."""

from __future__ import annotations

from time import time
from typing import Any, Final
from wsgiref.handlers import format_date_time

import structlog
from hypercorn.config import Config
from hypercorn.logging import Logger

from service.guards.limits import HTTPLimits

log: Final[structlog.stdlib.BoundLogger] = structlog.get_logger("gatebook.http")


class GuardedConfig(Config):
    """Hypercorn's settings, as far as the guard leaves them any say."""

    def __init__(self, limits: HTTPLimits, *, secure: bool = False) -> None:
        self.h11_max_incomplete_size = limits.head_bytes
        self.include_server_header = False
        self.include_date_header = True
        self.accesslog = None
        self.errorlog = None
        self.logger_class = LifespanLog
        self._second = 0
        self._date: list[tuple[bytes, bytes]] = []
        self._hsts: list[tuple[bytes, bytes]] = []
        if secure and limits.hsts_seconds:
            self._hsts = [(b"strict-transport-security", b"max-age=%d" % limits.hsts_seconds)]

    def response_headers(self, protocol: str) -> list[tuple[bytes, bytes]]:  # noqa: ARG002 -- it is always h11
        """The date (RFC 9110, 6.6.1), made once a second instead of once an answer; and that we are asked over TLS."""
        now = int(time())
        if now != self._second:
            self._second = now
            self._date = [(b"date", format_date_time(now).encode("ascii")), *self._hsts]
        return self._date


class LifespanLog(Logger):
    """Hypercorn's own messages, of which only those about the lifespan are left, in our log."""

    async def warning(self, message: str, *args: Any, **kwargs: Any) -> None:  # noqa: ARG002 -- nobody passes any
        """The application does not take part in the lifespan."""
        log.warning(message)

    async def exception(self, message: str, *args: Any, **kwargs: Any) -> None:  # noqa: ARG002 -- nobody passes any
        """The application's lifespan ended with an error."""
        log.error(message)
