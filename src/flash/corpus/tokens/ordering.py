"""The place of a document in the order of all: a number that is known without knowing the others."""

from __future__ import annotations

_OFFSET_BITS = 40  # a terabyte in one file, 16 million files
_MASK = (1 << 64) - 1


def document_key(file: int, offset: int, shuffle_seed: int | None) -> int:
    """Return a number below 2^64 that no other document has; rows are put in the order of these.

    Without a seed it counts up through the input. With one it is that number, mixed: one-to-one, and as good as
    drawn at random, so keys spread evenly. Source of the mixing: SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).

    Args:
        file: Number of the document's file.
        offset: The document's place in the file, in bytes or rows.
        shuffle_seed: Of the random order.
    """
    assert offset < 1 << _OFFSET_BITS
    key = (file << _OFFSET_BITS) | offset
    return key if shuffle_seed is None else _mixed(key ^ _mixed(shuffle_seed & _MASK))


def _mixed(value: int) -> int:
    value = (value + 0x9E3779B97F4A7C15) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)
