"""One process at a time trains into a folder: two would delete each other's checkpoints."""

import contextlib
import errno
import logging
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from flash.errors import InputError

LOCK = ".lock"
_NO_LOCKS = (errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.ENOSYS)

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def only_process_in(folder: Path) -> Iterator[None]:
    """Keep other processes from training into ``folder``; the system frees what a process that died held.

    The folder is made for it, and removed again where nothing else was put into it.

    Raises:
        InputError: Another process trains into it.
    """
    new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise InputError(f"another process trains into {folder}: wait for it, or name another --output_dir") from error
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        logger.warning("%s: its file system keeps no locks; let no other process train into it", folder)
    try:
        yield
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()
        if new:
            with contextlib.suppress(OSError):  # not empty
                folder.rmdir()


def holds_nothing(folder: Path) -> bool:
    """Tell whether there is nothing in a folder but the lock."""
    return all(path.name == LOCK for path in folder.iterdir())
