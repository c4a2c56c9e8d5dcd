"""A file -> its documents: text separated by blank lines, JSON lines, or Parquet."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from flash.corpus.byte_streams import CHUNK_BYTES, HashedFile, may_pass
from flash.corpus.clean import blank_run_end
from flash.corpus.input_files import InputFile
from flash.corpus.lines import Line, UnsupportedTextError, check_encoding, read_lines
from flash.corpus.parquet import ParquetRows
from flash.corpus.records import Document, InputSummary, Record, Reject
from flash.corpus.sentences import last_sentence_end
from flash.errors import InputError

# Room for a JSON line of 100 MB; parsing takes about four times its bytes at once, so there must be some limit.
_MAX_JSON_LINE_BYTES = 128 * CHUNK_BYTES

# A document is cut by so much of the limit before it, so that the rest is not the few characters beyond the limit,
# which would be too short for a block.
_REST_SHARE = 1 / 16

# How a file begins that is one JSON value over many lines, or an array of objects.
_NOT_JSON_LINES = re.compile(r"\s*(?:\{\s*$|\[\s*(?:\{|$))")

_SHOWN_CHARS = 60

_KEY_FLAG = "--json-key (of the scripts: --json_key)"


@dataclass(frozen=True, slots=True)
class ReadingSettings:
    """How files are read.

    Args:
        encoding: Of every input file.
        json_key: The key of a JSON line, or the column of a Parquet file, that holds the text.
        document_separator: The line, white space around it not counted, between two documents of a text file; by
            default a blank one.
        max_document_chars: A longer document is continued in another record, cut at a sentence end.
    """

    encoding: str = "utf-8"
    json_key: str = "text"
    document_separator: str = ""
    max_document_chars: int = 1_000_000

    def __post_init__(self) -> None:
        separator = self.document_separator.strip()
        if "\n" in separator or "\r" in separator:
            raise InputError(f"the document separator must be one line, got {self.document_separator!r}")
        object.__setattr__(self, "document_separator", separator)  # it is compared with lines that are stripped


def read_documents(
    file: InputFile,
    settings: ReadingSettings,
    on_read: Callable[[int], object],
    begin: int = 0,
    end: int | None = None,
) -> Iterator[Record]:
    """Yield a file's documents, a `Reject` for every part of it that cannot be read, and in the end a summary.

    Args:
        file: Text, JSON lines or Parquet.
        settings: How it is read.
        on_read: Called with the number of bytes (as on disk) after every read.
        begin: First byte to read, which begins a document; of Parquet, the first row group.
        end: First byte not to read, which begins a document; of Parquet, the first row group; None for all.

    Raises:
        OSError: The disk or the network failed, not the file: the rest of it may be read another time.
    """
    record_count = document_count = 0
    stream = (ParquetRows if file.kind == "parquet" else HashedFile)(file, on_read, begin, end)
    lines = None
    try:
        if isinstance(stream, ParquetRows):
            records = _parquet_documents(stream, file.name, settings)
        else:
            lines = _read_lines(file, stream, settings, begin)
            of_kind = _json_documents if file.kind == "json" else _text_documents
            records = of_kind(lines, file.name, settings, begin)
        for record in records:
            record_count += 1
            document_count += isinstance(record, Document) and record.part == 0
            yield record
        if not record_count and begin == 0 and end is None:
            yield Reject("empty_file", file.name, None, "it holds no text: fill it, or leave it out")
    except UnsupportedTextError as error:
        yield Reject(error.reason, file.name, None, str(error))
    except OSError as error:
        if may_pass(error):
            raise OSError(
                error.errno, f"reading it failed ({error}): give the same command again", file.name
            ) from error
        detail = f"{error.strerror or error}; make it readable or replace it (what was read of it is kept)"
        yield Reject("unreadable_file", file.name, None, detail)
    line_count = 0 if lines is None else lines.count
    yield InputSummary(file.name, stream.byte_count, stream.sha256, document_count, record_count, line_count)


class _CountedLines:
    """Lines, and how many there were so far."""

    def __init__(self, lines: Iterator[Line | Reject]) -> None:
        self._lines = lines
        self.count = 0

    def __iter__(self) -> Iterator[Line | Reject]:
        for line in self._lines:
            self.count = (line.line if isinstance(line, Reject) else line.number) or self.count
            yield line


def _read_lines(file: InputFile, stream: HashedFile, settings: ReadingSettings, begin: int) -> _CountedLines:
    encoding = check_encoding(settings.encoding)
    most_bytes = _MAX_JSON_LINE_BYTES if file.kind == "json" else CHUNK_BYTES
    return _CountedLines(read_lines(stream.chunks(), file.name, encoding, most_bytes, begin))


def _parquet_documents(rows: ParquetRows, source: str, settings: ReadingSettings) -> Iterator[Document | Reject]:
    builder = _DocumentBuilder(source, settings.max_document_chars)
    for row, text in rows.texts(settings.json_key):
        if text is None:
            detail = f"the value of {settings.json_key!r} is null: put the text there, or name another with {_KEY_FLAG}"
            yield Reject("not_a_string", source, row + 1, detail)
        elif isinstance(text, bytes):
            detail = f"the value of {settings.json_key!r} is not UTF-8; the row is left out: write its text in UTF-8"
            yield Reject("invalid_utf8", source, row + 1, detail)
        elif not text.strip():
            yield Reject("empty_text", source, row + 1, f"the value of {settings.json_key!r} is blank")
        else:
            yield from builder.add(text, row + 1, row)
            yield from builder.finish()


def _text_documents(
    lines: _CountedLines, source: str, settings: ReadingSettings, begin: int
) -> Iterator[Document | Reject]:
    builder = _DocumentBuilder(source, settings.max_document_chars)
    last_number = 0
    try:
        for line in lines:
            if isinstance(line, Reject):
                yield line
                continue
            begins_line, last_number = line.number != last_number, line.number
            if begins_line and line.is_last_piece and line.text.strip() == settings.document_separator:
                yield from builder.finish()
            else:
                yield from builder.add(line.text, line.number, line.offset, after="\n" if begins_line else "")
    except OSError:
        yield from builder.finish()  # what was read before a damaged archive broke off
        raise
    yield from builder.finish()


def _json_documents(
    lines: _CountedLines, source: str, settings: ReadingSettings, begin: int
) -> Iterator[Document | Reject]:
    builder = _DocumentBuilder(source, settings.max_document_chars)
    too_long_number = 0
    is_beginning = begin == 0
    for line in lines:
        if isinstance(line, Reject):
            is_beginning = False
            yield line
            continue
        if is_beginning and begins_other_json(line.text):
            raise UnsupportedTextError(
                "not_json_lines",
                "this is not JSON lines, one object a line: convert it with jq -c '.[]' (array) or jq -c . (objects)",
            )
        is_beginning = is_beginning and not line.text.strip()
        if not line.is_last_piece:
            if line.number != too_long_number:
                detail = f"longer than {_MAX_JSON_LINE_BYTES >> 20} MiB: split it, or put its text into a .txt file"
                yield Reject("json_line_too_long", source, line.number, detail, offset=line.offset)
            too_long_number = line.number
        elif line.number != too_long_number and line.text.strip():
            try:
                text = _text_of_json(line.text, settings.json_key)
            except _UnusableRowError as error:
                yield Reject(error.reason, source, line.number, str(error), offset=line.offset)
            else:
                yield from builder.add(text, line.number, line.offset)
                yield from builder.finish()


def begins_other_json(head: str) -> bool:
    """Say whether a file with this beginning is one JSON value over many lines, or an array of objects."""
    first = next((line for line in head.splitlines() if line.strip()), "")
    return _NOT_JSON_LINES.match(first) is not None


class _UnusableRowError(ValueError):
    """A row without a text; ``reason`` and message say why."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def _text_of_json(line: str, key: str) -> str:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise _UnusableRowError("broken_json", f"{error}: write one whole JSON object on each line") from error
    if not isinstance(row, dict):
        detail = f"{_shown(row)} is no object: write {{{json.dumps(key)}: ...}} on each line"
        raise _UnusableRowError("broken_json", detail)
    if key not in row:
        detail = f"no key {key!r} among {_shown(list(row))}: name the key that holds the text with {_KEY_FLAG}"
        raise _UnusableRowError("missing_key", detail)
    if not isinstance(row[key], str):
        way_out = f"put the text there, or name another key with {_KEY_FLAG}"
        detail = f"the value of {key!r} is {_shown(row[key])}, no string: {way_out}"
        raise _UnusableRowError("not_a_string", detail)
    if not row[key].strip():
        raise _UnusableRowError("empty_text", f"the value of {key!r} is blank")
    return row[key]


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARS else text[:_SHOWN_CHARS] + "..."


