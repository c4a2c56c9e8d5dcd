"""Outputs that are whole or not there: written aside, then renamed."""

from __future__ import annotations

import errno
import logging
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path

from filelock import FileLock, Timeout

from flash.corpus.input_files import printable
from flash.errors import InputError

# All that preparing, the script before it, and the reading of a dataset ever put into a dataset's folder.
DATASET_FILES = ("*.arrow", "dataset_info.json", "state.json", "manifest.json", "rejects.jsonl", "tokenizer", "*.lock")

_NO_LOCKS = (errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.ENOSYS)

_logger = logging.getLogger(__name__)


@contextmanager
def staged(output: Path, *, overwrite: bool, own_files: Sequence[str] = ()) -> Iterator[Path]:
    """Give a path beside ``output`` to write a file or a folder to; it takes the place of ``output`` at the end.

    Whatever ends the block early leaves ``output`` as it was and removes what was written; what a killed process
    left is removed by the next one. Two processes never write the same output at once.

    Args:
        output: Where the result shall be.
        overwrite: Whether something may be there already. An empty folder may, in any case.
        own_files: Patterns of the names that this command makes in a folder; a folder with any other is not replaced.

    Raises:
        InputError: ``output`` exists, or is being written by another process.
    """
    check_replaceable(output, overwrite=overwrite, own_files=own_files)
    named, output = output, output.resolve()  # a change of the working folder must not move it, a link must stay
    partial, replaced = _partial(output), _replaced(output)
    with locked(output):
        if replaced.exists() and not output.exists():
            replaced.rename(output)  # a process was killed between the two renames below
            check_replaceable(named, overwrite=overwrite, own_files=own_files)
        for leftover in (partial, replaced):
            if leftover.exists():
                _logger.warning("removing %s, left by a run that did not finish", printable(leftover))
                _remove(leftover)
        try:
            yield partial
            if output.exists():
                output.rename(replaced)
            partial.rename(output)
        except BaseException:
            _remove(partial)
            raise
        _remove(replaced)


def check_replaceable(output: Path, *, overwrite: bool, own_files: Sequence[str] = ()) -> None:
    """Raise InputError where `staged` would, so that it is said before hours of work."""
    for folder in output.parents:
        if folder.exists() and not folder.is_dir():
            raise InputError(f"{printable(output)} cannot be made, because {printable(folder)} is a file: name another")
    entries = sorted(path.name for path in output.iterdir()) if output.is_dir() else []
    if not output.exists() or (output.is_dir() and not entries):
        return
    if not overwrite:
        raise InputError(f"{printable(output)} exists: pass --overwrite to replace it, or name another output")
    if own_files and not output.is_dir():
        raise InputError(f"{printable(output)} is not replaced, because it is no folder: name another output")
    for name in entries:
        if not any(fnmatchcase(name, pattern) for pattern in own_files):
            raise InputError(
                f"{printable(output)} is not replaced, because it holds {printable(Path(name))}, which is none of this "
                "command's files: name another output"
            )


def places_of(output: Path) -> list[Path]:
    """Return all that `staged` and `scratch_folder` make: what a killed process left of it is no input."""
    resolved = output.resolve()
    return [output, _partial(resolved), _replaced(resolved), _scratch(resolved), lock_of(resolved)]


@contextmanager
def scratch_folder(output: Path) -> Iterator[Path]:
    """Give an empty folder beside ``output`` for the time of the block; use it inside `staged`, for its lock."""
    folder = _scratch(output.resolve())
    if folder.exists():
        _logger.warning("removing %s, left by a run that did not finish", printable(folder))
        _remove(folder)
    folder.mkdir()
    try:
        yield folder
    finally:
        _remove(folder)


@contextmanager
def locked(output: Path, name: str | None = None) -> Iterator[None]:
    """Keep other processes off ``output``; the system frees what a process that died held.

    Args:
        output: The lock is a file beside it.
        name: What to call it in the error, if not by its path.

    Raises:
        InputError: Another one has it.
    """
    taken = f"{name or printable(output)} is being written by another process: wait for it"
    with holding(lock_of(output), taken=taken):
        yield


def lock_of(output: Path) -> Path:
    """Return the file whose lock keeps other processes off ``output``."""
    return output.with_name(f".{output.name}.lock")


@contextmanager
def holding(lock_file: Path, *, taken: str) -> Iterator[None]:
    """Hold a lock that one process at a time can have; its folder is made where there is none.

    Raises:
        InputError: Another one has it; the message is ``taken``.
        OSError: Nothing can be written there.
    """
    lock = FileLock(lock_file)
    try:
        lock_file.parent.mkdir(parents=True, exist_ok=True)
        lock_file.touch()  # FileLock waits where no file can be made, as if another process had the lock
        lock.acquire(timeout=0)
    except Timeout as error:
        raise InputError(taken) from error
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            reason = error.strerror or error
            place = printable(lock_file.parent)
            raise OSError(
                f"{place} cannot be written to ({reason}): make it writable, or name another output"
            ) from error
        _logger.warning("%s: its file system keeps no locks; let no other process write there", lock_file.parent)
    try:
        yield
    finally:
        lock_file.unlink(missing_ok=True)
        lock.release()


def _partial(output: Path) -> Path:
    return output.with_name(output.name + ".partial")


def _replaced(output: Path) -> Path:
    return output.with_name(output.name + ".replaced")


def _scratch(output: Path) -> Path:
    return output.with_name(output.name + ".scratch")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
