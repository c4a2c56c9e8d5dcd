"""A shard of token rows on a local disk, mapped into memory: any rows of it, and nothing else of it, are read."""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from flash.data.manifest import shown
from flash.data.row_places import RowPlaces, Runs
from flash.data.shard_schema import buffers_of, check_batch, check_schema, column_dtypes, damaged, faults_of


class _Table(NamedTuple):
    """What the descriptions of the record batches say.

    Args:
        first_rows: First row of each, and behind them the number of rows.
        buffers: For each column where in the file its offsets and its values begin, in bytes, ``(record batches, 2)``.
        schema: The columns.
    """

    first_rows: NDArray[np.int64]
    buffers: dict[str, NDArray[np.int64]]
    schema: pa.Schema


class MappedShard:
    """Rows of one Arrow file, read where they lie.

    Opening reads the file's footer and the description of each record batch (1,024 rows); processes that are forked or
    started from this one map the file anew.

    Args:
        path: The file.
        rows: Its rows, as the manifest says.
    """

    def __init__(self, path: Path, rows: int) -> None:
        self.path = path
        self.rows = rows

    def __reduce__(self) -> tuple:
        return (type(self), (self.path, self.rows))

    @cached_property
    def _file(self) -> pa.Buffer:
        with pa.memory_map(str(self.path)) as file:
            return file.read_buffer()

    @cached_property
    def _table(self) -> "_Table":
        with faults_of(self.path):
            reader = pa.ipc.open_file(pa.BufferReader(self._file))
            check_schema(reader.schema, self.path)
            batches = (reader.get_batch(index) for index in range(reader.num_record_batches))
            described = [(batch.num_rows, self._places_of(batch)) for batch in batches if batch.num_rows]
        first_rows = np.cumsum([0, *(count for count, _ in described)])
        if first_rows[-1] != self.rows:
            raise damaged(self.path, f"it holds {first_rows[-1]} rows, the manifest says {self.rows}")
        places = np.array([places for _, places in described])  # (record batches, columns, 2)
        return _Table(first_rows, dict(zip(reader.schema.names, places.swapaxes(0, 1), strict=True)), reader.schema)

    def _places_of(self, batch: pa.RecordBatch) -> list[list[int]]:
        """Say for each column where in the file its offsets and its values begin, in bytes."""
        check_batch(batch, self.path)
        places = [[buffer.address - self._file.address for buffer in buffers_of(column)] for column in batch.columns]
        if np.any(np.array(places) % 8):
            raise damaged(self.path, "its buffers do not lie at multiples of eight bytes")
        return places

    @property
    def is_packed(self) -> bool:
        """Whether a row may be several sequences."""
        return "sequence_lengths" in self._table.schema.names

    def lengths(self) -> NDArray[np.int64]:
        """Return the tokens of each row, ``(rows,)``; reads no token."""
        return self._runs(np.arange(self.rows), "input_ids").lengths

    def places(self, rows: NDArray[np.int64], positions: NDArray[np.int64]) -> Iterator[RowPlaces]:
        """Say where rows lie.

        Args:
            rows: Numbers of rows of this shard.
            positions: Their places in the batch.

        Raises:
            InputError: The file is not what was written.
        """
        yield RowPlaces(
            source=shown(self.path),
            positions=positions,
            tokens=self._runs(rows, "input_ids"),
            word_starts=self._runs(rows, "word_starts"),
            sequences=self._runs(rows, "sequence_lengths") if self.is_packed else None,
        )

    def _runs(self, rows: NDArray[np.int64], column: str) -> Runs:
        """Find where the values of rows lie in the file."""
        first_rows, buffers, schema = self._table
        batch = np.searchsorted(first_rows, rows, side="right") - 1
        values, offsets = (self._view(dtype) for dtype in column_dtypes(schema, column))
        offsets_at, values_at = buffers[column][batch].T
        at = offsets_at // offsets.itemsize + rows - first_rows[batch]
        first = values_at // values.itemsize
        return Runs(values, first + offsets[at], first + offsets[at + 1])

    def _view(self, dtype: np.dtype) -> NDArray:
        """See the whole file as numbers; buffers lie at multiples of eight bytes."""
        return np.frombuffer(self._file, dtype=dtype, count=self._file.size // dtype.itemsize)
