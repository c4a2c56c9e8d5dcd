"""Stage 2: one stretch of the order of all rows, gathered from every run -> one shard."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from itertools import accumulate
from operator import attrgetter
from typing import Any

import numpy as np
import pyarrow as pa

from flash.corpus.tokens import tokenize
from flash.corpus.tokens.job import Job
from flash.corpus.tokens.packing import pack_sequences
from flash.corpus.tokens.rows import id_dtype, ids_column, pack_bits, token_schema, unpack_bits
from flash.corpus.tokens.runs import Row, read_run_keys, read_run_rows

# Its writer holds an object for each sequence of a shard: bounded both ways, neither long nor many fill the memory.
_SHARD_TOKENS = 16 << 20  # 35 MB
_SHARD_ROWS = 1 << 17
_BATCH_ROWS = 1024
_KEYS = 1 << 64

_FOLDER = "shards"
_INDEX = "index.json"


def write_index(job: Job) -> dict[str, Any]:
    """Put the accounts of all tasks together, once all are finished; return and keep what the next stage needs."""
    folder = job.work.child(tokenize.FOLDER)
    runs: list[dict[str, Any]] = []
    for task in range(len(job.tasks)):
        account = tokenize.read_account(folder, task)
        if account is None:
            raise ChildProcessError(f"task {task} of {job.work.place} is not finished: give the same command again")
        runs += account["runs"]
    tokens = sum(run["tokens"] for run in runs)
    rows = sum(run["rows"] for run in runs)
    index = {"shards": max(-(-tokens // _SHARD_TOKENS), -(-rows // _SHARD_ROWS)), "tokens": tokens, "runs": runs}
    job.work.write_json(_INDEX, index)
    return index


def read_index(job: Job) -> dict[str, Any] | None:
    """Return what `write_index` kept."""
    index: dict[str, Any] | None = job.work.read_json(_INDEX)
    return index


def shard_name(shard: int, count: int) -> str:
    """Return the name of a shard's file."""
    return f"shard-{shard:05d}-of-{count:05d}.arrow"


def read_shard_account(job: Job, shard: int) -> dict[str, Any] | None:
    """Return a finished shard's entry for the manifest; None if it is not finished, or not as it was written."""
    account: dict[str, Any] | None = job.work.child(_FOLDER).read_json(f"{shard:06d}.json")
    if account is None or job.dataset.size_bytes(account["file"]) != account["bytes"]:
        return None
    return account


def write_shard(job: Job, index: dict[str, Any], shard: int) -> dict[str, Any]:
    """Write one shard and return its entry for the manifest, which is kept too."""
    settings = job.settings
    rows = list(_rows_of_shard(job, index, shard))
    dtype = id_dtype(job.tokenizer["vocab_size"])
    schema = token_schema(job.tokenizer["vocab_size"], packed=settings.pack)
    lengths = [len(row.input_ids) for row in rows]
    groups: Sequence[Sequence[int]] = [[number] for number in range(len(rows))]
    if settings.pack:
        groups = list(pack_sequences(lengths, settings.max_length))
    name = shard_name(shard, index["shards"])
    with job.dataset.writing(name) as path:
        with pa.OSFile(os.fsencode(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
            for begin in range(0, len(groups), _BATCH_ROWS):
                batch = [[rows[number] for number in group] for group in groups[begin : begin + _BATCH_ROWS]]
                columns: list[pa.Array] = [
                    ids_column([_joined_ids(group) for group in batch], dtype),
                    pa.array([_joined_bits(group) for group in batch], pa.large_binary()),
                ]
                if settings.pack:
                    lengths_of_rows = [[len(row.input_ids) for row in group] for group in batch]
                    columns.append(pa.array(lengths_of_rows, pa.list_(pa.int32())))
                writer.write_batch(pa.record_batch(columns, schema=schema))
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        size = path.stat().st_size
    account = {"file": name, "rows": len(groups), "tokens": sum(lengths), "bytes": size, "sha256": digest}
    job.work.child(_FOLDER).write_json(f"{shard:06d}.json", account)
    return account


def _rows_of_shard(job: Job, index: dict[str, Any], shard: int) -> Iterator[Row]:
    """Yield the rows of a shard in their order: equal stretches of the keys or, unshuffled, of the numbers of rows."""
    folder, runs, count = job.work.child(tokenize.FOLDER), index["runs"], index["shards"]
    if job.settings.shuffle_seed is None:
        ends = list(accumulate(run["rows"] for run in runs))
        begin, end = (ends[-1] * place // count for place in (shard, shard + 1))
        for run, run_end in zip(runs, ends, strict=True):
            run_begin = run_end - run["rows"]
            low, high = max(begin, run_begin), min(end, run_end)
            if low < high:
                yield from read_run_rows(folder, run, low - run_begin, high - run_begin)
        return
    begin, end = (_KEYS * place // count for place in (shard, shard + 1))
    rows = [row for run in runs for row in read_run_keys(folder, run, begin, end)]
    # stable: rows of one document have one key, and stand in the order of the runs
    yield from sorted(rows, key=attrgetter("key"))


def _joined_ids(group: Sequence[Row]) -> np.ndarray[Any, Any]:
    return group[0].input_ids if len(group) == 1 else np.concatenate([row.input_ids for row in group])


def _joined_bits(group: Sequence[Row]) -> bytes:
    if len(group) == 1:
        return group[0].word_starts
    return pack_bits(np.concatenate([unpack_bits(row.word_starts, len(row.input_ids)) for row in group]))
