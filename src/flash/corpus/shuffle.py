"""Shuffle without holding everything: lines go into buckets on disk at random, then each bucket is shuffled."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

from flash.corpus.records import Document

_BUCKET_COUNT = 64
_BUCKET_BYTES = 64 << 20


class LineShuffler:
    r"""Takes lines and gives them out in an order that depends on the generator and their number alone.

    Every order is equally likely.

    Args:
        folder: Made here for the buckets, which are removed as they are used up.
        generator: Seeded by the caller.
        bucket_bytes: A bucket that grew larger is not held but shuffled the same way; more than one line.
    """

    def __init__(self, folder: Path, generator: random.Random, bucket_bytes: int = _BUCKET_BYTES) -> None:
        folder.mkdir()
        self._paths = [folder / f"{index:02d}" for index in range(_BUCKET_COUNT)]
        self._generator = generator
        self._bucket_bytes = bucket_bytes
        self._stack = ExitStack()
        self._buckets = [self._stack.enter_context(path.open("wb")) for path in self._paths]
        self.count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def add(self, line: bytes) -> None:
        r"""Take one line, which ends with its only ``\n``."""
        self._buckets[self._generator.randrange(_BUCKET_COUNT)].write(line)
        self.count += 1

    def drain(self) -> Iterator[bytes]:
        """Yield all lines; none can be added from then on."""
        self._stack.close()
        for path in self._paths:
            with path.open("rb") as bucket:
                if path.stat().st_size <= self._bucket_bytes:
                    held = list(bucket)
                    self._generator.shuffle(held)
                    yield from held
                else:
                    inner_folder = path.with_suffix(".buckets")
                    with LineShuffler(inner_folder, self._generator, self._bucket_bytes) as inner:
                        for line in bucket:
                            inner.add(line)
                        yield from inner.drain()
                    inner_folder.rmdir()
            path.unlink()


def encode_document(document: Document) -> bytes:
    """Return a document as one line."""
    return encode_json_line(asdict(document))


def decode_document(line: bytes) -> Document:
    """Return the document that `encode_document` made the line of."""
    return Document(**json.loads(line))


def encode_json_line(row: dict[str, Any]) -> bytes:
    """Return ``row`` as one line of JSON in UTF-8; lone surrogates, which UTF-8 does not have, stay escaped."""
    return json.dumps(row, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"
