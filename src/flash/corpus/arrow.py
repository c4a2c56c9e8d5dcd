"""Blocks -> a folder that `datasets.load_from_disk` opens, written batch by batch."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

import pyarrow as pa

from flash.corpus.records import Block

# What `datasets` itself writes about the two columns.
_FEATURES = {
    "text": {"dtype": "string", "_type": "Value"},
    "chinese_ref": {"feature": {"dtype": "int32", "_type": "Value"}, "_type": "List"},
}
SCHEMA = pa.schema(
    [("text", pa.string()), ("chinese_ref", pa.list_(pa.int32()))],
    metadata={"huggingface": json.dumps({"info": {"features": _FEATURES}})},
)

DEFAULT_SHARD_BYTES = 500 << 20


def to_record_batch(blocks: Iterable[Block]) -> pa.RecordBatch:
    """Put blocks into the two columns of the dataset."""
    blocks = list(blocks)
    return pa.record_batch(
        [
            pa.array([block.text for block in blocks], pa.string()),
            pa.array([block.chinese_ref for block in blocks], pa.list_(pa.int32())),
        ],
        schema=SCHEMA,
    )


class DatasetWriter:
    """Writes record batches into Arrow shards; the same batches give the same bytes.

    Args:
        folder: Made here; must not exist.
        shard_bytes: A shard is closed once it holds at least so many bytes.
    """

    def __init__(self, folder: Path, shard_bytes: int = DEFAULT_SHARD_BYTES) -> None:
        folder.mkdir()
        self._folder = folder
        self._shard_bytes = shard_bytes
        self._shards: list[dict[str, Any]] = []
        self._open_shard()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._sink.close()

    def write(self, batch: pa.RecordBatch) -> None:
        """Append the rows of ``batch``."""
        if self._sink.tell() >= self._shard_bytes:
            self._close_shard()
            self._open_shard()
        self._writer.write_batch(batch)
        self._rows += batch.num_rows

    def finish(self) -> list[dict[str, Any]]:
        """Close the last shard, write what `datasets` needs, and return name, rows and SHA-256 of each shard."""
        self._close_shard()
        for index, shard in enumerate(self._shards):
            named_with_count = f"data-{index:05d}-of-{len(self._shards):05d}.arrow"
            (self._folder / shard["file"]).rename(self._folder / named_with_count)
            shard["file"] = named_with_count
        content = "".join(shard["sha256"] for shard in self._shards)
        state: dict[str, Any] = {
            "_data_files": [{"filename": shard["file"]} for shard in self._shards],
            # of the content, so that a cache keyed by it never serves other text
            "_fingerprint": hashlib.sha256(content.encode()).hexdigest()[:16],
            "_format_columns": None,
            "_format_kwargs": {},
            "_format_type": None,
            "_output_all_columns": False,
            "_split": None,
        }
        info = {"citation": "", "description": "", "features": _FEATURES, "homepage": "", "license": ""}
        write_json(self._folder / "state.json", state)
        write_json(self._folder / "dataset_info.json", info)
        return self._shards

    def _open_shard(self) -> None:
        self._rows = 0
        self._path = self._folder / f"data-{len(self._shards):05d}.arrow"
        self._sink = pa.OSFile(os.fsencode(self._path), mode="wb")
        self._writer = pa.ipc.new_stream(self._sink, SCHEMA)

    def _close_shard(self) -> None:
        self._writer.close()
        self._sink.close()
        with self._path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        self._shards.append({"file": self._path.name, "rows": self._rows, "sha256": digest})


def write_json(path: Path, value: object) -> None:
    """Write ``value`` as JSON that people can read too."""
    path.write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
