"""Passwords as PRECIS OpaqueString (RFC 8265 section 4.2), in time that grows with their length and no faster.

A password has no upper limit but the body's, so its preparation must not be a weapon. A library's enforcement takes
minutes for 64 KiB of Arabic digits, since it holds every digit against all the others, and Unicode normalisation itself
is quadratic in a long run of combining marks. Here every distinct character is judged once, and a run of more than
thirty marks is refused as UAX #15 (Stream-Safe Text Format) bounds it; otherwise the result is the same.
"""

import re
import unicodedata
from typing import Final

from precis_i18n.context import context_rule_error
from precis_i18n.derived import CONTEXTJ, CONTEXTO, FREE_PVAL, PVALID, derived_property
from precis_i18n.unicode import UnicodeData

__all__ = ["LONGEST_RUN_OF_MARKS", "NotOpaqueError", "opaque"]

LONGEST_RUN_OF_MARKS: Final = 30
"""How many combining marks may follow one another, from UAX #15 section 12."""

_UNICODE: Final = UnicodeData()
_OTHER_SPACES: Final = re.compile("[\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]")

# Whether a character in these rules is allowed depends on its neighbours: joiners, middle dot, keraia, geresh.
_LOCAL_RULES: Final = frozenset("\u200c\u200d\u00b7\u0375\u05f3\u05f4")
# How far from a joiner the letters that it joins may stand.
_WINDOW: Final = LONGEST_RUN_OF_MARKS + 2

_ALLOWED, _CONTEXT, _DISALLOWED, _JUDGED, _MARK = 0, 1, 2, 4, 8
# What was found out about each code point when it was first met; 1.1 MB at most, whatever is sent.
_judgements: Final = bytearray(0x110000)


class NotOpaqueError(ValueError):
    """The text is not an OpaqueString: empty, holding what the profile disallows, or not stream-safe.

    Raised by `opaque` alone. Holds no part of the text; `reason` is one of empty, disallowed, context, marks.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def opaque(text: str) -> str:
    """Return the prepared form: other spaces made ASCII spaces, NFC; nothing is cut, trimmed or case-mapped.

    Raises:
        NotOpaqueError: the text can be no password.
    """
    if not text:
        raise NotOpaqueError("empty")
    if text.isascii():
        # All that is printable in ASCII is allowed and stays what it is (RFC 8264 section 9.11); the rest is controls.
        if not text.isprintable():
            raise NotOpaqueError("disallowed")
        return text
    spaced = _OTHER_SPACES.sub(" ", text)
    _refuse_long_runs(spaced)
    prepared = unicodedata.normalize("NFC", spaced)
    _refuse_disallowed(prepared)
    return prepared


def _judgement(character: str) -> int:
    code_point = ord(character)
    known = _judgements[code_point]
    if known:
        return known
    judged = _JUDGED
    found = derived_property(code_point, _UNICODE)[0]
    if found in {CONTEXTJ, CONTEXTO}:
        judged |= _CONTEXT
    elif found not in {PVALID, FREE_PVAL}:
        judged |= _DISALLOWED
    # A letter with a mark in one code point begins with a letter, and ends a run.
    if unicodedata.combining(unicodedata.normalize("NFD", character)[0]):
        judged |= _MARK
    _judgements[code_point] = judged
    return judged


def _refuse_long_runs(text: str) -> None:
    marks = {character for character in set(text) if _judgement(character) & _MARK}
    if not marks:
        return
    run = 0
    for character in text:
        run = run + 1 if character in marks else 0
        if run > LONGEST_RUN_OF_MARKS:
            raise NotOpaqueError("marks")


def _refuse_disallowed(text: str) -> None:
    distinct = "".join(sorted(set(text)))
    in_context = set()
    for position, character in enumerate(distinct):
        judgement = _judgement(character)
        if judgement & _DISALLOWED:
            raise NotOpaqueError("disallowed")
        if judgement & _CONTEXT:
            if character in _LOCAL_RULES:
                in_context.add(character)
            # The other rules ask what else the text holds, wherever it stands.
            elif context_rule_error(distinct, position, _UNICODE):
                raise NotOpaqueError("context")
    if not in_context:
        return
    for position, character in enumerate(text):
        if character in in_context:
            start = max(0, position - _WINDOW)
            if context_rule_error(text[start : position + _WINDOW + 1], position - start, _UNICODE):
                raise NotOpaqueError("context")
