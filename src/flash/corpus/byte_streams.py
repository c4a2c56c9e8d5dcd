"""A file's bytes, or a range of them, decompressed, with their hash and count taken on the way."""

from __future__ import annotations

import bz2
import errno
import hashlib
import lzma
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO, Protocol

import zstandard

from flash.corpus.input_files import InputFile

CHUNK_BYTES = 1 << 20

# So many compressed bytes are taken at once: of a damaged file the piece with the fault is lost, and what it becomes
# is held.
_PIECE_BYTES = 8 << 10

# Of the machine or the network, not of the file.
_PASSING_ERRORS = frozenset(
    {errno.EIO, errno.ESTALE, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ENOTCONN}
    | {errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTDOWN, errno.EHOSTUNREACH}
)


def may_pass(error: OSError) -> bool:
    """Say whether the same file may be read another time: it must not be taken for unreadable then."""
    return isinstance(error, (ConnectionError, TimeoutError)) or error.errno in _PASSING_ERRORS


class HashedFile:
    """A file read once from begin to end, with SHA-256 and number of the bytes read of it so far.

    Args:
        file: Hash and count are of its bytes as they lie on disk, compressed or not.
        on_read: Called with the number of bytes after every read, for a progress display.
        begin: First byte to read; the file is not compressed where this is not 0.
        end: First byte not to read; None for all.
    """

    def __init__(
        self, file: InputFile, on_read: Callable[[int], object], begin: int = 0, end: int | None = None
    ) -> None:
        self._input = file
        self._begin = begin
        self._end = end
        self._hash = hashlib.sha256()
        self._on_read = on_read
        self.byte_count = 0

    @property
    def sha256(self) -> str:
        """Hash of the bytes read so far, in hexadecimal."""
        return self._hash.hexdigest()

    def chunks(self) -> Iterator[bytes]:
        """Yield the decompressed content in chunks of about 1 MiB.

        Raises:
            OSError: The file cannot be opened or read, or is compressed and damaged or ends too early; what comes
                before the fault was yielded.
        """
        compression = self._input.compression
        with self._input.open_binary() as file:
            if self._begin:  # a pipe has no place to go to
                file.seek(self._begin)
            left = None if self._end is None else self._end - self._begin
            stream = _Observed(file, self._observe, left)
            if compression is not None:
                yield from _in_chunks(_decompress(stream, _DECOMPRESSORS[compression]))
                return
            while chunk := stream.read(CHUNK_BYTES):
                yield chunk

    def _observe(self, data: bytes) -> None:
        self._hash.update(data)
        self.byte_count += len(data)
        self._on_read(len(data))


class _Observed:
    """A binary file, or as many of its bytes as ``left`` says, that shows a function all that is read from it."""

    def __init__(self, file: BinaryIO, observe: Callable[[bytes], object], left: int | None) -> None:
        self._file = file
        self._observe = observe
        self._left = left

    def read(self, size: int) -> bytes:
        if self._left is not None:
            size = min(size, self._left)
        data = self._file.read(size)
        if self._left is not None:
            self._left -= len(data)
        self._observe(data)
        return data


class _Decompressor(Protocol):
    """Decompresses one stream, as those of `bz2` and `lzma` do."""

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _GzipDecompressor:
    def __init__(self) -> None:
        self._stream = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)

    @property
    def eof(self) -> bool:
        return self._stream.eof

    @property
    def needs_input(self) -> bool:
        return not self._stream.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._stream.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._stream.decompress(self._stream.unconsumed_tail + data, max_length)


class _ZstdDecompressor:
    needs_input = True

    def __init__(self) -> None:
        self._stream = zstandard.ZstdDecompressor().decompressobj()

    @property
    def eof(self) -> bool:
        return self._stream.eof

    @property
    def unused_data(self) -> bytes:
        return self._stream.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._stream.decompress(data)  # it knows no limit; the size of a piece is one


_DECOMPRESSORS: dict[str, Callable[[], _Decompressor]] = {
    "gzip": _GzipDecompressor,
    "bz2": bz2.BZ2Decompressor,
    "xz": lzma.LZMADecompressor,
    "zstd": _ZstdDecompressor,
}


def _decompress(file: _Observed, new_decompressor: Callable[[], _Decompressor]) -> Iterator[bytes]:
    """Yield what compressed streams hold, which stand one behind the other, or with zero bytes between them."""
    try:
        data = file.read(_PIECE_BYTES)
        while data:
            decompressor = new_decompressor()
            while not decompressor.eof:
                yield decompressor.decompress(data, CHUNK_BYTES)
                data = b""
                if decompressor.needs_input and not decompressor.eof:
                    data = file.read(_PIECE_BYTES)
                    if not data:
                        raise EOFError("the compressed data end too early")
            data = decompressor.unused_data.lstrip(b"\0")
            while not data and (more := file.read(_PIECE_BYTES)):
                data = more.lstrip(b"\0")
    except (EOFError, zlib.error, lzma.LZMAError, zstandard.ZstdError) as error:
        raise OSError(str(error)) from error


def _in_chunks(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Join pieces to chunks of at least 1 MiB, but for the last; none is lost where the pieces end in an error."""
    held: list[bytes] = []
    size = 0
    try:
        for piece in pieces:
            held.append(piece)
            size += len(piece)
            if size >= CHUNK_BYTES:
                yield b"".join(held)
                held, size = [], 0
    except OSError:
        if size:
            yield b"".join(held)
        raise
    if size:
        yield b"".join(held)
