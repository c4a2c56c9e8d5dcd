"""One document through the chain: clean -> split -> segment -> word references."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from flash.corpus.clean import clean_text
from flash.corpus.records import Block, Document, Reject
from flash.corpus.segment import SegmenterChoice, load_segmenter
from flash.corpus.split import BlockSplitter
from flash.corpus.token_spans import SpanEncoder
from flash.corpus.word_refs import continuation_marks
from flash.errors import InputError

SPECIAL_TOKEN_COUNT = 2  # [CLS] and [SEP]
_MIN_MAX_LENGTH = 16


def check_block_sizes(max_length: int, min_block_chars: int) -> None:
    """Raise InputError for sizes that no blocks can be made with.

    Args:
        max_length: Most tokens of a block, [CLS] and [SEP] counted.
        min_block_chars: Shorter blocks are rejected.
    """
    if max_length < _MIN_MAX_LENGTH:
        raise InputError(
            f"max_length must be at least {_MIN_MAX_LENGTH} tokens, got {max_length}; "
            "512 is what the published models were trained with"
        )
    if min_block_chars < 1:
        raise InputError(f"min_block_chars must be at least 1, got {min_block_chars}; 1 keeps every block")


@dataclass(frozen=True, slots=True)
class AnnotationSettings:
    """What turns a document into blocks; small and picklable, so that a worker process can be given it.

    Args:
        tokenizer_json: A `tokenizers.Tokenizer` as JSON.
        max_tokens: Room for the text of one block, special tokens not counted.
        min_block_chars: Shorter blocks are rejected.
        segmenter: What cuts words.
    """

    tokenizer_json: str
    max_tokens: int
    min_block_chars: int
    segmenter: SegmenterChoice = field(default_factory=SegmenterChoice)


class AnnotatedDocument(NamedTuple):
    """What a document became, and how many characters it had when it was cleaned: counted apart, they must agree."""

    results: list[Block | Reject]
    characters: int


class Annotator:
    """Turns documents into blocks with their word references."""

    def __init__(self, settings: AnnotationSettings) -> None:
        self._settings = settings
        self._segmenter = load_segmenter(settings.segmenter)
        self._encoder = SpanEncoder(settings.tokenizer_json)
        self._splitter = BlockSplitter(
            self._encoder, self._segmenter, max_tokens=settings.max_tokens, min_chars=settings.min_block_chars
        )

    def annotate(self, document: Document) -> list[Block | Reject]:
        """Return the document's blocks in order; a block or document too short to learn from as a `Reject`."""
        (annotated,) = self.annotate_all([document])
        return annotated.results

    def annotate_all(self, documents: Sequence[Document]) -> list[AnnotatedDocument]:
        """Return what `annotate` does for each document, at a lower price where they are short."""
        texts = [clean_text(document.text, goes_on=not document.is_last_part) for document in documents]
        split = [
            list(self._splitter.split(text, spans))
            for text, spans in zip(texts, self._encoder.encode_documents(texts), strict=True)
        ]
        least = self._settings.min_block_chars
        kept = [(block, spans) for blocks in split for block, spans in blocks if len(block) >= least]
        words = [self._segmenter.cut(block) for block, _ in kept]
        marks = iter(continuation_marks(words, [spans for _, spans in kept]))
        return [
            AnnotatedDocument(
                [
                    Block(block, spans.ids, next(marks)) if len(block) >= least else self._short(document, block)
                    for block, spans in blocks
                ]
                or [_empty(document)],
                len(text),
            )
            for document, text, blocks in zip(documents, texts, split, strict=True)
        ]

    def _short(self, document: Document, block: str) -> Reject:
        detail = f"{len(block)} characters, fewer than the {self._settings.min_block_chars} of a block"
        return Reject("short_block", document.source, document.line, detail, len(block), document.offset)


def _empty(document: Document) -> Reject:
    detail = "no text is left after cleaning"
    return Reject("empty_text", document.source, document.line, detail, offset=document.offset)
