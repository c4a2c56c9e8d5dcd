"""What a shard of token rows must look like, and what is said where it does not."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa

from flash.data.manifest import shown
from flash.errors import InputError

# rows of a record batch of docs/data.md; the last of a shard may have fewer
ROWS_OF_BLOCK = 1024

_TOKEN_TYPES = (pa.large_list(pa.uint16()), pa.large_list(pa.uint32()))


def check_schema(schema: pa.Schema, source: str | Path) -> None:
    """Refuse columns other than those of docs/data.md.

    Raises:
        InputError: A column is missing or of another type.
    """
    wanted = {"input_ids": _TOKEN_TYPES, "word_starts": (pa.large_binary(),)}
    if "sequence_lengths" in schema.names:
        wanted["sequence_lengths"] = (pa.list_(pa.int32()),)
    if set(schema.names) != set(wanted):
        raise damaged(source, f"it should hold the columns {', '.join(wanted)}, it holds {', '.join(schema.names)}")
    for name, types in wanted.items():
        if schema.field(name).type not in types:
            raise damaged(source, f"its column {name} should hold {types[0]}, it holds {schema.field(name).type}")


def rows_of_batches(reader: pa.ipc.RecordBatchFileReader, rows: int, source: str | Path) -> int:
    """Say how many rows each record batch but the last holds, so that a row is found without reading those before it.

    Args:
        rows: Rows of the shard, as the manifest says.

    Raises:
        InputError: The file cannot hold so many rows.
    """
    count = reader.num_record_batches
    of_batch = ROWS_OF_BLOCK
    if count and count != -(-rows // ROWS_OF_BLOCK):
        of_batch = max(reader.get_batch(0).num_rows, 1)
    if count != -(-rows // of_batch):
        raise damaged(source, f"it holds {count} record batches of {of_batch} rows, the manifest says {rows} rows")
    return of_batch


def check_batch(batch: pa.RecordBatch, source: str | Path, *, rows: int) -> None:
    """Refuse a record batch of another number of rows, without their borders or with empty ones; reads none of them.

    Raises:
        InputError: It is not what was written.
    """
    if batch.num_rows != rows:
        raise damaged(
            source,
            f"a record batch holds {batch.num_rows} rows, where {rows} were expected (a shard has as many in each but "
            "the last)",
        )
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        if column.null_count:
            raise damaged(source, f"its column {name} holds rows without a value")
        buffers = column.buffers()
        if buffers[1] is None or buffers[-1] is None:
            raise damaged(source, f"its column {name} holds rows of no length")
        if buffers[1].size < (rows + 1) * column_dtypes(batch.schema, name)[1].itemsize:
            raise damaged(source, f"its column {name} lacks borders of rows")


def buffers_of(column: pa.Array) -> list[pa.Buffer]:
    """Return the offsets and the values of a list or binary column that was checked."""
    # of a list: validity, offsets, validity of the values, values; of binary: validity, offsets, values
    buffers = column.buffers()
    return [buffers[1], buffers[-1]]


def column_dtypes(schema: pa.Schema, column: str) -> tuple[np.dtype, np.dtype]:
    """Return the types of the values of a column and of its offsets."""
    if column == "word_starts":
        return np.dtype(np.uint8), np.dtype(np.int64)
    offsets = np.int32 if column == "sequence_lengths" else np.int64
    return np.dtype(schema.field(column).type.value_type.to_pandas_dtype()), np.dtype(offsets)


def damaged(source: str | Path, fault: str) -> InputError:
    """Make the error of a shard that is not what was written."""
    return InputError(
        f"{shown(source)} is damaged: {fault}. --verify_data compares all shards with their checksums; copy it again "
        "from where it was made, or prepare the text again with `flashquad prepare`"
    )


@contextmanager
def faults_of(source: str | Path) -> Iterator[None]:
    """Turn what pyarrow finds wrong with a file into the error of a damaged shard.

    Raises:
        InputError: The file is not what was written.
    """
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # of the disk or the network; pyarrow raises its own without a number
        raise damaged(source, " ".join(str(error).split())) from error
