"""Sequences of token ids with word starts, and the two Arrow columns that hold them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

_MOST_UINT16_IDS = 1 << 16


def id_dtype(vocab_size: int) -> np.dtype[Any]:
    """Return the smallest unsigned type that holds every id, of 16 bits or 32."""
    return np.dtype(np.uint16 if vocab_size <= _MOST_UINT16_IDS else np.uint32)


def token_schema(vocab_size: int, *, packed: bool) -> pa.Schema:
    """Return the columns of a shard, as docs/data.md describes them."""
    columns = [
        ("input_ids", pa.large_list(pa.from_numpy_dtype(id_dtype(vocab_size)))),
        ("word_starts", pa.large_binary()),
    ]
    return pa.schema([*columns, ("sequence_lengths", pa.list_(pa.int32()))] if packed else columns)


def pack_bits(marks: NDArray[np.bool_]) -> bytes:
    """Return one bit a token, lowest bit first."""
    return np.packbits(marks, bitorder="little").tobytes()


def unpack_bits(data: bytes, count: int) -> NDArray[np.bool_]:
    """Return the marks that `pack_bits` was given."""
    return np.unpackbits(np.frombuffer(data, dtype=np.uint8), count=count, bitorder="little").view(np.bool_)


def ids_column(sequences: Sequence[NDArray[Any]], dtype: np.dtype[Any]) -> pa.LargeListArray:
    """Put sequences of ids into one column."""
    offsets = np.zeros(len(sequences) + 1, dtype=np.int64)
    np.cumsum([len(sequence) for sequence in sequences], out=offsets[1:])
    values = np.concatenate(sequences).astype(dtype, copy=False) if sequences else np.empty(0, dtype=dtype)
    return pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(values))


def sequence_values(column: pa.LargeListArray) -> list[NDArray[Any]]:
    """Return the sequences of a column of ids, as views of its memory."""
    values = column.values.to_numpy(zero_copy_only=True)
    offsets = column.offsets.to_numpy(zero_copy_only=True).tolist()
    return [values[begin:end] for begin, end in pairwise(offsets)]
