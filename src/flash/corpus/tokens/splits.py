"""Where a large file may be cut so that the parts, read apart, give the documents of the whole."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from flash.corpus.byte_streams import CHUNK_BYTES, may_pass
from flash.corpus.documents import ReadingSettings, begins_other_json
from flash.corpus.input_files import InputFile
from flash.corpus.lines import UnsupportedTextError, check_encoding, check_looks_like_utf8, split_lines
from flash.corpus.parquet import group_end

# Encodings in which the bytes of LF and CR are line ends wherever they stand, and a line begins in no special state.
_SPLITTABLE_ENCODINGS = frozenset({"utf-8", "ascii", "gb18030", "gbk", "gb2312", "big5", "big5hkscs", "cp950"})

# A longer line is no separator to the planner, though it may be one to the reader: the cut is made further on.
_MAX_SEPARATOR_BYTES = 4096


def split_places(file: InputFile, settings: ReadingSettings, range_bytes: int) -> list[int]:
    """Return where the parts of ``file`` begin, but for the first, which begins at 0; each is a document's first byte.

    Parts have about ``range_bytes`` bytes, more where a document is longer. Of a Parquet file the places are numbers
    of row groups. A compressed file, and one that cannot be read as what it is, is not cut.
    """
    size = file.size_bytes()
    if size <= range_bytes:
        return []
    try:
        if file.kind == "parquet":
            return _row_groups(file, range_bytes)
        if file.compression is not None or check_encoding(settings.encoding) not in _SPLITTABLE_ENCODINGS:
            return []
        with file.open_binary() as opened:
            if not _begins_as_expected(file, opened, settings):
                return []
            return _document_starts(file, opened, settings, size, range_bytes)
    except (OSError, pa.ArrowException) as error:
        if isinstance(error, OSError) and may_pass(error):
            raise
        return []  # the reader will say what is wrong with it


def _document_starts(
    file: InputFile, opened: BinaryIO, settings: ReadingSettings, size: int, range_bytes: int
) -> list[int]:
    places: list[int] = []
    wanted = range_bytes
    while wanted < size:
        place = next_document(opened, wanted, size, None if file.kind == "json" else settings)
        if place >= size:
            break
        places.append(place)
        wanted = (place // range_bytes + 1) * range_bytes
    return places


def next_document(opened: BinaryIO, begin: int, size: int, settings: ReadingSettings | None) -> int:
    """Return the first place from ``begin`` on where a document begins for certain, or ``size``.

    Args:
        opened: The file.
        begin: At least 1.
        size: Bytes of the file.
        settings: Of a text file, whose documents stand behind separators; None where each line is one.
    """
    lines = split_lines(_chunks(opened, begin - 1), CHUNK_BYTES, begin - 1)
    first = next(lines, None)
    # the line that byte begin - 1 is in, or ends: the next one begins behind it
    while first is not None and not first.is_last_piece:
        first = next(lines, None)
    for line in lines:
        if settings is None:
            return line.offset
        is_short = line.is_last_piece and len(line.data) <= _MAX_SEPARATOR_BYTES
        if is_short and line.data.decode(settings.encoding, "replace").strip() == settings.document_separator:
            following = next(lines, None)
            return size if following is None else following.offset
        while not line.is_last_piece:
            line = next(lines, None) or line._replace(is_last_piece=True)
    return size


def _chunks(opened: BinaryIO, begin: int) -> Iterator[bytes]:
    opened.seek(begin)
    chunk_bytes = 1 << 12
    while chunk := opened.read(chunk_bytes):
        yield chunk
        chunk_bytes = min(2 * chunk_bytes, CHUNK_BYTES)


def _begins_as_expected(file: InputFile, opened: BinaryIO, settings: ReadingSettings) -> bool:
    head = opened.read(CHUNK_BYTES)
    if check_encoding(settings.encoding) == "utf-8":
        try:
            check_looks_like_utf8(head)
        except UnsupportedTextError:
            return False
    # the reader drops a byte-order mark as well
    return file.kind != "json" or not begins_other_json(
        head.decode(settings.encoding, "replace").removeprefix("\ufeff")
    )


def _row_groups(file: InputFile, range_bytes: int) -> list[int]:
    places: list[int] = []
    with file.open_binary() as opened:
        metadata = pq.ParquetFile(pa.PythonFile(opened, mode="r")).metadata
        begin = 0
        for index in range(metadata.num_row_groups - 1):
            end = group_end(metadata, index)
            if end - begin >= range_bytes:
                places.append(index + 1)
                begin = end
    return places
