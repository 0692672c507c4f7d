"""Texts that are code, an address or an end of something to one interpreter or another; and signs that one was run."""

from __future__ import annotations

import json
import re
from typing import Final

RESULT: Final = str(7919 * 7907)
"""What stands somewhere when one of them was worked out."""
MARK: Final = "owned"
"""The name of what is there when one of them was carried out: a file, a header, a cookie, an event."""

PRINTABLE: Final[dict[str, str]] = {
    "SQL": "' OR '1'='1' -- ",
    "SQL, another statement": "1; DROP TABLE entries; --",
    "SQL, a union": "-1 UNION SELECT password_hash, 7919*7907 FROM read_users",
    "quotes": "'\"`\\",
    "wild cards": "%_*?[a-z]",
    "a path": "../../../../../../etc/passwd",
    "a path with backslashes": "..\\..\\..\\etc\\passwd",
    "a path that was encoded": "..%2f..%2f..%2fetc%2fpasswd%00",
    "a file's address": "file:///etc/passwd",
    "templates": "{{7919*7907}}${7919*7907}#{7919*7907}<%= 7919*7907 %>",
    "a format": "%s%n%(levelname)s{0}{0.__class__.__mro__}{MARK!r:>99}",
    "a look-up": "${jndi:ldap://127.0.0.1:1/x}${env:PATH}",
    "HTML": f"<script>{MARK}</script>",
    "an entity": '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><x>&e;</x>',
    "a command": f"$(touch {MARK})`touch {MARK}`;touch {MARK}|touch {MARK}&touch {MARK}",
    "a directory's filter": "*)(uid=*))(|(uid=*",
    "an operator": '{"$gt": ""}',
    "a header, encoded": f"x%0d%0aSet-Cookie:%20{MARK}=1",
    "an encoded word": f"=?utf-8?q?=0D=0A{MARK}?=",
    "right to left": "\u202egnp.exe",
    "a line separator": f'x\u2028{{"event": "{MARK}"}}\u2029',
    "long": "A" * 600,
}
"""Of characters that a header may have."""

CONTROLS: Final[dict[str, str]] = {
    "lines": f"x\r\nSet-Cookie: {MARK}=1\r\n\r\n<html>",
    "a line of a log": f'x"}}\n{{"level": "error", "event": "{MARK}"}}\n',
    "a bare line feed": f"x\n{MARK}: 1",
    "a bare carriage return": f"x\r{MARK}: 1",
    "NUL": f"a\0{MARK}",
    "a terminal's title": f"\x1b]0;{MARK}\x07\x1b[2J\x1b[31m",
    "a terminal's title in eight bits": f"\x9d0;{MARK}\x9c\x9b2J\x9b31m",
    "backspaces": "x\b\b\b\x7f",
    "a next line": f'x\x85{{"event": "{MARK}"}}',
}
"""Of characters that no text of one line has."""

ALL: Final = PRINTABLE | CONTROLS

_RUN: Final = re.compile(rf"{RESULT}|root:[^:]*:0:0:|{MARK}\W*=1\s*(?:;|$)|SQL(?:ite|STATE)|Traceback", re.MULTILINE)
_ENDS: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e]")


def signs_of(text: str) -> list[str]:
    """What in a text shows that one of them was carried out."""
    return _RUN.findall(text)


def wrong_lines(log: str) -> list[str]:
    """Lines of a log that are not each one object of JSON, of our own making, without a control character."""
    return [line for line in log.removesuffix("\n").split("\n") if not _is_right(line)]


def _is_right(line: str) -> bool:
    try:
        said = json.loads(line)
    except ValueError:
        return False
    ours = isinstance(said, dict) and {"timestamp", "level", "event"} <= said.keys() and said["event"] != MARK
    return ours and not _ENDS.search(line) and not signs_of(line)


def controls_in(text: str) -> list[str]:
    """The characters that could end a line or move a terminal; line ends and tabs are the writer's own."""
    return _ENDS.findall(text)
