"""One document through the chain: clean -> split -> segment -> word references."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from flash.corpus.clean import clean_text
from flash.corpus.records import Block, Document, Reject
from flash.corpus.segment import SegmenterChoice, load_segmenter
from flash.corpus.split import BlockSplitter
from flash.corpus.token_spans import SpanEncoder
from flash.corpus.word_refs import continuation_marks


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


class Annotator:
    """Turns documents into blocks with their word references."""

    def __init__(self, settings: AnnotationSettings) -> None:
        self._settings = settings
        self._segmenter = load_segmenter(settings.segmenter)
        self._splitter = BlockSplitter(
            SpanEncoder(settings.tokenizer_json),
            self._segmenter,
            max_tokens=settings.max_tokens,
            min_chars=settings.min_block_chars,
        )

    def annotate(self, document: Document) -> Iterator[Block | Reject]:
        """Yield the document's blocks in order; a block or document too short to learn from as a `Reject`."""
        text = clean_text(document.text, goes_on=not document.is_last_part)
        if not text:
            detail = "no text is left after cleaning"
            yield Reject("empty_text", document.source, document.line, detail, offset=document.offset)
        for block, spans in self._splitter.split(text):
            if len(block) < self._settings.min_block_chars:
                detail = f"{len(block)} characters, fewer than the {self._settings.min_block_chars} of a block"
                yield Reject("short_block", document.source, document.line, detail, len(block), document.offset)
                continue
            yield Block(block, spans.ids, continuation_marks(self._segmenter.cut(block), spans))
