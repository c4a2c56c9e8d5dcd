"""Shuffle lines without holding them all: into buckets on disk at random, then each bucket in memory."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

_BUCKET_COUNT = 64
_BUCKET_BYTES = 64 << 20


def shuffled_lines(
    lines: Iterable[bytes], folder: Path, generator: random.Random, *, bucket_bytes: int = _BUCKET_BYTES
) -> Iterator[bytes]:
    r"""Yield ``lines`` in an order that depends on ``generator`` and their number alone, every order equally likely.

    Args:
        lines: Each ends with its only ``\n``.
        folder: Made here for the buckets, which are removed as they are used up.
        generator: Seeded by the caller.
        bucket_bytes: A bucket that grew larger is not held but shuffled the same way; more than one line.
    """
    folder.mkdir()
    paths = [folder / f"{index:02d}" for index in range(_BUCKET_COUNT)]
    with ExitStack() as stack:
        buckets = [stack.enter_context(path.open("wb")) for path in paths]
        for line in lines:
            buckets[generator.randrange(_BUCKET_COUNT)].write(line)
    for path in paths:
        with path.open("rb") as bucket:
            if path.stat().st_size > bucket_bytes:
                inner = path.with_suffix(".buckets")
                yield from shuffled_lines(bucket, inner, generator, bucket_bytes=bucket_bytes)
            else:
                held = list(bucket)
                generator.shuffle(held)
                yield from held
        path.unlink()
    folder.rmdir()
