"""Hostile input, by what it is: for the HTTP listener, for the handshake of sockets, and for sockets that are open.

What the guards are tested with one by one is here too, and what only a whole service can be asked.
"""

from __future__ import annotations

import gzip
import json
import struct
from typing import Final

from tests.guards.edge import frame, upgrade
from tests.guards.test_http_guard import HOSTILE as HTTP_GUARD
from tests.guards.test_socket_guard import FRAMES as SOCKET_GUARD
from tests.guards.test_socket_guard import HANDSHAKES as HANDSHAKE_GUARD

MORE, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
PATH: Final = "/auth/v2"
SMUGGLED: Final = b"GET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n"


def request(*lines: str, body: bytes = b"", method: str = "POST", path: str = "/api/register") -> bytes:
    """A request with these header lines, byte by byte as they stand."""
    return "\r\n".join([f"{method} {path} HTTP/1.1", "host: x", *lines, "", ""]).encode("latin-1") + body


def _smuggling(*lines: str, body: bytes = b"0\r\n\r\n" + SMUGGLED) -> bytes:
    return request("content-type: application/json", *lines, body=body)


_LENGTH = f"content-length: {5 + len(SMUGGLED)}"
_SHORT = "content-length: 4"
_TE = "transfer-encoding"

SMUGGLING: Final[dict[str, bytes]] = {
    "both lengths": _smuggling(_LENGTH, f"{_TE}: chunked"),
    "both lengths, the other way round": _smuggling(f"{_TE}: chunked", _SHORT),
    "both lengths, in capitals": _smuggling(_LENGTH, f"{_TE.upper()}: CHUNKED"),
    "both lengths, on a GET": request(_LENGTH, f"{_TE}: chunked", body=b"0\r\n\r\n" + SMUGGLED, method="GET"),
    "chunked in an encoding nobody knows": _smuggling(_SHORT, f"{_TE}: xchunked"),
    "an encoding before chunked": _smuggling(f"{_TE}: gzip, chunked"),
    "chunked twice": _smuggling(f"{_TE}: chunked, chunked"),
    "chunked in two lines": _smuggling(f"{_TE}: chunked", f"{_TE}: chunked"),
    "chunked and identity": _smuggling(f"{_TE}: chunked", f"{_TE}: identity"),
    "identity": _smuggling(f"{_TE}: identity", _SHORT),
    "chunked in quotes": _smuggling(f'{_TE}: "chunked"', _SHORT),
    "chunked with a parameter": _smuggling(f"{_TE}: chunked;q=1", _SHORT),
    "a blank before the colon": _smuggling(f"{_TE} : chunked", _SHORT),
    "a tab before the colon": _smuggling(f"{_TE}\t: chunked", _SHORT),
    "a vertical tab before chunked": _smuggling(f"{_TE}: \x0bchunked", _SHORT),
    "a NUL behind chunked": _smuggling(f"{_TE}: chunked\x00", _SHORT),
    "chunked in letters that only look so": _smuggling(f"{_TE}: chun\xaded", _SHORT),
    "a folded header": _smuggling(f"{_TE}:\r\n chunked", _SHORT),
    "a header that begins with a blank": request(f" {_TE}: chunked", _SHORT, body=b"0\r\n\r\n" + SMUGGLED),
    "a bare line feed before it": _smuggling(f"x: y\n{_TE}: chunked", _SHORT),
    "a bare carriage return before it": _smuggling(f"x: y\r{_TE}: chunked", _SHORT),
    "two lengths that differ": _smuggling("content-length: 5", _LENGTH),
    "two lengths in one line": _smuggling(f"content-length: 5, {5 + len(SMUGGLED)}"),
    "a length with a sign": _smuggling("content-length: +5"),
    "a length below zero": _smuggling("content-length: -5"),
    "a length in hexadecimal": _smuggling("content-length: 0x5"),
    "a length with an underscore": _smuggling("content-length: 1_0"),
    "a length with a fraction": _smuggling("content-length: 5.0"),
    "a length of nothing": _smuggling("content-length: "),
    "a length in digits of another script": _smuggling("content-length: \xb2"),
    "a chunk of a size with a sign": _smuggling(f"{_TE}: chunked", body=b"+0\r\n\r\n" + SMUGGLED),
    "a chunk of a size in hexadecimal with a prefix": _smuggling(f"{_TE}: chunked", body=b"0x0\r\n\r\n" + SMUGGLED),
    "a chunk of a size below zero": _smuggling(f"{_TE}: chunked", body=b"-1\r\n\r\n" + SMUGGLED),
    "a chunk of more than there is": _smuggling(f"{_TE}: chunked", body=b"f" * 25 + b"\r\n" + SMUGGLED),
    "a chunk that is longer than it says": _smuggling(f"{_TE}: chunked", body=b"1\r\nabcd\r\n0\r\n\r\n" + SMUGGLED),
    "an extension without an end": _smuggling(f"{_TE}: chunked", body=b"0;" + b"a" * 200_000),
    "trailers without an end": _smuggling(f"{_TE}: chunked", body=b"0\r\n" + b"x: y\r\n" * 40_000),
}
"""What two parsers in a row might cut apart differently (CWE-444; ASVS 5.0: 4.2.1)."""

