"""A file's bytes, decompressed, with their hash and count taken on the way."""

from __future__ import annotations

import hashlib
import io
import lzma
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from flash.corpus.input_files import COMPRESSION_OF_SUFFIX

CHUNK_BYTES = 1 << 20


class HashedFile:
    """A file read once from begin to end, with SHA-256 and number of the bytes read of it so far.

    Args:
        path: The file; hash and count are of its bytes as they lie on disk, compressed or not.
        on_read: Called with the number of bytes after every read, for a progress display.
    """

    def __init__(self, path: Path, on_read: Callable[[int], object]) -> None:
        self._path = path
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
        compression = COMPRESSION_OF_SUFFIX.get(self._path.suffix.lower())
        with self._path.open("rb", buffering=0) as file:
            stream: Any = _Observed(file, self._observe)
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
    """A binary file that shows a function all that is read from it."""

    def __init__(self, file: io.FileIO, observe: Callable[[bytes], object]) -> None:
        self._file = file
        self._observe = observe

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self._observe(data)
        return data

    def readable(self) -> bool:
        return True
