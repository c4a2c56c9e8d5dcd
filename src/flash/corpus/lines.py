"""Chunks of bytes -> decoded lines, one bad line rejected alone, in bounded memory whatever the length of a line."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import NamedTuple

from flash.corpus.records import Reject
from flash.errors import InputError

_CONTINUATION_BYTES = bytes(range(0x80, 0xC0))


class RawLine(NamedTuple):
    """A line's bytes without its end, or one piece of a line too long to hold; ``number`` counts from 1.

    ``offset`` is the place of the line's first byte, of a piece its own.
    """

    number: int
    data: bytes
    is_last_piece: bool
    offset: int


class Line(NamedTuple):
    """A decoded line without its end, or one piece of a line too long to hold; fields as in `RawLine`."""

    number: int
    text: str
    is_last_piece: bool
    offset: int


class UnsupportedTextError(ValueError):
    """A whole file is not what it is read as; ``reason`` and message say what it looks like instead."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def check_encoding(encoding: str) -> str:
    """Return the codec's own name for ``encoding``.

    Raises:
        InputError: Python does not know it, or its line ends are not the bytes LF and CR (UTF-16, UTF-32).
    """
    try:
        name = codecs.lookup(encoding).name.removesuffix("-sig")  # a byte-order mark is dropped anyway
        line_ends = "\r\n".encode(name)
    except (LookupError, UnicodeError) as error:  # the second by `undefined`, which encodes nothing
        raise InputError(f"unknown encoding {encoding!r}: give one that Python knows, such as gb18030") from error
    if line_ends != b"\r\n":
        raise InputError(f"encoding {encoding!r} is not supported: convert the files with iconv -t UTF-8")
    return name


def split_lines(chunks: Iterable[bytes], max_line_bytes: int, offset: int = 0) -> Iterator[RawLine]:
    r"""Cut at LF, CRLF and lone CR; a line of more than ``max_line_bytes`` comes in pieces of at least that size.

    Args:
        chunks: All there is to cut.
        max_line_bytes: From this size on, a line is not held whole.
        offset: Of the first byte of the first chunk.
    """
    number, pieces, size = 1, list[bytes](), 0
    begin = offset
    after_carriage_return = False
    for chunk in chunks:
        if after_carriage_return and chunk.startswith(b"\n"):
            chunk = chunk[1:]
            begin += 1
        after_carriage_return = chunk.endswith(b"\r")
        for line in chunk.splitlines(keepends=True):
            content = line.rstrip(b"\r\n")
            pieces.append(content)
            size += len(content)
            is_last_piece = len(content) < len(line)
            if is_last_piece or size >= max_line_bytes:
                yield RawLine(number, b"".join(pieces), is_last_piece, begin)
                begin += size + len(line) - len(content)
                pieces, size = [], 0
                number += is_last_piece
    if pieces:
        yield RawLine(number, b"".join(pieces), is_last_piece=True, offset=begin)


def read_lines(
    chunks: Iterator[bytes], source: str, encoding: str, max_line_bytes: int, offset: int = 0
) -> Iterator[Line | Reject]:
    """Decode line by line; a line, or a piece of a very long one, with bytes that do not decode is a `Reject`.

    A byte-order mark at the beginning of the file is dropped. Where ``offset`` is not 0 the chunks begin within the
    file, and nothing is concluded from their beginning.

    Raises:
        UnsupportedTextError: The beginning of the file shows that all of it is in another encoding.
    """
    head = next(chunks, b"")
    if encoding == "utf-8" and offset == 0:
        check_looks_like_utf8(head)
        if head.startswith(codecs.BOM_UTF8):
            offset = len(codecs.BOM_UTF8)
            head = head[offset:]
    decoder = codecs.getincrementaldecoder(encoding)()
    reason = f"invalid_{encoding.replace('-', '')}"
    after_bad_piece = False
    for number, data, is_last_piece, begin in split_lines(chain([head], chunks), max_line_bytes, offset):
        if encoding == "utf-8" and after_bad_piece:
            data = data.lstrip(_CONTINUATION_BYTES)  # the rest of a character cut off with the bad piece
        try:
            text = decoder.decode(data, final=is_last_piece)
        except UnicodeDecodeError as error:
            decoder.reset()
            after_bad_piece = not is_last_piece
            bad_bytes = error.object[error.start : error.end].hex(" ")
            what = "the line" if is_last_piece else "this part of the long line"
            way_out = "pass --encoding if all of the file is in another, or convert it with iconv"
            detail = f"bytes {bad_bytes} are no {encoding}; {what} is left out: {way_out}"
            yield Reject(reason, source, number, detail, offset=begin)
            continue
        after_bad_piece = False
        yield Line(number, text, is_last_piece, begin)


def check_looks_like_utf8(head: bytes) -> None:
    """Raise UnsupportedTextError where the beginning of a file shows that it is in another encoding."""
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise UnsupportedTextError("looks_like_utf16", "looks like UTF-16: convert it with iconv -f UTF-16 -t UTF-8")
    lines = head.splitlines(keepends=True)
    beyond_ascii = [line for line in lines if not line.isascii()]
    bad = [line for line in beyond_ascii if not _decodes(line, "utf-8")]
    if 2 * len(bad) > len(beyond_ascii) and all(_decodes(line, "gb18030") for line in bad):
        detail = "looks like GBK: pass --encoding gb18030, or convert it with iconv -f GB18030 -t UTF-8"
        raise UnsupportedTextError("looks_like_gbk", detail)


def _decodes(line: bytes, encoding: str) -> bool:
    # a line without an end may be cut within a character, by the end of the chunk
    is_whole = line.endswith((b"\n", b"\r"))
    try:
        codecs.getincrementaldecoder(encoding)().decode(line, final=is_whole)
    except UnicodeDecodeError:
        return False
    return True
