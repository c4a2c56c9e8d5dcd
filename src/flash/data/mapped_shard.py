"""A shard of token rows on a local disk, mapped into memory: any rows of it, and nothing else of it, are read."""

import os
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from flash.data.manifest import shown
from flash.data.row_places import RowPlaces, Runs
from flash.data.shard_schema import (
    buffers_of,
    check_batch,
    check_schema,
    column_dtypes,
    damaged,
    faults_of,
    rows_of_batches,
)

_NOT_LOOKED_UP = -1


class MappedShard:
    """Rows of one Arrow file, read where they lie.

    Opening reads the file's footer; the description of a record batch is read with the first of its rows. A process
    that is started afresh with this one's data maps the file anew.

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
    def _shown(self) -> str:
        return shown(self.path)

    @cached_property
    def _file(self) -> pa.Buffer:
        with pa.memory_map(os.fsencode(self.path)) as file:
            return file.read_buffer()

    @cached_property
    def _reader(self) -> pa.ipc.RecordBatchFileReader:
        with faults_of(self.path):
            reader = pa.ipc.open_file(pa.BufferReader(self._file))
            check_schema(reader.schema, self.path)
            return reader

    @cached_property
    def _rows_of_batch(self) -> int:
        with faults_of(self.path):
            return rows_of_batches(self._reader, self.rows, self.path)

    @cached_property
    def _buffers(self) -> NDArray[np.int64]:
        """Where in the file the offsets and the values of each column begin: ``(record batches, columns, 2)`` bytes."""
        return np.full((self._reader.num_record_batches, len(self._reader.schema), 2), _NOT_LOOKED_UP)

    @property
    def is_packed(self) -> bool:
        """Whether a row may be several sequences."""
        return "sequence_lengths" in self._reader.schema.names

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
            source=self._shown,
            positions=positions,
            tokens=self._runs(rows, "input_ids"),
            word_starts=self._runs(rows, "word_starts"),
            sequences=self._runs(rows, "sequence_lengths") if self.is_packed else None,
        )

    def _runs(self, rows: NDArray[np.int64], column: str) -> Runs:
        """Find where the values of rows lie in the file."""
        batch, row = np.divmod(rows, self._rows_of_batch)
        for number in set(batch[self._buffers[batch, 0, 0] == _NOT_LOOKED_UP].tolist()):
            self._look_up(number)
        values, offsets, place = self._views[column]
        offsets_at, values_at = self._buffers[batch, place].T
        at = offsets_at // offsets.itemsize + row
        first = values_at // values.itemsize
        return Runs(values, first + offsets[at], first + offsets[at + 1])

    def _look_up(self, number: int) -> None:
        with faults_of(self.path):
            batch = self._reader.get_batch(number)
        check_batch(batch, self.path, rows=min(self._rows_of_batch, self.rows - number * self._rows_of_batch))
        places = np.array(
            [[buffer.address - self._file.address for buffer in buffers_of(column)] for column in batch.columns]
        )
        if (places % 8).any():
            raise damaged(self.path, "its buffers do not lie at multiples of eight bytes")
        self._buffers[number] = places

    @cached_property
    def _views(self) -> dict[str, tuple[NDArray, NDArray, int]]:
        """The whole file as values and as offsets of each column, for buffers lie at multiples of eight bytes."""
        schema = self._reader.schema
        views = {}
        for place, column in enumerate(schema.names):
            values, offsets = (
                np.frombuffer(self._file, dtype=dtype, count=self._file.size // dtype.itemsize)
                for dtype in column_dtypes(schema, column)
            )
            views[column] = values, offsets, place
        return views
