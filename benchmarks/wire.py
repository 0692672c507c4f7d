"""Ready-made requests: an HTTP GET with a bearer token, a POST, an upgrade, a masked WebSocket text frame."""

from __future__ import annotations

import base64
import os
import re
import struct

_MASK = b"\x01\x02\x03\x04"
_SHORT = 126
_HEADER = 4
_LENGTH = re.compile(rb"content-length: *([0-9]+)", re.IGNORECASE)


def http_get(path: str, token: str = "") -> bytes:
    """A whole request; the connection stays open."""
    bearer = f"Authorization: Bearer {token}\r\n" if token else ""
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{bearer}\r\n".encode()


def http_post(path: str, body: bytes) -> bytes:
    """A whole request with a body of JSON; the connection stays open."""
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return head.encode() + b"\r\n\r\n" + body


def upgrade(port: int, path: str) -> bytes:
    """A whole request for a WebSocket."""
    key = base64.b64encode(os.urandom(16)).decode()
    return (
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    ).encode()


def masked_text(text: str) -> bytes:
    """One final text frame (RFC 6455, 5.2) under a constant mask: a benchmark has no proxy to protect."""
    payload = text.encode()
    masked = bytes(byte ^ _MASK[at % 4] for at, byte in enumerate(payload))
    if len(payload) < _SHORT:
        return bytes((0x81, 0x80 | len(payload))) + _MASK + masked
    return bytes((0x81, 0x80 | _SHORT)) + struct.pack(">H", len(payload)) + _MASK + masked


def is_whole_response(answer: bytes) -> bool:
    """Whether a response with a Content-Length has come to its end."""
    head, found, body = answer.partition(b"\r\n\r\n")
    length = _LENGTH.search(head)
    return bool(found) and length is not None and len(body) >= int(length[1])


def is_whole_frame(answer: bytes) -> bool:
    """Whether one unmasked frame of less than 64 KiB has come to its end."""
    if len(answer) < _HEADER:
        return False
    short = answer[1] & 0x7F
    length = 2 + short if short < _SHORT else _HEADER + int.from_bytes(answer[2:4], "big")
    return len(answer) >= length
