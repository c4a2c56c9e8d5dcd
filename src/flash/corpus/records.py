"""The rows that the steps of the text strand hand on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Document:
    """One document as read, not yet cleaned.

    ``part`` counts from 0 the records that one very long document is continued in. Each is cleaned on its own, so
    white space where two of them meet stands at the end of the first. ``offset`` is the place of the document's first
    byte in the decompressed file; in a Parquet file, the number of its row, from 0.
    """

    text: str
    source: str
    line: int
    part: int = 0
    is_last_part: bool = True
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Reject:
    """Something left out of the result: where it was, why, and how to get it in.

    ``line`` is None where the whole file is meant; ``characters`` counts cleaned text and is 0 where nothing
    could be decoded; ``offset`` is the first byte of the line in the decompressed file, None where there is none.
    """

    reason: str
    source: str
    line: int | None
    detail: str
    characters: int = 0
    offset: int | None = None


@dataclass(frozen=True, slots=True)
class InputSummary:
    """What was read of one file, or of one range of it, told at its end; the hash is of the bytes as they lie on disk.

    ``record_count`` counts documents and rejects; ``line_count`` is 0 for Parquet, whose rows number themselves.
    """

    path: str
    byte_count: int
    sha256: str
    document_count: int
    record_count: int
    line_count: int


# What reading gives, in the order of the input.
Record = Document | Reject | InputSummary


class TokenSpans(NamedTuple):
    """A text's tokens, special ones left out: their ids and character offsets; ``starts`` never decreases."""

    ids: NDArray[np.int32]
    starts: NDArray[np.int32]
    ends: NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Block:
    """A stretch of a document that fits the model, its tokens, and which of them continue a word."""

    text: str
    token_ids: NDArray[np.int32]
    continues_word: NDArray[np.bool_]

    @property
    def chinese_ref(self) -> NDArray[np.int32]:
        """Positions of the tokens that continue a word, [CLS] counted: the first token of the text is 1."""
        return (np.flatnonzero(self.continues_word) + 1).astype(np.int32)
