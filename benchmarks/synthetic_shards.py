"""Folders of token shards of any size, with the ids and word lengths of random text, written in seconds a gigabyte."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
from transformers import BertTokenizerFast

from flash.corpus.tokenizer_loading import SPECIAL_TOKENS, tokenizer_description
from flash.data.shard_schema import ROWS_OF_BLOCK

SHARD_BYTES = 500 << 20
SHARE_OF_WORD_STARTS = 0.65
_SCHEMA = pa.schema([("input_ids", pa.large_list(pa.uint16())), ("word_starts", pa.large_binary())])


def character_tokenizer(characters: int = 12_000) -> BertTokenizerFast:
    """Make a tokenizer of so many Chinese characters."""
    tokens = [*SPECIAL_TOKENS, *(chr(0x4E00 + i) for i in range(characters))]
    return BertTokenizerFast(vocab={token: index for index, token in enumerate(tokens)})


def write_synthetic_folder(folder: Path, *, gigabytes: float, length: int) -> Path:
    """Write a folder of rows of ``length`` tokens; one that is there already is taken as it is."""
    if (folder / "manifest.json").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = character_tokenizer()
    generator = np.random.default_rng(0)
    bytes_of_batch = ROWS_OF_BLOCK * (2 * length + length // 8 + 16)
    batches = max(1, round(gigabytes * 1e9 / bytes_of_batch))
    batches_of_shard = max(1, SHARD_BYTES // bytes_of_batch)
    shards = [range(start, min(start + batches_of_shard, batches)) for start in range(0, batches, batches_of_shard)]
    entries = []
    for number, of_shard in enumerate(shards):
        path = folder / f"shard-{number:05d}-of-{len(shards):05d}.arrow"
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, _SCHEMA) as writer:
            for _ in of_shard:
                writer.write_batch(_random_batch(generator, length, len(tokenizer)))
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        rows = len(of_shard) * ROWS_OF_BLOCK
        entry = {"file": path.name, "rows": rows, "tokens": rows * length}
        entries.append(entry | {"bytes": path.stat().st_size, "sha256": digest})
    tokenizer.save_pretrained(folder / "tokenizer")
    manifest = {
        "format_version": 2,
        "format": "tokens",
        "options": {"max_length": length},
        "tokenizer": tokenizer_description(tokenizer, "synthetic"),
        "shards": entries,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return folder


def _random_batch(generator: np.random.Generator, length: int, vocab_size: int) -> pa.RecordBatch:
    shape = (ROWS_OF_BLOCK, length)
    input_ids = generator.integers(len(SPECIAL_TOKENS), vocab_size, shape, dtype=np.uint16)
    input_ids[:, 0], input_ids[:, -1] = 2, 3  # [CLS], [SEP]
    word_starts = generator.random(shape, dtype=np.float32) < SHARE_OF_WORD_STARTS
    word_starts[:, [0, 1, -1]] = True
    bits = np.packbits(word_starts, axis=1, bitorder="little")
    rows = np.arange(ROWS_OF_BLOCK + 1, dtype=np.int64)
    return pa.record_batch(
        [
            pa.LargeListArray.from_arrays(rows * length, input_ids.ravel()),
            pa.LargeBinaryArray.from_buffers(
                pa.large_binary(),
                ROWS_OF_BLOCK,
                [None, pa.py_buffer(rows * bits.shape[1]), pa.py_buffer(np.ascontiguousarray(bits))],
            ),
        ],
        schema=_SCHEMA,
    )
