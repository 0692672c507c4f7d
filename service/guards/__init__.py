"""The edge of the process: guards that keep one hostile client from ending more than its own connection.

`service.guards.hypercorn.serve_http` and `service.guards.trio_websocket.serve_sockets` serve; what stands here is light
to import. The guards reach into libraries that were not made for it; `TESTED_VERSIONS` says which they were tested on.
"""

from __future__ import annotations

from service.guards.limits import HTTPLimits, SocketLimits
from service.guards.listening import ListenError, bind_tcp, bound_address
from service.guards.proxies import Proxies
from service.guards.reporting import Hooks
from service.guards.tls import Certificate, TLSError
from service.guards.versions import TESTED_VERSIONS, untested_versions

__all__ = [
    "TESTED_VERSIONS",
    "Certificate",
    "HTTPLimits",
    "Hooks",
    "ListenError",
    "Proxies",
    "SocketLimits",
    "TLSError",
    "bind_tcp",
    "bound_address",
    "untested_versions",
]
