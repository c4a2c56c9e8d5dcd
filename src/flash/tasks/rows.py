"""A task's file to rows: JSON lines, a JSON document, CSV, TSV, Parquet, compressed or not; a bad line costs itself."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet

from flash.corpus.byte_streams import HashedFile
from flash.corpus.input_files import COMPRESSION_OF_SUFFIX, InputFile
from flash.corpus.records import Reject
from flash.errors import InputError

SUFFIXES = (".json", ".jsonl", ".csv", ".tsv", ".parquet")
COMPRESSIONS = tuple(COMPRESSION_OF_SUFFIX)
MOST_LINES_OF_RECORD = 1000

# a field as long as a document; the module's own bound is 128 KiB
csv.field_size_limit(1 << 30)


class Row(NamedTuple):
    """A row of a file; ``line`` counts from 1, in a JSON document and in Parquet it counts rows."""

    line: int
    values: dict[str, Any]


def read_rows(path: Path) -> Iterator[Row | Reject]:
    """Yield the rows of a file, and a `Reject` for each line that is none.

    Raises:
        InputError: There is no such file, its suffix is unknown, it is empty, or as a whole not what its suffix says.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder; name the file in it")
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in COMPRESSIONS:
        suffixes.pop()
    suffix = suffixes[-1] if suffixes else ""
    if suffix not in SUFFIXES:
        raise InputError(f"{path}: a task's file ends in {', '.join(SUFFIXES)} (or that and {', '.join(COMPRESSIONS)})")
    try:
        content = b"".join(HashedFile(InputFile(path, "json"), on_read=lambda count: None).chunks())
    except OSError as error:
        raise InputError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    if not content.removeprefix(b"\xef\xbb\xbf").strip():
        raise InputError(f"{path} is empty")
    if suffix == ".parquet":
        yield from _parquet(path, content)
    elif suffix in (".csv", ".tsv"):
        yield from _separated(path, content, "," if suffix == ".csv" else "\t")
    else:
        yield from _json(path, content)


def _json(path: Path, content: bytes) -> Iterator[Row | Reject]:
    content = content.removeprefix(b"\xef\xbb\xbf")
    # one document over many lines, or the list of all rows; a document on one line is a line like any other
    if content.lstrip()[:1] == b"[" or _parsed(content.split(b"\n", 1)[0]) is None:
        document = _parsed(content)
        if document is not None:
            for number, value in enumerate(document if isinstance(document, list) else [document], start=1):
                yield _row(path, number, value)
            return
    for number, line in enumerate(content.split(b"\n"), start=1):
        if line.strip():
            value = _parsed(line)
            if value is None:
                yield Reject("broken_line", str(path), number, _what_is_wrong(line))
            else:
                yield _row(path, number, value)


def _parsed(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):  # not UTF-8 is a ValueError too
        return None


def _what_is_wrong(line: bytes) -> str:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError as error:
        return f"this line is not UTF-8 ({error.reason}); save the file as UTF-8"
    return "this line is no JSON; a line must hold one JSON object"


def _row(path: Path, number: int, value: Any) -> Row | Reject:
    if isinstance(value, list):
        # C3 as it was published: [context, questions, id]
        value = dict(zip(("context", "qas", "id"), value, strict=False))
    if not isinstance(value, dict):
        return Reject("broken_line", str(path), number, f"expected a JSON object, got {type(value).__name__}")
    return Row(number, value)


def _separated(path: Path, content: bytes, separator: str) -> Iterator[Row | Reject]:
    # a byte that is not UTF-8 costs its line, as in JSON lines
    text = content.decode("utf-8-sig", "surrogateescape")
    for row in _tsv(path, text) if separator == "\t" else _csv(path, text):
        if isinstance(row, Row) and not _is_utf8("".join(row.values.values())):
            yield Reject("broken_line", str(path), row.line, "this line is not UTF-8; save the file as UTF-8")
        else:
            yield row


def _is_utf8(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _header(path: Path, names: Sequence[str]) -> list[str]:
    """Check the names of the columns; white space around them is none of them."""
    if not _is_utf8("".join(names)):
        raise InputError(f"{path}:1 is not UTF-8; save the file as UTF-8")
    names = [name.strip() for name in names]
    # a spreadsheet divides columns by semicolons where the comma is the decimal sign
    if len(names) == 1 and any(separator in names[0] for separator in ",;\t"):
        raise InputError(
            f"{path} has a single column, {names[0]!r}; divide the columns of a .csv by commas, those of a .tsv by tabs"
        )
    _check_for_twins(path, names)
    return names


def _check_for_twins(path: Path, names: Sequence[str]) -> None:
    """Refuse columns of one name, of which only one could be read; those without a name are none."""
    twins = [name for name, count in Counter(names).items() if name and count > 1]
    if twins:
        raise InputError(f"{path} has {names.count(twins[0])} columns {twins[0]!r}; give each a name of its own")


def _csv(path: Path, text: str) -> Iterator[Row | Reject]:
    lines = list(io.StringIO(text, newline=""))
    first, place = _record(lines, 0)
    if first is None:
        raise InputError(f"{path}:1: the first line must name the columns; it does not close a quotation mark")
    header = _header(path, first)
    while place < len(lines):
        cells, end = _record(lines, place)
        if cells is None or len(cells) != len(header):
            # of several lines only the first is given up: an open quotation mark must not swallow the others
            what = "a quotation mark is not closed" if cells is None else f"{len(cells)} cells"
            detail = f"{what}, under the {len(header)} columns of the first line"
            if lines[place].strip():
                yield Reject("broken_line", str(path), place + 1, detail)
            place += 1
            continue
        yield Row(place + 1, dict(zip(header, cells, strict=True)))
        place = end


def _record(lines: list[str], start: int) -> tuple[list[str] | None, int]:
    """Read the CSV record that begins at a line.

    Returns:
        Its cells, and the line behind it; None for the cells where its quotation marks are not closed, at least not
        within as many lines as a cell may reasonably have.
    """
    reader = csv.reader(lines[start : start + MOST_LINES_OF_RECORD], strict=True)
    try:
        return next(reader, []), start + max(reader.line_num, 1)
    except csv.Error:
        return None, start + 1


def _tsv(path: Path, text: str) -> Iterator[Row | Reject]:
    # a quotation mark is a character like any other
    first, *others = (line.rstrip("\r\n") for line in io.StringIO(text, newline=""))
    header = _header(path, first.split("\t"))
    for number, line in enumerate(others, start=2):
        if not line:
            continue
        cells = line.split("\t")
        if len(cells) == len(header):
            yield Row(number, dict(zip(header, cells, strict=True)))
        else:
            detail = f"{len(cells)} cells under the {len(header)} columns of the first line"
            yield Reject("broken_line", str(path), number, detail)


def _parquet(path: Path, content: bytes) -> Iterator[Row | Reject]:
    try:
        table = pyarrow.parquet.ParquetFile(pa.BufferReader(content)).read()
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path} is no Parquet file, or a damaged one: {' '.join(str(error).split())}") from error
    _check_for_twins(path, table.column_names)
    try:
        yield from (Row(number, values) for number, values in enumerate(table.to_pylist(), start=1))
    except UnicodeDecodeError:  # nothing was yielded: the whole table is read first
        for number in range(len(table)):
            try:
                yield Row(number + 1, table.slice(number, 1).to_pylist()[0])
            except UnicodeDecodeError as error:
                yield Reject("broken_line", str(path), number + 1, f"this row is not UTF-8 ({error.reason})")
