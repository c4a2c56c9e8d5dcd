"""A file -> its documents: text separated by blank lines, or JSON lines."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from flash.corpus.byte_streams import CHUNK_BYTES, HashedFile
from flash.corpus.clean import blank_run_end
from flash.corpus.input_files import InputFile
from flash.corpus.lines import Line, UnsupportedTextError, check_encoding, read_lines
from flash.corpus.records import Document, InputSummary, Record, Reject
from flash.corpus.sentences import last_sentence_end

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
        json_key: The key of a JSON line that holds the text.
        document_separator: The line, white space around it not counted, between two documents of a text file; by
            default a blank one.
        max_document_chars: A longer document is continued in another record, cut at a sentence end.
    """

    encoding: str = "utf-8"
    json_key: str = "text"
    document_separator: str = ""
    max_document_chars: int = 1_000_000


def read_documents(file: InputFile, settings: ReadingSettings, on_read: Callable[[int], object]) -> Iterator[Record]:
    """Yield a file's documents, a `Reject` for every part of it that cannot be read, and in the end its summary.

    Args:
        file: Text or JSON lines.
        settings: How it is read.
        on_read: Called with the number of bytes (as on disk) after every read.
    """
    record_count = document_count = 0
    stream = HashedFile(file.path, on_read)
    try:
        for record in _read(file, stream, settings):
            record_count += 1
            document_count += isinstance(record, Document) and record.part == 0
            yield record
        if not record_count:
            yield Reject("empty_file", file.name, None, "it holds no text: fill it, or leave it out")
    except UnsupportedTextError as error:
        yield Reject(error.reason, file.name, None, str(error))
    except OSError as error:
        detail = f"{error.strerror or error}; make it readable or replace it (what was read of it is kept)"
        yield Reject("unreadable_file", file.name, None, detail)
    yield InputSummary(file.name, stream.byte_count, stream.sha256, document_count)


def _read(file: InputFile, stream: HashedFile, settings: ReadingSettings) -> Iterator[Document | Reject]:
    encoding = check_encoding(settings.encoding)
    if file.kind == "json":
        lines = read_lines(stream.chunks(), file.name, encoding, _MAX_JSON_LINE_BYTES)
        return _json_documents(lines, file.name, settings)
    return _text_documents(read_lines(stream.chunks(), file.name, encoding, CHUNK_BYTES), file.name, settings)


def _text_documents(
    lines: Iterable[Line | Reject], source: str, settings: ReadingSettings
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
                yield from builder.add(line.text, line.number, after="\n" if begins_line else "")
    except OSError:
        yield from builder.finish()  # what was read before a damaged archive broke off
        raise
    yield from builder.finish()


def _json_documents(
    lines: Iterable[Line | Reject], source: str, settings: ReadingSettings
) -> Iterator[Document | Reject]:
    builder = _DocumentBuilder(source, settings.max_document_chars)
    too_long_number = 0
    is_beginning = True
    for line in lines:
        if isinstance(line, Reject):
            yield line
            continue
        if is_beginning and _NOT_JSON_LINES.match(line.text):
            raise UnsupportedTextError(
                "not_json_lines",
                "this is not JSON lines, one object a line: convert it with jq -c '.[]' (array) or jq -c . (objects)",
            )
        is_beginning = is_beginning and not line.text.strip()
        if not line.is_last_piece:
            if line.number != too_long_number:
                detail = f"longer than {_MAX_JSON_LINE_BYTES >> 20} MiB: split it, or put its text into a .txt file"
                yield Reject("json_line_too_long", source, line.number, detail)
            too_long_number = line.number
        elif line.number != too_long_number and line.text.strip():
            text = _text_of_json(line, source, settings.json_key)
            if isinstance(text, Reject):
                yield text
            else:
                yield from builder.add(text, line.number)
                yield from builder.finish()


def _text_of_json(line: Line, source: str, key: str) -> str | Reject:
    try:
        row = json.loads(line.text)
    except (ValueError, RecursionError) as error:
        return Reject("broken_json", source, line.number, f"{error}: write one whole JSON object on each line")
    if not isinstance(row, dict):
        detail = f"{_shown(row)} is no object: write {{{json.dumps(key)}: ...}} on each line"
        return Reject("broken_json", source, line.number, detail)
    if key not in row:
        detail = f"no key {key!r} among {_shown(list(row))}: name the key that holds the text with {_KEY_FLAG}"
        return Reject("missing_key", source, line.number, detail)
    if not isinstance(row[key], str):
        way_out = f"put the text there, or name another key with {_KEY_FLAG}"
        detail = f"the value of {key!r} is {_shown(row[key])}, no string: {way_out}"
        return Reject("not_a_string", source, line.number, detail)
    if not row[key].strip():
        return Reject("empty_text", source, line.number, f"the value of {key!r} is blank")
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
        self._first_line = 0
        self._part = 0

    def add(self, text: str, line: int, after: str = "") -> Iterator[Document]:
        """Add ``text`` to the document, put ``after`` between what is there and it, and yield what is too much."""
        if self._pieces:
            text = after + text
        elif self._part == 0:
            self._first_line = line
        self._pieces.append(text)
        self._size += len(text)
        if self._size <= self._max_chars:
            return
        text = "".join(self._pieces)
        while len(text) > self._max_chars:
            end = last_sentence_end(text, self._max_chars - int(_REST_SHARE * self._max_chars))
            end = blank_run_end(text, end, self._max_chars)
            yield Document(text[:end], self._source, self._first_line, self._part, is_last_part=False)
            self._part += 1
            text = text[end:]
        self._pieces, self._size = [text], len(text)

    def finish(self) -> Iterator[Document]:
        """Yield what is left of the document, unless it is blank, and begin the next one."""
        text = "".join(self._pieces)
        if text and not text.isspace():
            yield Document(text, self._source, self._first_line, self._part)
        self._pieces, self._size, self._part = [], 0, 0
