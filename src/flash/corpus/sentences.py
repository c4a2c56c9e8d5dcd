"""Where a text may be cut by its characters alone: sentence ends, clause ends, between characters and marks."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

_CLOSERS = re.escape("”’」』）】》〉〕\"')]}")
_CHINESE = "\u3040-\u30ff\u3400-\u9fff“‘「『（《【"

# A full stop of Latin script ends a sentence only before a space ("3.14", "a.com"); "!" and "?" also before Chinese,
# where half-width marks are common. A space or line break after the end belongs to the sentence it ends.
_SENTENCE_END = re.compile(rf"[。！？…]+[{_CLOSERS}]*\s?|[.!?]+[{_CLOSERS}]*\s|[!?]+[{_CLOSERS}]*(?=[{_CHINESE}])|\n")
# A space behind an ideograph is what a line break or a gap between two phrases became.
_CLAUSE_END = re.compile(rf"[；，：、;—]+[{_CLOSERS}]*\s?|[,:][{_CLOSERS}]*\s|(?<=[\u3400-\u9fff])\s")

# How far a search for the last end in a long text looks back, and how far beyond the border a match may reach.
_LOOK_BACK_CHARS = 65536
_LOOK_AHEAD_CHARS = 64

_ZERO_WIDTH_JOINER = "\u200d"


def sentence_ends(text: str) -> list[int]:
    """Return, ascending, the positions right behind the sentences of ``text``."""
    return [match.end() for match in _SENTENCE_END.finditer(text)]


def clause_ends(text: str, begin: int, end: int) -> list[int]:
    """Return, ascending, the positions in ``(begin, end]`` right behind clause punctuation."""
    return list(_ends(_CLAUSE_END, text, begin, end))


def splits_cluster(text: str, position: int) -> bool:
    """Say whether a cut at ``position`` parts a character from its marks, or an emoji sequence."""
    if position <= 0 or position >= len(text):
        return False
    before, after = text[position - 1], text[position]
    return (
        unicodedata.category(after).startswith("M")
        or _ZERO_WIDTH_JOINER in (before, after)
        or "\U0001f3fb" <= after <= "\U0001f3ff"  # skin tones
        or ("\U0001f1e6" <= before <= "\U0001f1ff" and "\U0001f1e6" <= after <= "\U0001f1ff")  # flags
    )


def last_cluster_end(text: str, begin: int, end: int) -> int:
    """Return the last position in ``(begin, end]`` that parts no character from its marks, else ``end``."""
    for position in range(end, begin, -1):
        if not splits_cluster(text, position):
            return position
    return end


def last_sentence_end(text: str, end: int) -> int:
    """Return the last position in ``(0, end]`` to cut a long text at: a sentence end, else what comes next to it."""
    begin = max(0, end - _LOOK_BACK_CHARS)
    for pattern in (_SENTENCE_END, _CLAUSE_END):
        position = max(_ends(pattern, text, begin, end), default=0)
        if position:
            return position
    return text.rfind(" ", begin, end) + 1 or last_cluster_end(text, begin, end)


def _ends(pattern: re.Pattern[str], text: str, begin: int, end: int) -> Iterator[int]:
    # beyond the border, so that "?" before it is seen together with "!" behind it
    for match in pattern.finditer(text, begin, end + _LOOK_AHEAD_CHARS):
        if match.end() > end:
            return
        yield match.end()
