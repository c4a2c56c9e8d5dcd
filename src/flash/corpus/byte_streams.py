"""A file's bytes, or a range of them, decompressed, with their hash and count taken on the way."""

from __future__ import annotations

import errno
import hashlib
import io
import lzma
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import pyarrow as pa

from flash.corpus.input_files import InputFile

CHUNK_BYTES = 1 << 20

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
        """Yield the decompressed content in chunks of at most 1 MiB.

        Raises:
            OSError: The file cannot be opened or read, or is compressed and damaged or ends too early.
        """
        compression = self._input.compression
        with self._input.open_binary() as file:
            if self._begin:  # a pipe has no place to go to
                file.seek(self._begin)
            left = None if self._end is None else self._end - self._begin
            stream: Any = _Observed(file, self._observe, left)
            if compression == "xz":  # which pyarrow does not read
                stream = lzma.LZMAFile(stream)  # noqa: SIM115 closing it would do nothing more
            elif compression is not None:
                # goes on over several compressed frames and notices a missing end; zstandard's streams do neither
                stream = pa.CompressedInputStream(pa.PythonFile(stream, mode="r"), compression)
            try:
                while chunk := stream.read(CHUNK_BYTES):
                    yield chunk
            except (EOFError, lzma.LZMAError) as error:
                raise OSError(str(error)) from error

    def _observe(self, data: bytes) -> None:
        self._hash.update(data)
        self.byte_count += len(data)
        self._on_read(len(data))


class _Observed(io.RawIOBase):
    """A binary file, or as many of its bytes as ``left`` says, that shows a function all that is read from it."""

    def __init__(self, file: BinaryIO, observe: Callable[[bytes], object], left: int | None) -> None:
        self._file = file
        self._observe = observe
        self._left = left

    def read(self, size: int = -1) -> bytes:
        if self._left is not None:
            size = self._left if size < 0 else min(size, self._left)
        data = self._file.read(size)
        if self._left is not None:
            self._left -= len(data)
        self._observe(data)
        return data

    def readable(self) -> bool:
        return True
