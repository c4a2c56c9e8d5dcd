"""A folder to write to, on this machine's disks or behind any URL that fsspec knows; its files appear whole."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

import pyarrow as pa
from fsspec.core import has_magic

from flash.corpus.remote import file_system, is_remote, local_path
from flash.errors import InputError

# Of a file that is being written, or was when its writer was killed.
PART_SUFFIX = ".part"


def open_folder(place: str | Path) -> Folder:
    """Return the folder at ``place``, a path or a URL; it need not exist yet."""
    return RemoteFolder(str(place)) if is_remote(place) else LocalFolder(local_path(place))


class Folder(ABC):
    """A folder and the few things that preparing a corpus does with one."""

    place: str

    @abstractmethod
    def child(self, name: str) -> Folder:
        """Return the folder ``name`` in this one."""

    @abstractmethod
    def writing(self, name: str) -> AbstractContextManager[Path]:
        """Give a path on a local disk to write the file ``name`` to; it is put in place, whole, at the block's end."""

    @abstractmethod
    def open_binary(self, name: str) -> BinaryIO:
        """Open the file ``name`` for reading."""

    @abstractmethod
    def open_arrow(self, name: str) -> pa.NativeFile:
        """Open the file ``name`` for Arrow, memory-mapped where that can be."""

    @abstractmethod
    def size_bytes(self, name: str) -> int | None:
        """Return the length of the file ``name``; None if there is none."""

    @abstractmethod
    def names(self) -> list[str]:
        """Return the names of what the folder holds, sorted; none if it does not exist."""

    @abstractmethod
    def remove(self, name: str = "") -> None:
        """Remove the file or folder ``name`` with all it holds, or this folder itself, if it is there."""

    def write_json(self, name: str, value: object) -> None:
        """Write ``value`` as JSON that people can read too."""
        with self.writing(name) as path:
            path.write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")

    def read_json(self, name: str) -> Any:
        """Return the content of a JSON file; None if it is not there or was cut short."""
        try:
            with self.open_binary(name) as file:
                return json.load(file)
        except (FileNotFoundError, ValueError):
            return None


class LocalFolder(Folder):
    """A folder of this machine."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.place = str(path)

    def child(self, name: str) -> LocalFolder:
        """See `Folder`."""
        return LocalFolder(self.path / name)

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """See `Folder`."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        # of this process alone: a worker that was lost and the one in its place may write the same file
        aside = path.with_name(f"{path.name}.{os.getpid()}{PART_SUFFIX}")
        try:
            yield aside
            with aside.open("rb+") as file:
                os.fsync(file.fileno())
            aside.replace(path)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise

    def open_binary(self, name: str) -> BinaryIO:
        """See `Folder`."""
        return (self.path / name).open("rb")

    def open_arrow(self, name: str) -> pa.NativeFile:
        """See `Folder`."""
        return pa.memory_map(os.fsencode(self.path / name))  # of a name as text it takes UTF-8 alone

    def size_bytes(self, name: str) -> int | None:
        """See `Folder`."""
        path = self.path / name
        return path.stat().st_size if path.is_file() else None

    def names(self) -> list[str]:
        """See `Folder`."""
        return sorted(path.name for path in self.path.iterdir()) if self.path.is_dir() else []

    def remove(self, name: str = "") -> None:
        """See `Folder`."""
        path = self.path / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


class RemoteFolder(Folder):
    """A folder behind a URL. Files are made on a local disk first, so one that was cut short is never uploaded.

    Raises:
        InputError: No such kind of file system, or its name is a pattern: removing it would remove others too.
    """

    def __init__(self, url: str) -> None:
        if has_magic(url):
            raise InputError(f"{url} holds one of * ? [, which is a pattern to file systems: name another output")
        self.place = url.rstrip("/")
        self._system, self._path = file_system(self.place)

    def child(self, name: str) -> RemoteFolder:
        """See `Folder`."""
        return RemoteFolder(f"{self.place}/{name}")

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """See `Folder`."""
        with tempfile.TemporaryDirectory(prefix="flashquad-") as folder:
            path = Path(folder) / Path(name).name
            yield path
            target = f"{self._path}/{name}"
            self._system.makedirs(target.rpartition("/")[0], exist_ok=True)
            self._system.put_file(str(path), target)

    def open_binary(self, name: str) -> BinaryIO:
        """See `Folder`."""
        return cast(BinaryIO, self._system.open(f"{self._path}/{name}", "rb"))

    def open_arrow(self, name: str) -> pa.NativeFile:
        """See `Folder`."""
        return pa.PythonFile(self.open_binary(name), mode="r")

    def size_bytes(self, name: str) -> int | None:
        """See `Folder`."""
        path = f"{self._path}/{name}"
        return int(self._system.size(path)) if self._system.isfile(path) else None

    def names(self) -> list[str]:
        """See `Folder`."""
        self._system.invalidate_cache()
        if not self._system.isdir(self._path):
            return []
        return sorted(str(path).rstrip("/").rpartition("/")[2] for path in self._system.ls(self._path, detail=False))

    def remove(self, name: str = "") -> None:
        """See `Folder`."""
        path = f"{self._path}/{name}".rstrip("/")
        if self._system.exists(path):
            self._system.rm(path, recursive=True)