BOMB: Final = gzip.compress(bytes(30 * 2**20))
_JSON = "content-type: application/json"

HTTP: Final[dict[str, bytes]] = {
    **{name: sent for name, (sent, _) in HTTP_GUARD.items()},
    **{f"smuggling: {name}": sent for name, sent in SMUGGLING.items()},
    "a body that is a bomb": request(
        _JSON, "content-encoding: gzip", f"content-length: {len(BOMB)}", "connection: close", body=BOMB
    ),
    "arrays within arrays": request(_JSON, "content-length: 60000", "connection: close", body=b"[" * 60_000),
    "objects within objects": request(_JSON, "content-length: 60000", "connection: close", body=b'{"a":' * 12_000),
    "a number of sixty thousand digits": request(
        _JSON, "content-length: 60013", "connection: close", body=b'{"username":' + b"1" * 60_000 + b"}"
    ),
    "a form of sixty thousand fields": request(
        "content-type: application/x-www-form-urlencoded", "content-length: 60000", "connection: close",
        body=b"&=" * 30_000, path="/react-auth",
    ),
    "a million cookies": request("connection: close", f"cookie: {'a=b; ' * 3_000}", method="GET", path="/api/session"),
    "a path of dots": request("connection: close", method="GET", path="/../../../../etc/passwd"),
    "a path of encoded dots": request("connection: close", method="GET", path="/%2e%2e/%2e%2e/etc/passwd%00"),
    "a path that is not UTF-8": request("connection: close", method="GET", path="/%ff%fe"),
    "a query that is not UTF-8": request("connection: close", method="GET", path="/api/session?%ff=%fe"),
    "two hosts": request("host: y", "connection: close", method="GET", path="/api/session"),
    "a method of a thousand letters": request("connection: close", method="A" * 1_000),
    "a token of a thousand letters": request(f"authorization: Bearer {'x' * 9_000}", "connection: close", method="GET"),
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
    "five hundred requests at once, the last of them broken": request(method="GET", path="/") * 500 + b"\x00\r\n\r\n",
}  # fmt: skip
"""For the HTTP listener. Each of these ends its connection."""

