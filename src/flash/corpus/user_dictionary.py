"""Words of the user's own, in jieba's file format."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from flash.corpus.input_files import printable
from flash.errors import InputError

# So that the frequencies of any number of words add up to an integer of the segmenter's, which has 64 bits.
_MOST_DIGITS = 12


class DictionaryEntry(NamedTuple):
    """One word; without a frequency the segmenter takes one that makes it a word."""

    word: str
    frequency: int | None
    tag: str | None


@dataclass(frozen=True, slots=True)
class UserDictionary:
    """The words of one file, its name, and SHA-256 of its bytes."""

    name: str
    sha256: str
    entries: tuple[DictionaryEntry, ...]

    def description(self) -> dict[str, Any]:
        """Return what a manifest says about it."""
        return {"name": self.name, "words": len(self.entries), "sha256": self.sha256}


def read_user_dictionary(path: Path) -> UserDictionary:
    """Read a dictionary in jieba's format: a line has a word and, after a space each, its frequency and tag, if any.

    Raises:
        InputError: It cannot be read, is not UTF-8, or a line is no such entry.
    """
    try:
        data = path.read_bytes()
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"the user dictionary {printable(path)} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{printable(path)} is not in UTF-8: convert it with iconv -t UTF-8") from error
    lines = enumerate(text.splitlines(), start=1)
    entries = tuple(_entry(line, f"{printable(path)}:{number}") for number, line in lines if line.strip())
    if not entries:
        raise InputError(f"{printable(path)} holds no words: write one a line, or leave the user dictionary out")
    return UserDictionary(printable(path), hashlib.sha256(data).hexdigest(), entries)


def _entry(line: str, place: str) -> DictionaryEntry:
    word, *rest = line.split()
    tag = rest.pop() if rest and not rest[-1].isdecimal() else None
    if len(rest) > 1 or (rest and not rest[0].isdecimal()):
        raise InputError(f"{place}: {line.strip()[:60]!r} is no entry: write a word, and behind it frequency and tag")
    if rest and len(rest[0]) > _MOST_DIGITS:
        raise InputError(f"{place}: a frequency has at most {_MOST_DIGITS} digits, this one {len(rest[0])}")
    return DictionaryEntry(word, int(rest[0]) if rest else None, tag)
