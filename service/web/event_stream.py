"""Server-sent events (WHATWG HTML, 9.2): what one looks like on the wire."""

from __future__ import annotations

from typing import Final

CONTENT_TYPE: Final = "text/event-stream"
LAST_EVENT_ID: Final = "Last-Event-ID"
"""The header in which a client that comes again says what it has seen last."""


def message(data: bytes, position: int, event: str | None = None) -> bytes:
    """An event with its id; without a name it is a `message`. The data is JSON, which has no line ends of its own."""
    name = b"" if event is None else b"event: %s\n" % event.encode()
    return b"%sid: %d\ndata: %s\n\n" % (name, position, data)


def heartbeat(position: int) -> bytes:
    """A comment, which no client shows, and the id that it should come again with."""
    return b":\nid: %d\n\n" % position


def retry(milliseconds: int) -> bytes:
    """How long a client waits before it comes again."""
    return b"retry: %d\n\n" % milliseconds
