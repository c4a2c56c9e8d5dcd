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
    white space where two of them meet stands at the end of the first.
    """

    text: str
    source: str
    line: int
    part: int = 0
    is_last_part: bool = True


@dataclass(frozen=True, slots=True)
class Reject:
    """Something left out of the result: where it was, why, and how to get it in.

    ``line`` is None where the whole file is meant; ``characters`` counts cleaned text and is 0 where nothing
    could be decoded.
    """

    reason: str
    source: str
    line: int | None
    detail: str
    characters: int = 0


@dataclass(frozen=True, slots=True)
class InputSummary:
    """What was read of one file, told at its end; the hash is of its bytes as they lie on disk."""

    path: str
    byte_count: int
    sha256: str
    document_count: int


# What reading gives, in the order of the input.
Record = Document | Reject | InputSummary


class TokenSpans(NamedTuple):
    """Character offsets of a text's tokens, special tokens left out; ``starts`` never decreases."""

    starts: NDArray[np.int32]
    ends: NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Block:
    """One row of the dataset: a stretch of a document, and the positions of its continuation tokens.

    Positions count the special tokens before the text, so with [CLS] the first token of the text is 1.
    """

    text: str
    chinese_ref: NDArray[np.int32]
    token_count: int
