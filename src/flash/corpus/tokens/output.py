"""Where a token folder is made, and how it takes its place when it is whole."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path

from flash.corpus.folders import Folder, LocalFolder, open_folder
from flash.corpus.input_files import printable
from flash.corpus.remote import is_remote, local_path
from flash.corpus.staging import DATASET_FILES, check_replaceable, lock_of, locked
from flash.corpus.tokens.finish import MANIFEST
from flash.corpus.tokens.job import PLAN, Job
from flash.errors import InputError

_LOCAL_SUFFIX = ".work"
_REMOTE_NAME = "_work"
_FINISHED = "finished.json"
_REPLACED = "replaced"
# All that a run ever puts into its work folder.
_WORK_FILES = (
    *(PLAN, _FINISHED, _REPLACED, "tokenizer.json", "index.json", "*.part"),
    *("dataset", "tasks", "shards", "duplicates", "logs"),
)
# what says that the rest of the work folder is of no more use goes last
_REMOVED_LAST = (PLAN, _FINISHED)


def work_folder(output: str | Path) -> Folder:
    """Return the folder for what is not finished: beside a local output, inside one behind a URL."""
    if is_remote(output):
        return open_folder(f"{str(output).rstrip('/')}/{_REMOTE_NAME}")
    path = local_path(output).resolve()  # a change of the working folder must not move it
    if not path.name:
        raise InputError(f"{printable(output)} is no folder that can be made: name another output")
    return LocalFolder(path.with_name(path.name + _LOCAL_SUFFIX))


def places_of(output: str | Path) -> list[str | Path]:
    """Return what a run makes: none of it is input, though the output may lie among that."""
    work = work_folder(output)
    if is_remote(output):
        return [output]
    path = local_path(output).resolve()
    # a process that was killed leaves its lock
    return [output, work.place, path.with_name(f"{path.name}.logs"), lock_of(path)]


@contextmanager
def claimed(output: str | Path) -> Iterator[None]:
    """Keep other processes off ``output``; what a process that died held is free.

    Behind a URL this holds for the processes of one machine and user: object stores have no locks.

    Raises:
        InputError: Another process writes it.
    """
    if is_remote(output):
        digest = hashlib.sha256(str(output).rstrip("/").encode()).hexdigest()
        path = Path(tempfile.gettempdir()) / f"flashquad-{digest[:16]}"
        with locked(path, str(output)):
            yield
        return
    path = local_path(output).resolve()
    with locked(path):
        yield


def check_free(output: str | Path, *, overwrite: bool) -> None:
    """Raise InputError where something is at ``output`` that is not to be replaced, or is none of this command's."""
    if not is_remote(output):
        check_replaceable(local_path(output), overwrite=overwrite, own_files=DATASET_FILES)
        return
    names = [name for name in open_folder(output).names() if name != _REMOTE_NAME]
    if MANIFEST in names and not overwrite:
        raise InputError(f"{output} exists: pass --overwrite to replace it, or name another output")
    for name in names:
        if not any(fnmatchcase(name, pattern) for pattern in DATASET_FILES):
            raise InputError(
                f"{output} is not written to, because it holds {name}, which is none of this command's files: name "
                "another output"
            )


def check_own_work(work: Folder) -> None:
    """Raise InputError where a folder that has the name of a work folder holds anything else."""
    for name in work.names():
        if not any(fnmatchcase(name, pattern) for pattern in _WORK_FILES):
            raise InputError(
                f"{printable(work.place)} is not replaced, because it holds {printable(name)}, which is none of this "
                "command's files: name another output"
            )


def clear_remote(output: str | Path) -> None:
    """Remove what an earlier run left at a URL, first of all what says that it is whole."""
    folder = open_folder(output)
    for name in sorted(folder.names(), key=lambda name: name != MANIFEST):
        if name != _REMOTE_NAME:
            folder.remove(name)


def is_finished(work: Folder) -> bool:
    """Say whether the dataset is whole, and only putting it in its place is left."""
    return work.read_json(_FINISHED) is not None


def publish(job: Job) -> None:
    """Put the finished dataset in its place and remove the work; killed at any moment, it can be done again."""
    work = job.work
    if not is_finished(work):
        work.write_json(_FINISHED, {"finished": True})
    if isinstance(work, LocalFolder):
        made, output = work.path / "dataset", work.path.with_name(work.path.name.removesuffix(_LOCAL_SUFFIX))
        if made.exists():
            if output.exists():
                work.remove(_REPLACED)
                output.rename(work.path / _REPLACED)
            made.rename(output)
    for name in work.names():
        if name not in _REMOVED_LAST:
            work.remove(name)
    for name in _REMOVED_LAST:
        work.remove(name)
    work.remove()


def published(output: str | Path) -> Folder:
    """Return the folder where the dataset is in the end."""
    return open_folder(output if is_remote(output) else local_path(output).resolve())
