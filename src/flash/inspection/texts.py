"""Text files -> the rows that layers are measured on, and a stream of short passages to place in longer inputs."""

from __future__ import annotations

import random
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast

from flash.corpus.annotate import AnnotationSettings, Annotator
from flash.corpus.documents import ReadingSettings
from flash.corpus.input_files import find_input_files, printable
from flash.corpus.read_inputs import read_inputs
from flash.corpus.records import Block, Document, Record, Reject
from flash.corpus.rejects import RejectLog
from flash.data.tokenization import tokenize_rows
from flash.errors import InputError

# [CLS] and [SEP]
SPECIAL_TOKEN_COUNT = 2
# A passage with these fits 32 tokens, the base of the lengths that it is placed in.
PASSAGE_TOKENS = 30
# Of so many times the rows asked for, rows are drawn, so that they do not all come from the first documents.
_READ_AHEAD = 4
_MIN_ROW_CHARS = 10
_LOG_INTERVAL_DOCUMENTS = 10_000


@dataclass(frozen=True)
class Passage:
    """A stretch of a document of at most `PASSAGE_TOKENS` tokens, cut at sentence or clause ends where possible.

    Args:
        start: Its place in the stream.
        token_ids: Without [CLS] and [SEP].
        word_starts: True where a token begins a word.
    """

    start: int
    token_ids: NDArray[np.int64]
    word_starts: NDArray[np.bool_]


@dataclass(frozen=True)
class Texts:
    """What a model is measured on.

    Args:
        rows: Token ids of blocks as `flashquad prepare` makes them, [CLS] and [SEP] included.
        passages: All of the text once more, in its order, in short passages.
        stream: Token ids of all passages, one after the other.
        documents: Number of documents read.
    """

    rows: list[NDArray[np.int64]]
    passages: list[Passage]
    stream: NDArray[np.int64]
    documents: int


def read_texts(
    inputs: Sequence[Path],
    tokenizer: PreTrainedTokenizerFast,
    *,
    max_length: int,
    rows: int,
    stream_tokens: int,
    seed: int,
    reading: ReadingSettings,
) -> Texts:
    """Read documents until there is enough text, and draw rows from it.

    Args:
        inputs: Files and folders, see `find_input_files`.
        tokenizer: One with [CLS] and [SEP].
        max_length: Most tokens of a row, [CLS] and [SEP] counted.
        rows: Number of rows to draw; fewer where the text has fewer.
        stream_tokens: Tokens that the stream shall have, where the text suffices.
        seed: Of the draw.
        reading: How files are read.

    Raises:
        InputError: No file, or no text in them.
    """
    enough_tokens = max(stream_tokens, _READ_AHEAD * rows * max_length)
    to_rows = _annotator(tokenizer, max_length - SPECIAL_TOKEN_COUNT, _MIN_ROW_CHARS)
    to_passages = _annotator(tokenizer, PASSAGE_TOKENS, 1)
    row_blocks: list[Block] = []
    passage_blocks: list[Block] = []
    tokens = documents = 0
    with RejectLog() as rejects, closing(_read(inputs, reading)) as records:
        for record in records:
            if isinstance(record, Reject):
                rejects.add(record)
            if not isinstance(record, Document):
                continue
            for block in to_rows.annotate(record):
                if isinstance(block, Block):
                    row_blocks.append(block)
                else:
                    rejects.add(block)
            new = [block for block in to_passages.annotate(record) if isinstance(block, Block)]
            passage_blocks.extend(new)
            tokens += sum(len(block.token_ids) for block in new)
            documents += record.part == 0
            if tokens >= enough_tokens:
                break
        tally = rejects.tally
    if not row_blocks or not passage_blocks:
        raise InputError(f"no usable text in {', '.join(map(printable, inputs))}: {tally}; name files with more text")
    random.Random(seed).shuffle(row_blocks)
    ids = _tokenize(row_blocks[:rows], tokenizer, max_length)["input_ids"]
    passages = list(_passages(_tokenize(passage_blocks, tokenizer, PASSAGE_TOKENS + SPECIAL_TOKEN_COUNT)))
    return Texts(
        rows=[row.astype(np.int64) for row in ids],
        passages=passages,
        stream=np.concatenate([passage.token_ids for passage in passages]),
        documents=documents,
    )


def _annotator(tokenizer: PreTrainedTokenizerFast, max_tokens: int, min_block_chars: int) -> Annotator:
    return Annotator(AnnotationSettings(tokenizer.backend_tokenizer.to_str(), max_tokens, min_block_chars))


def _read(inputs: Sequence[Path], reading: ReadingSettings) -> Generator[Record, None, None]:
    files, skipped = find_input_files(inputs)
    yield from skipped
    yield from read_inputs(files, reading, title="read", log_interval=_LOG_INTERVAL_DOCUMENTS)


def _tokenize(blocks: Sequence[Block], tokenizer: PreTrainedTokenizerFast, max_length: int) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {
        "text": [block.text for block in blocks],
        "chinese_ref": [block.chinese_ref.tolist() for block in blocks],
    }
    return tokenize_rows(
        columns, list(range(len(blocks))), tokenizer=tokenizer, max_length=max_length, mark_word_pieces=False
    )


def _passages(columns: dict[str, list[Any]]) -> Iterator[Passage]:
    start = 0
    for ids, continuations in zip(columns["input_ids"], columns["continuations"], strict=True):
        word_starts = np.ones(len(ids), dtype=bool)
        word_starts[continuations] = False
        passage = Passage(start, ids[1:-1].astype(np.int64), word_starts[1:-1])
        start += len(passage.token_ids)
        yield passage
