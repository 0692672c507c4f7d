"""Whether the addresses of the settings can be listened on, tried by listening for a moment."""

from __future__ import annotations

from collections.abc import Iterator
from errno import EADDRINUSE
from typing import Final, Literal

from service.guards.listening import ListenError, bind_tcp
from service.settings import Settings

IN_USE: Final = "nothing, if that is a gatebook that runs already"


def check_ports(settings: Settings) -> Iterator[tuple[str, Literal["ok", "warn"], str, str]]:
    """Listener, state, what was found, and what to do, for each address."""
    for name, address in (("http", settings.http), ("ws", settings.ws), ("metrics", settings.metrics)):
        if address is None:
            yield name, "ok", "off", ""
            continue
        try:
            for sock in bind_tcp(address.host, address.port):
                sock.close()
        except ListenError as error:
            in_use = isinstance(error.__cause__, OSError) and error.__cause__.errno == EADDRINUSE
            yield name, "warn", str(error), IN_USE if in_use else f"choose another --{name}"
        else:
            yield name, "ok", f"{address} is free", ""