class _DocumentBuilder:
    """Puts the lines of one document together, and gives out what goes beyond the limit as records of its own."""

    def __init__(self, source: str, max_chars: int) -> None:
        self._source = source
        self._max_chars = max_chars
        self._pieces: list[str] = []
        self._size = 0
        self._first_line = self._first_offset = 0
        self._part = 0

    def add(self, text: str, line: int, offset: int, after: str = "") -> Iterator[Document]:
        """Add ``text`` to the document, put ``after`` between what is there and it, and yield what is too much."""
        if self._pieces:
            text = after + text
        elif self._part == 0:
            self._first_line, self._first_offset = line, offset
        self._pieces.append(text)
        self._size += len(text)
        if self._size <= self._max_chars:
            return
        text = "".join(self._pieces)
        while len(text) > self._max_chars:
            end = last_sentence_end(text, self._max_chars - int(_REST_SHARE * self._max_chars))
            end = blank_run_end(text, end, self._max_chars)
            yield self._document(text[:end], is_last_part=False)
            self._part += 1
            text = text[end:]
        self._pieces, self._size = [text], len(text)

    def finish(self) -> Iterator[Document]:
        """Yield what is left of the document, unless it is blank, and begin the next one."""
        text = "".join(self._pieces)
        if text and not text.isspace():
            yield self._document(text, is_last_part=True)
        self._pieces, self._size, self._part = [], 0, 0

    def _document(self, text: str, *, is_last_part: bool) -> Document:
        return Document(text, self._source, self._first_line, self._part, is_last_part, self._first_offset)