HANDSHAKES: Final[dict[str, bytes]] = {
    **HANDSHAKE_GUARD,
    "no host": upgrade(PATH).replace(b"host: x\r\n", b""),
    "chunks": upgrade(PATH, Transfer_Encoding=b"chunked") + b"0\r\n\r\n",
    "both lengths": upgrade(PATH, Transfer_Encoding=b"chunked", Content_Length=b"5") + b"0\r\n\r\n",
    "another upgrade": upgrade(PATH, Upgrade=b"h2c"),
    "CONNECT": b"CONNECT x:443 HTTP/1.1\r\nhost: x\r\n\r\n",
    "a path of dots": upgrade("/../../auth/v2"),
    "a path that nobody serves": upgrade("/auth/v3"),
    "a page of another site": upgrade(PATH, Origin=b"https://evil.example"),
    "a page of nobody": upgrade(PATH, Origin=b"null"),
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500) + b"\r\n\r\n",
    "a request for HTTP": request("connection: close", method="GET", path="/api/session"),
}
"""For the socket listener: what is refused before anything is open."""


def _packet(**what: object) -> bytes:
    return frame(TEXT, json.dumps(what).encode())


def _raw(first: int, payload: bytes = b"") -> bytes:
    return bytes([first, 0x80 | len(payload)]) + bytes(4) + payload


OPEN: Final[dict[str, tuple[bytes, int]]] = {
    **SOCKET_GUARD,
    "a compressed frame": (_raw(0xC1, b"\xaa\x56\x4a"), 1002),
    "a compressed fragment": (frame(TEXT, b"x", final=False) + _raw(0xC0, b"x"), 1002),
    "the second reserved bit": (_raw(0xA1, b"x"), 1002),
    "the third reserved bit": (_raw(0x91, b"x"), 1002),
    **{f"opcode {code}": (_raw(0x80 | code), 1002) for code in (3, 7, 12, 15)},
    "a ping of 126 bytes": (frame(PING, b"x" * 126), 1002),
    "a fragmented close": (frame(CLOSE, final=False), 1002),
    "a close of one byte": (frame(CLOSE, b"\x03"), 1002),
    "a close whose reason is not UTF-8": (frame(CLOSE, b"\x03\xe8\xff"), 1007),
    **{f"a close with {code}": (frame(CLOSE, struct.pack("!H", code)), 1002) for code in (0, 999, 1005, 1006, 1015)},
    "a message inside a message": (frame(TEXT, b"a", final=False) + frame(TEXT, b"b"), 1002),
    "a length with its highest bit set": (b"\x82\xff\x80" + bytes(7) + bytes(4), 1002),
    "bytes where text belongs": (frame(BINARY, b"x"), 1003),
    "half a character at the end": (frame(TEXT, b"\xe2\x82"), 1007),
    "half a character between fragments": (frame(TEXT, b"\xe2\x82", final=False) + frame(MORE, b"\xff"), 1007),
    "a surrogate": (frame(TEXT, b"\xed\xa0\x80"), 1007),
}
"""For an open socket: what closes it, and with which code."""

SPOKEN: Final[dict[str, bytes]] = {
    "nothing": frame(TEXT),
    "no JSON": frame(TEXT, b"{"),
    "arrays within arrays": frame(TEXT, b"[" * 60_000),
    "objects within objects": frame(TEXT, b'{"data":' * 8_000),
    "a receipt within a receipt": frame(TEXT, b'{"route":"auth.logout","receipt":' + b"[" * 40 + b"]" * 40 + b"}"),
    "a number of fifty thousand digits": frame(TEXT, b'{"route":' + b"1" * 50_000 + b"}"),
    "a number without end": frame(TEXT, b'{"receipt":1e999999}'),
    "a constructor": _packet(route="__class__", data={"__proto__": {"level": 2}}),
    "a level of one's own": _packet(route="auth.register", data={"username": "x" * 9, "level": 2, "active": True}),
    "NUL in a name": _packet(route="auth.login", data={"username": "a\x00b", "password": "\x00" * 8}),
    "half a surrogate pair": frame(TEXT, b'{"route":"auth.login","data":{"username":"\\ud800","password":"x"}}'),
    "a thousand keys of one name": frame(TEXT, b"{" + b'"route":"x",' * 999 + b'"route":"x"}'),
    "a key of a session that never was": _packet(route="auth.authenticate", data={"session_key": "9" * 400}),
}
"""For an open socket: what is answered with an error, after which the socket goes on."""
