"""Raw text -> text of one line that a tokenizer and a segmenter see the same way."""

from __future__ import annotations

import re

# What is never text: control characters (those that are white space excepted), lone surrogates, and the marks a
# reader does not see but a segmenter cuts at: soft hyphen, zero-width space, word joiner and invisible
# operators, directional marks, the byte-order mark, the interlinear anchors and the replacement character.
# The zero-width joiner and non-joiner stay: emoji sequences and several scripts are spelt with them.
_REMOVED = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\ud800-\udfff\xad"
    "\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff\ufff9-\ufffd]"
)


def clean_text(text: str) -> str:
    """Make every run of white space one plain space, strip the ends, and remove characters that are not text.

    Line breaks of every kind are white space, so the result is one line to ``str.splitlines`` too. No Unicode
    normalisation: every other character stays as it is. Applying it twice changes nothing more.
    """
    return " ".join(_REMOVED.sub("", text).split())
