"""A shard of token rows that is read over the network, a record batch at a time, through any file system of fsspec."""

import io
import os
from collections import OrderedDict
from collections.abc import Iterator
from functools import partial

import fsspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from flash.data.row_places import RowPlaces, Runs
from flash.data.shard_schema import (
    buffers_of,
    check_batch,
    check_schema,
    column_dtypes,
    faults_of,
    rows_of_batches,
)


class RecentBatches:
    """The record batches that were read last: rows that lie together are asked for one after the other.

    Args:
        capacity: Record batches to keep, about a megabyte each.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._batches: OrderedDict[tuple[str, int], pa.RecordBatch] = OrderedDict()

    def __reduce__(self) -> tuple:
        return (type(self), (self.capacity,))  # each process reads its own

    def get(self, shard: "StreamedShard", number: int) -> pa.RecordBatch:
        """Return a record batch, read now if it was not read of late."""
        key = (shard.address, number)
        if key not in self._batches:
            while len(self._batches) >= self.capacity:
                self._batches.popitem(last=False)
            self._batches[key] = shard.read_batch(number)
        self._batches.move_to_end(key)
        return self._batches[key]


class StreamedShard:
    """Rows of one Arrow file in an object store.

    Args:
        address: The file, as fsspec names it.
        rows: Its rows, as the manifest says.
        size: Its bytes, as the manifest says.
        recent: Shared by the shards of a dataset.
    """

    def __init__(self, address: str, *, rows: int, size: int, recent: RecentBatches) -> None:
        self.address = address
        self.rows = rows
        self._size = size
        self._recent = recent
        self._process: int | None = None

    def __reduce__(self) -> tuple:
        return (partial(type(self), self.address, rows=self.rows, size=self._size, recent=self._recent), ())

    def _opened(self) -> tuple[pa.ipc.RecordBatchFileReader, int]:
        """Return the reader of the file, and the rows of each record batch but the last."""
        if self._process != os.getpid():  # a file system does not outlive a fork: its connections are the parent's
            with faults_of(self.address):
                reader = pa.ipc.open_file(pa.PythonFile(_RangeFile(self.address, self._size), mode="r"))
                check_schema(reader.schema, self.address)
                rows_of_batch = rows_of_batches(reader, self.rows, self.address)
            self._reader, self._rows_of_batch, self._process = reader, rows_of_batch, os.getpid()
        return self._reader, self._rows_of_batch

    def read_batch(self, number: int) -> pa.RecordBatch:
        """Read a record batch.

        Raises:
            InputError: It is not what was written.
        """
        reader, rows_of_batch = self._opened()
        with faults_of(self.address):
            batch = reader.get_batch(number)
        check_batch(batch, self.address, rows=min(rows_of_batch, self.rows - number * rows_of_batch))
        return batch

    def places(self, rows: NDArray[np.int64], positions: NDArray[np.int64]) -> Iterator[RowPlaces]:
        """Read the record batches that rows lie in, and say where they lie there.

        Args:
            rows: Numbers of rows of this shard.
            positions: Their places in the batch.

        Raises:
            InputError: The file is not what was written.
        """
        _, rows_of_batch = self._opened()
        for number in np.unique(rows // rows_of_batch):
            here = np.flatnonzero(rows // rows_of_batch == number)
            batch = self._recent.get(self, int(number))
            within = rows[here] - number * rows_of_batch
            is_packed = "sequence_lengths" in batch.schema.names
            yield RowPlaces(
                source=self.address,
                positions=positions[here],
                tokens=_runs(batch, "input_ids", within),
                word_starts=_runs(batch, "word_starts", within),
                sequences=_runs(batch, "sequence_lengths", within) if is_packed else None,
            )


def _runs(batch: pa.RecordBatch, column: str, rows: NDArray[np.int64]) -> Runs:
    offsets, values = (
        np.frombuffer(buffer, dtype=dtype, count=buffer.size // dtype.itemsize)
        for buffer, dtype in zip(
            buffers_of(batch.column(column)), column_dtypes(batch.schema, column)[::-1], strict=True
        )
    )
    return Runs(values, offsets[rows].astype(np.int64), offsets[rows + 1].astype(np.int64))


class _RangeFile(io.RawIOBase):
    """Reads just the ranges that are asked for: the files that fsspec opens read ahead, by up to 50 MB."""

    def __init__(self, address: str, size: int) -> None:
        self._filesystem, self._path = fsspec.core.url_to_fs(address)
        self._size = size
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        return self._position

    def read(self, size: int = -1) -> bytes:
        end = self._size if size < 0 else min(self._position + size, self._size)
        if end <= self._position:
            return b""
        content = self._filesystem.cat_file(self._path, start=self._position, end=end)
        self._position += len(content)
        return content
