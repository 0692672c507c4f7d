"""Passwords as PRECIS OpaqueString (RFC 8265 section 4.2), in time that grows with their length and no faster.

A password has no upper limit but the body's, so its preparation must not be a weapon. A library's enforcement takes
minutes for 64 KiB of Arabic digits, since it holds every digit against all the others, and Unicode normalisation itself
is quadratic in a long run of combining marks. Here every code point is judged once for all, a run of more than thirty
marks is refused as UAX #15 (Stream-Safe Text Format) bounds it, and so are more than a thousand characters that must
be held against their neighbours. Otherwise the result is the same.
"""

import re
import sys
import unicodedata
from typing import Final

from precis_i18n.context import context_rule_error
from precis_i18n.derived import CONTEXTJ, CONTEXTO, FREE_PVAL, PVALID, derived_property
from precis_i18n.unicode import UnicodeData

__all__ = ["LONGEST_RUN_OF_MARKS", "MOST_IN_CONTEXT", "NotOpaqueError", "opaque"]

LONGEST_RUN_OF_MARKS: Final = 30
"""How many combining marks may follow one another, from UAX #15 section 12."""

MOST_IN_CONTEXT: Final = 1_000
"""How many characters may depend on their neighbours (joiners, middle dots, …): each costs microseconds to look at."""

_UNICODE: Final = UnicodeData()
_UTF_32: Final = f"utf-32-{sys.byteorder[0]}e"
_OTHER_SPACES: Final = re.compile("[\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]")

# Whether a character in these rules is allowed depends on its neighbours: joiners, middle dot, keraia, geresh.
_LOCAL_RULES: Final = frozenset("\u200c\u200d\u00b7\u0375\u05f3\u05f4")
# How far from a joiner the letters that it joins may stand.
_WINDOW: Final = LONGEST_RUN_OF_MARKS + 2

_CONTEXT, _DISALLOWED, _JUDGED, _MARK = 1, 2, 4, 8
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
    judgements = _judge(spaced)
    _refuse_long_runs(spaced, judgements)
    prepared = unicodedata.normalize("NFC", spaced)
    _refuse_disallowed(prepared, judgements if prepared == spaced else _judge(prepared))
    return prepared


def _judge(text: str) -> set[int]:
    """Return the judgements that occur in the text, after making those that were not made yet."""
    # As numbers in one buffer: a text of many different ideographs costs a fifth of what a set of them does.
    code_points = memoryview(text.encode(_UTF_32, "surrogatepass")).cast("I")
    found = set(map(_judgements.__getitem__, code_points))
    if 0 in found:
        for character in set(text):
            if not _judgements[ord(character)]:
                _judgements[ord(character)] = _judgement(character)
        found = set(map(_judgements.__getitem__, code_points))
    return found


def _judgement(character: str) -> int:
    judged = _JUDGED
    found = derived_property(ord(character), _UNICODE)[0]
    if found in {CONTEXTJ, CONTEXTO}:
        judged |= _CONTEXT
    elif found not in {PVALID, FREE_PVAL}:
        judged |= _DISALLOWED
    # A letter with a mark in one code point begins with a letter, and ends a run.
    if unicodedata.combining(unicodedata.normalize("NFD", character)[0]):
        judged |= _MARK
    return judged


def _refuse_long_runs(text: str, judgements: set[int]) -> None:
    if not any(judgement & _MARK for judgement in judgements):
        return
    marks = {character for character in set(text) if _judgements[ord(character)] & _MARK}
    run = 0
    for character in text:
        run = run + 1 if character in marks else 0
        if run > LONGEST_RUN_OF_MARKS:
            raise NotOpaqueError("marks")


def _refuse_disallowed(text: str, judgements: set[int]) -> None:
    if any(judgement & _DISALLOWED for judgement in judgements):
        raise NotOpaqueError("disallowed")
    if not any(judgement & _CONTEXT for judgement in judgements):
        return
    distinct = set(text)
    in_context = {character for character in distinct if _judgements[ord(character)] & _CONTEXT}
    # Most rules ask what else the text holds, wherever it stands: each character is asked about once.
    everything = "".join(distinct)
    for character in in_context - _LOCAL_RULES:
        if context_rule_error(everything, everything.index(character), _UNICODE):
            raise NotOpaqueError("context")
    _refuse_strange_neighbours(text, in_context & _LOCAL_RULES)


def _refuse_strange_neighbours(text: str, in_context: set[str]) -> None:
    if sum(map(text.count, in_context)) > MOST_IN_CONTEXT:
        raise NotOpaqueError("context")
    for found in re.finditer(f"[{''.join(in_context)}]", text) if in_context else ():
        start = max(0, found.start() - _WINDOW)
        if context_rule_error(text[start : found.end() + _WINDOW], found.start() - start, _UNICODE):
            raise NotOpaqueError("context")
