"""Text -> words, behind a protocol small enough that another segmenter can take the place of rjieba."""

from __future__ import annotations

from importlib.metadata import version
from typing import Protocol

import rjieba


class Segmenter(Protocol):
    """Cuts text into words; the words joined give the text back."""

    name: str
    version: str

    def cut(self, text: str) -> list[str]:
        """Return the words of ``text`` in order, white space and punctuation included."""
        ...


class RjiebaSegmenter:
    """rjieba in its default mode: dictionary plus hidden Markov model for words the dictionary lacks."""

    name = "rjieba"
    version = version("rjieba")

    def cut(self, text: str) -> list[str]:
        """Return rjieba's own cuts of ``text``; raises RuntimeError where they do not give the text back."""
        words = rjieba.cut(text)
        if "".join(words) != text:
            # the references would shift without notice, so this is worth its 2 % of the time
            raise RuntimeError(f"rjieba {self.version} changed the text it was to cut: {text[:80]!r}")
        return words
