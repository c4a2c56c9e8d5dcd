"""What a task has made so far, in sorted runs on disk: the rows of each in the order of their keys."""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from flash.corpus.folders import Folder
from flash.corpus.tokens.rows import id_dtype, ids_column, pack_bits, sequence_values

# A task that reads much, such as a large compressed file, writes several runs and never holds more than one.
_RUN_TOKENS = 8 << 20
_RUN_ROWS = 1 << 17

# Few rows, because a reader that wants a stretch of keys reads whole batches.
BATCH_ROWS = 256


class Row(NamedTuple):
    """A sequence, its word-start bits, and its document's place in the order of all."""

    key: int
    input_ids: NDArray[Any]
    word_starts: bytes


class RunWriter:
    """Takes a task's rows, and writes them as runs.

    Args:
        folder: Where to write.
        name: Begins the names of the files.
        vocab_size: Decides the type of the ids.
    """

    def __init__(self, folder: Folder, name: str, vocab_size: int) -> None:
        self._folder = folder
        self._name = name
        self._dtype = id_dtype(vocab_size)
        self._rows: list[Row] = []
        self._tokens = 0
        self.runs: list[dict[str, Any]] = []

    def add(self, key: int, input_ids: NDArray[Any], is_word_start: NDArray[np.bool_]) -> None:
        """Take one sequence; ``is_word_start`` has the shape of ``input_ids``, (n,)."""
        self._rows.append(Row(key, input_ids.astype(self._dtype), pack_bits(is_word_start)))
        self._tokens += len(input_ids)
        if self._tokens >= _RUN_TOKENS or len(self._rows) >= _RUN_ROWS:
            self.flush()

    def flush(self) -> None:
        """Write what is held as one run; nothing, where nothing is."""
        if not self._rows:
            return
        self._rows.sort(key=lambda row: row.key)  # stable: the rows of a document keep their order
        name = f"{self._name}-{len(self.runs):03d}.arrow"
        schema = pa.schema(
            [
                ("key", pa.uint64()),
                ("input_ids", pa.large_list(pa.from_numpy_dtype(self._dtype))),
                ("word_starts", pa.large_binary()),
            ]
        )
        first_keys = []
        with self._folder.writing(name) as path:
            with pa.OSFile(os.fsencode(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
                for begin in range(0, len(self._rows), BATCH_ROWS):
                    batch = self._rows[begin : begin + BATCH_ROWS]
                    first_keys.append(batch[0].key)
                    columns = [
                        pa.array(np.array([row.key for row in batch], dtype=np.uint64)),
                        ids_column([row.input_ids for row in batch], self._dtype),
                        pa.array([row.word_starts for row in batch], pa.large_binary()),
                    ]
                    writer.write_batch(pa.record_batch(columns, schema=schema))
            size = path.stat().st_size
        run = {"file": name, "bytes": size, "rows": len(self._rows), "tokens": self._tokens, "first_keys": first_keys}
        self.runs.append(run)
        self._rows, self._tokens = [], 0


def read_run_keys(folder: Folder, run: dict[str, Any], begin: int, end: int) -> Iterator[Row]:
    """Yield the rows of a run with ``begin <= key < end``, in their order."""
    first_keys = run["first_keys"]
    first_batch = max(0, bisect_left(first_keys, begin) - 1)
    for row in _read_batches(folder, run, first_batch, bisect_left(first_keys, end)):
        if begin <= row.key < end:
            yield row


def read_run_rows(folder: Folder, run: dict[str, Any], begin: int, end: int) -> Iterator[Row]:
    """Yield the rows of a run from number ``begin`` to ``end``."""
    first_batch = begin // BATCH_ROWS
    rows = _read_batches(folder, run, first_batch, -(-end // BATCH_ROWS))
    for number, row in enumerate(rows, start=first_batch * BATCH_ROWS):
        if begin <= number < end:
            yield row


def _read_batches(folder: Folder, run: dict[str, Any], begin: int, end: int) -> Iterator[Row]:
    if begin >= end:
        return
    with folder.open_arrow(run["file"]) as source:
        reader = pa.ipc.open_file(source)
        for index in range(begin, end):
            batch = reader.get_batch(index)
            ids = sequence_values(batch["input_ids"])
            for key, sequence, bits in zip(
                batch["key"].to_pylist(), ids, batch["word_starts"].to_pylist(), strict=True
            ):
                yield Row(key, sequence, bits)
