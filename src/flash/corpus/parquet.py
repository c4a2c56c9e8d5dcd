"""A Parquet file, or a run of its row groups -> rows with their texts."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from flash.corpus.byte_streams import CHUNK_BYTES
from flash.corpus.input_files import InputFile
from flash.corpus.lines import UnsupportedTextError

_ROWS_AT_ONCE = 256


class ParquetRows:
    """The rows of some row groups, with SHA-256 and number of the bytes that these take on disk.

    Args:
        file: A Parquet file.
        on_read: Called with the number of bytes of each row group when it was read.
        begin: First row group to read.
        end: First row group not to read; None for all.
    """

    def __init__(
        self, file: InputFile, on_read: Callable[[int], object], begin: int = 0, end: int | None = None
    ) -> None:
        self._input = file
        self._on_read = on_read
        self._begin = begin
        self._end = end
        self._hash = hashlib.sha256()
        self.byte_count = 0

    @property
    def sha256(self) -> str:
        """Hash of the bytes read so far, in hexadecimal."""
        return self._hash.hexdigest()

    def texts(self, column: str) -> Iterator[tuple[int, str | bytes | None]]:
        """Yield number, from 0 in the whole file, and text of each row; None where it is null, bytes if not UTF-8.

        Raises:
            UnsupportedTextError: There is no such column, or several, or it holds no strings.
            OSError: The file cannot be opened or read, or is damaged.
        """
        try:
            with self._input.open_binary() as raw:
                source = pa.PythonFile(raw, mode="r")
                table = pq.ParquetFile(source)
                end = table.num_row_groups if self._end is None else self._end
                _check_column(table.schema_arrow, column)
                number = sum(table.metadata.row_group(index).num_rows for index in range(self._begin))
                for index in range(self._begin, end):
                    for batch in table.iter_batches(_ROWS_AT_ONCE, row_groups=[index], columns=[column]):
                        for text in _values(batch.column(0)):
                            yield number, text
                            number += 1
                    # the gaps before the first group and behind the last belong to these two
                    first = 0 if index == 0 else group_end(table.metadata, index - 1)
                    last = self._input.size_bytes() if index + 1 == table.num_row_groups else None
                    self._take(source, first, group_end(table.metadata, index) if last is None else last)
        except (pa.ArrowException, EOFError) as error:
            raise OSError(" ".join(str(error).split())) from error

    def _take(self, source: pa.NativeFile, begin: int, end: int) -> None:
        """Hash and count the bytes from ``begin`` to ``end``."""
        while begin < end:
            data = source.read_at(min(CHUNK_BYTES, end - begin), begin)
            if not data:
                raise EOFError("the file ends too early")
            self._hash.update(data)
            begin += len(data)
            self.byte_count += len(data)
            self._on_read(len(data))


def group_end(metadata: pq.FileMetaData, index: int) -> int:
    """Return the place behind the last byte of a row group."""
    group = metadata.row_group(index)
    ends = []
    for place in range(group.num_columns):
        column = group.column(place)
        begin = column.dictionary_page_offset if column.has_dictionary_page else column.data_page_offset
        ends.append(begin + column.total_compressed_size)
    return max(ends)


def _values(column: pa.Array) -> list[str | bytes | None]:
    try:
        return column.to_pylist()
    except UnicodeDecodeError:  # nobody looks at the bytes when a file is written
        plain = column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
        return [_decoded(value) for value in plain.cast(pa.large_binary()).to_pylist()]


def _decoded(value: bytes | None) -> str | bytes | None:
    try:
        return None if value is None else value.decode("utf-8")
    except UnicodeDecodeError:
        return value


def _check_column(schema: pa.Schema, column: str) -> None:
    if column not in schema.names:
        detail = f"no column {column!r} among {', '.join(schema.names)}: name the column of the text with --json-key"
        raise UnsupportedTextError("missing_key", detail)
    if schema.names.count(column) > 1:
        raise UnsupportedTextError("repeated_column", f"several columns are called {column!r}: rename all but one")
    kind = schema.field(column).type
    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    if not (pa.types.is_string(value) or pa.types.is_large_string(value) or pa.types.is_string_view(value)):
        detail = f"the column {column!r} holds {kind}, no strings: name another one with --json-key"
        raise UnsupportedTextError("not_a_string", detail)
