"""Folders of token shards, written row by row, and what must be read from them."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from transformers import PreTrainedTokenizerFast

from flash.corpus.tokenizer_loading import tokenizer_description
from flash.data.pretraining_dataset import load_prepared_folder, tokenize_dataset
from flash.data.rows import TokenRows


@dataclass
class Row:
    """One row: its ids, whether each begins a word, and, where it is packed, the lengths of its sequences."""

    input_ids: list[int]
    word_starts: list[bool]
    sequence_lengths: list[int] | None = None


def random_rows(
    count: int, tokenizer: PreTrainedTokenizerFast, *, most: int = 40, least: int = 1, seed: int = 0
) -> list[Row]:
    """Draw rows of ``least`` to ``most`` tokens between [CLS] and [SEP], in words of one to five."""
    generator = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        length = int(generator.integers(least, most + 1))
        ids = generator.integers(5, len(tokenizer), length).tolist()
        starts = (generator.random(length) < 0.6).tolist()
        starts[0] = True
        rows.append(Row([tokenizer.cls_token_id, *ids, tokenizer.sep_token_id], [True, *starts, True]))
    return rows


def packed_rows(rows: Sequence[Row], *, length: int) -> list[Row]:
    """Lay rows one behind the other, as many as fit into ``length`` tokens."""
    packed: list[Row] = []
    for row in rows:
        if not packed or len(packed[-1].input_ids) + len(row.input_ids) > length:
            packed.append(Row([], [], []))
        into = packed[-1]
        into.input_ids += row.input_ids
        into.word_starts += row.word_starts
        into.sequence_lengths = [*(into.sequence_lengths or []), len(row.input_ids)]
    return packed


def rows_of_text(folder: Path, tokenizer: PreTrainedTokenizerFast, *, max_length: int) -> list[Row]:
    """Tokenize a prepared folder of text, as pretraining does."""
    tokenized = tokenize_dataset(
        load_prepared_folder(folder), folder=folder, tokenizer=tokenizer, max_length=max_length
    )
    return [_from_columns(row) for row in tokenized]


def _from_columns(row: dict) -> Row:
    starts = [True] * len(row["input_ids"])
    for position in row["continuations"]:
        starts[position] = False
    return Row(row["input_ids"], starts)


def write_token_folder(
    folder: Path,
    rows: Sequence[Row],
    tokenizer: PreTrainedTokenizerFast,
    *,
    shards: int = 3,
    rows_of_batch: int = 7,
    max_length: int | None = 512,
    token_type: pa.DataType | None = None,
) -> Path:
    """Write the training format of docs/data.md.

    Args:
        rows: All rows, of which each shard gets a run.
        rows_of_batch: Rows of a record batch.
        max_length: What the manifest says of the longest row.
        token_type: Type of the ids, uint16 if None.
    """
    folder.mkdir(parents=True)
    entries = []
    borders = np.linspace(0, len(rows), shards + 1).astype(int)
    for number in range(shards):
        path = folder / f"shard-{number:05d}-of-{shards:05d}.arrow"
        of_shard = rows[borders[number] : borders[number + 1]]
        write_shard(path, of_shard, rows_of_batch=rows_of_batch, token_type=token_type or pa.uint16())
        entries.append(
            {
                "file": path.name,
                "rows": len(of_shard),
                "tokens": sum(len(row.input_ids) for row in of_shard),
                "bytes": path.stat().st_size,
                "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            }
        )
    tokenizer.save_pretrained(folder / "tokenizer")
    manifest = {
        "format_version": 2,
        "format": "tokens",
        "options": {"max_length": max_length},
        "tokenizer": tokenizer_description(tokenizer, "toy"),
        "shards": entries,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return folder


def write_shard(path: Path, rows: Sequence[Row], *, rows_of_batch: int, token_type: pa.DataType) -> None:
    """Write one shard."""
    columns = {
        "input_ids": pa.large_list(token_type),
        "word_starts": pa.large_binary(),
    }
    packed = bool(rows) and rows[0].sequence_lengths is not None
    if packed:
        columns["sequence_lengths"] = pa.list_(pa.int32())
    schema = pa.schema(columns.items())
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, schema) as writer:
        for start in range(0, len(rows), rows_of_batch):
            batch = rows[start : start + rows_of_batch]
            values = [
                [row.input_ids for row in batch],
                [np.packbits(row.word_starts, bitorder="little").tobytes() for row in batch],
                [row.sequence_lengths for row in batch],
            ]
            arrays = [pa.array(column, field.type) for column, field in zip(values, schema, strict=False)]
            writer.write_batch(pa.record_batch(arrays, schema=schema))


def as_rows(batch: TokenRows) -> list[Row]:
    """Take what a dataset returned apart."""
    ends = np.cumsum(batch.lengths)[:-1]
    parts = zip(np.split(batch.input_ids, ends), np.split(batch.word_starts, ends), strict=True)
    rows = [Row(ids.tolist(), starts.tolist()) for ids, starts in parts]
    if batch.sequence_lengths is not None:
        sequences = iter(batch.sequence_lengths.tolist())
        for row in rows:
            row.sequence_lengths = []
            while sum(row.sequence_lengths) < len(row.input_ids):
                row.sequence_lengths.append(next(sequences))
    return rows
