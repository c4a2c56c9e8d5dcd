"""One process at a time trains into a folder: two would delete each other's checkpoints."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from flash.corpus.staging import holding

LOCK = ".lock"


@contextlib.contextmanager
def only_process_in(folder: Path) -> Iterator[None]:
    """Keep other processes from training into ``folder``; the system frees what a process that died held.

    The folder is made for it, and removed again where nothing else was put into it.

    Raises:
        InputError: Another process trains into it.
    """
    new = not folder.exists()
    taken = f"another process trains into {folder}: wait for it, or name another --output_dir"
    try:
        with holding(folder / LOCK, taken=taken):
            yield
    finally:
        if new:
            with contextlib.suppress(OSError):  # not empty
                folder.rmdir()


def holds_nothing(folder: Path) -> bool:
    """Tell whether there is nothing in a folder but the lock."""
    return all(path.name == LOCK for path in folder.iterdir())
