"""Raw text -> text of one line that a tokenizer and a segmenter see the same way."""

from __future__ import annotations

import re

# What is never text: control characters (those that are white space excepted), lone surrogates, and the marks a
# reader does not see but a segmenter cuts at: soft hyphen, zero-width space, word joiner and invisible
# operators, directional marks, the byte-order mark, the interlinear anchors and the replacement character.
# The zero-width joiner and non-joiner stay: emoji sequences and several scripts are spelt with them.
_REMOVED_CHARACTERS = (
    "\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\ud800-\udfff\xad"
    "\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff\ufff9-\ufffd"
)
_REMOVED = re.compile(f"[{_REMOVED_CHARACTERS}]")
_BLANK_RUN = re.compile(rf"[\s{_REMOVED_CHARACTERS}]*")


def clean_text(text: str, *, goes_on: bool = False) -> str:
    """Make every run of white space one plain space, strip the ends, and remove characters that are not text.

    Line breaks of every kind are white space, so the result is one line to ``str.splitlines`` too. No Unicode
    normalisation: every other character stays as it is. Applying it twice changes nothing more.

    Args:
        text: Any text.
        goes_on: More of the same text follows elsewhere: white space at the end becomes a space and stays.
    """
    text = _REMOVED.sub("", text)
    cleaned = " ".join(text.split())
    return f"{cleaned} " if goes_on and cleaned and text[-1].isspace() else cleaned


def blank_run_end(text: str, begin: int, end: int) -> int:
    """Return the first position in ``[begin, end]`` that does not stand before white space or what is never text."""
    match = _BLANK_RUN.match(text, begin, end)
    assert match is not None  # it matches nothing, too
    return match.end()
