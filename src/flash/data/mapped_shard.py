"""A shard of token rows on a local disk, mapped into memory: any rows of it, and nothing else of it, are read."""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from flash.data.manifest import shown
from flash.data.row_places import RowPlaces, SequencePlaces
from flash.data.shard_schema import check_schema, damaged

# of the tables below: where the buffers of a record batch begin in the file, in bytes
_TOKEN_OFFSETS, _TOKENS, _BIT_OFFSETS, _BITS, _SEQUENCE_OFFSETS, _SEQUENCES = range(6)


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
    def _table(self) -> tuple[NDArray[np.int64], NDArray[np.int64], pa.Schema]:
        """Where the rows of each record batch begin, where its buffers do, and what the columns are."""
        try:
            reader = pa.ipc.open_file(pa.BufferReader(self._file))
            check_schema(reader.schema, self.path)
            counts, buffers = [], []
            for index in range(reader.num_record_batches):
                batch = reader.get_batch(index)
                if batch.num_rows:
                    counts.append(batch.num_rows)
                    buffers.append(self._buffers_of(batch))
        except (pa.ArrowException, OSError) as error:
            raise damaged(self.path, " ".join(str(error).split())) from error
        if sum(counts) != self.rows:
            raise damaged(self.path, f"it holds {sum(counts)} rows, the manifest says {self.rows}")
        return np.cumsum([0, *counts]), np.array(buffers, dtype=np.int64), reader.schema

    def _buffers_of(self, batch: pa.RecordBatch) -> list[int]:
        batch.validate()  # sizes and borders; reads no token
        if any(column.null_count for column in batch.columns):
            raise damaged(self.path, "it holds rows without a value")
        # of a list: validity, offsets, validity of the values, values; of binary: validity, offsets, bytes
        wanted = [batch.column("input_ids").buffers()[1::2], batch.column("word_starts").buffers()[1:]]
        if "sequence_lengths" in batch.schema.names:
            wanted.append(batch.column("sequence_lengths").buffers()[1::2])
        starts = [0 if buffer is None else buffer.address - self._file.address for part in wanted for buffer in part]
        if any(start % 8 for start in starts):
            raise damaged(self.path, "its buffers do not lie at multiples of eight bytes")
        return starts

    def lengths(self) -> NDArray[np.int64]:
        """Return the tokens of each row, ``(rows,)``; reads no token."""
        starts, ends = self._bounds(np.arange(self.rows), _TOKEN_OFFSETS, np.dtype(np.int64))
        return ends - starts

    def places(self, rows: NDArray[np.int64], positions: NDArray[np.int64]) -> Iterator[RowPlaces]:
        """Say where rows lie.

        Args:
            rows: Numbers of rows of this shard.
            positions: Their places in the batch.

        Raises:
            InputError: The file is not what was written.
        """
        _, buffers, schema = self._table
        batch = self._batch_of(rows)
        dtype = schema.field("input_ids").type.value_type.to_pandas_dtype()
        token_starts, token_ends = self._bounds(rows, _TOKEN_OFFSETS, np.dtype(np.int64))
        bit_starts, bit_ends = self._bounds(rows, _BIT_OFFSETS, np.dtype(np.int64))
        lengths = token_ends - token_starts
        tokens, bits = self._view(np.dtype(dtype)), self._view(np.dtype(np.uint8))
        first_token = buffers[batch, _TOKENS] // tokens.itemsize
        first_byte = buffers[batch, _BITS]
        if (
            (token_starts < 0).any()
            or (lengths < 2).any()
            or (first_token + token_ends > len(tokens)).any()
            or (bit_starts < 0).any()
            or (first_byte + bit_ends > len(bits)).any()
            or not np.array_equal(bit_ends - bit_starts, (lengths + 7) // 8)
        ):
            raise damaged(self.path, "its rows do not lie within it")
        yield RowPlaces(
            source=shown(self.path),
            positions=positions,
            tokens=tokens,
            token_starts=first_token + token_starts,
            lengths=lengths,
            bits=bits,
            bit_starts=first_byte + bit_starts,
            sequences=self._sequences(rows) if "sequence_lengths" in schema.names else None,
        )

    def _sequences(self, rows: NDArray[np.int64]) -> SequencePlaces:
        lengths = self._view(np.dtype(np.int32))
        starts, ends = self._bounds(rows, _SEQUENCE_OFFSETS, lengths.dtype)
        first = self._table[1][self._batch_of(rows), _SEQUENCES] // lengths.itemsize
        if (starts < 0).any() or (ends <= starts).any() or (first + ends > len(lengths)).any():
            raise damaged(self.path, "the sequences of its rows do not lie within it")
        return SequencePlaces(lengths, first + starts, ends - starts)

    def _view(self, dtype: np.dtype) -> NDArray:
        """See the whole file as numbers; buffers lie at multiples of eight bytes."""
        return np.frombuffer(self._file, dtype=dtype, count=self._file.size // dtype.itemsize)

    def _batch_of(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.searchsorted(self._table[0], rows, side="right") - 1

    def _bounds(
        self, rows: NDArray[np.int64], column: int, dtype: np.dtype
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Read where the values of rows begin and end within the record batch."""
        first_rows, buffers, _ = self._table
        batch = self._batch_of(rows)
        at = buffers[batch, column] // dtype.itemsize + rows - first_rows[batch]
        offsets = self._view(dtype)
        return offsets[at].astype(np.int64), offsets[at + 1].astype(np.int64)
