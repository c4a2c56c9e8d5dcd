"""Outputs that are whole or not there: written aside, then renamed."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from flash.corpus.input_files import printable
from flash.errors import InputError

_logger = logging.getLogger(__name__)


@contextmanager
def staged(output: Path, *, overwrite: bool, marks: tuple[str, ...] = ()) -> Iterator[Path]:
    """Give a path beside ``output`` to write a file or a folder to; it takes the place of ``output`` at the end.

    Whatever ends the block early leaves ``output`` as it was and removes what was written; what a killed process
    left is removed by the next one. Two processes never write the same output at once.

    Args:
        output: Where the result shall be.
        overwrite: Whether something may be there already. An empty folder may, in any case.
        marks: File names of which one must be in an existing folder, so that no folder of another kind is replaced.

    Raises:
        InputError: ``output`` exists, or is being written by another process.
    """
    output = output.resolve()  # a change of the working folder must not move it, a link must not be replaced
    check_replaceable(output, overwrite=overwrite, marks=marks)
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(output.name + ".partial")
    replaced = output.with_name(output.name + ".replaced")
    with _locked(output):
        if replaced.exists() and not output.exists():
            replaced.rename(output)  # a process was killed between the two renames below
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


def check_replaceable(output: Path, *, overwrite: bool, marks: tuple[str, ...] = ()) -> None:
    """Raise InputError where `staged` would, so that it is said before hours of work."""
    is_folder = output.is_dir()
    if not output.exists() or (is_folder and not any(output.iterdir())):
        return
    if not overwrite:
        raise InputError(
            f"{printable(output)} exists: pass --overwrite to replace it, or name another output"
        )
    if is_folder and not any((output / mark).exists() for mark in marks):
        raise InputError(
            f"{printable(output)} is no output of this command, so it is not replaced: name another"
        )


@contextmanager
def scratch_folder(output: Path) -> Iterator[Path]:
    """Give an empty folder beside ``output`` for the time of the block; use it inside `staged`, for its lock."""
    folder = output.resolve()
    folder = folder.with_name(folder.name + ".scratch")
    if folder.exists():
        _logger.warning("removing %s, left by a run that did not finish", printable(folder))
        _remove(folder)
    folder.mkdir()
    try:
        yield folder
    finally:
        _remove(folder)


@contextmanager
def _locked(output: Path) -> Iterator[None]:
    lock = FileLock(output.with_name(f".{output.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise InputError(f"{printable(output)} is being written by another process: wait for it") from error
    try:
        yield
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
