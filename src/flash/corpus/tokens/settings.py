"""What decides the content of a token folder."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from flash.corpus.annotate import check_block_sizes
from flash.corpus.documents import ReadingSettings
from flash.corpus.lines import check_encoding
from flash.corpus.segment import SegmenterChoice
from flash.errors import InputError

Deduplication = Literal["exact", "minhash"]
DEDUPLICATIONS: tuple[Deduplication, ...] = ("exact", "minhash")


@dataclass(frozen=True, slots=True)
class TokenSettings:
    """What decides the content of a token folder, besides input and tokenizer.

    Args:
        max_length: Most tokens of a row, [CLS] and [SEP] counted.
        min_block_chars: Shorter blocks are rejected; only documents that short give any.
        shuffle_seed: Of a random order of documents; None keeps the order of the input.
        pack: Put as many sequences into a row as fit.
        deduplicate: Keep one of the documents with the same (``exact``) or much the same (``minhash``) cleaned text.
        segmenter: What cuts words.
        reading: How the files are read.
    """

    max_length: int = 512
    min_block_chars: int = 10
    shuffle_seed: int | None = None
    pack: bool = False
    deduplicate: Deduplication | None = None
    segmenter: SegmenterChoice = field(default_factory=SegmenterChoice)
    reading: ReadingSettings = field(default_factory=ReadingSettings)

    def __post_init__(self) -> None:
        check_block_sizes(self.max_length, self.min_block_chars)
        if self.deduplicate not in (None, *DEDUPLICATIONS):
            raise InputError(f"deduplicate must be {' or '.join(DEDUPLICATIONS)}, got {self.deduplicate!r}")
        check_encoding(self.reading.encoding)
