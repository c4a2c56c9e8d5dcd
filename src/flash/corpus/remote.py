"""Files that are not on this machine's disks: any URL that fsspec knows, such as ``s3://bucket/corpus/a.jsonl``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

import fsspec

from flash.errors import InputError

# The fields by which file systems tell one version of a file from another, the surest first.
_VERSION_FIELDS = ("ETag", "etag", "mtime", "LastModified", "updated", "created")


def is_remote(place: str | Path) -> bool:
    """Say whether a place is a URL of another file system than the local one."""
    return isinstance(place, str) and "://" in place and not place.startswith(("file://", "local://"))


def local_path(place: str | Path) -> Path:
    """Return the path of a local place, given as a path or as a ``file://`` URL."""
    if isinstance(place, str) and place.startswith(("file://", "local://")):
        return Path(place.partition("://")[2])
    return Path(place)


def file_system(url: str) -> tuple[Any, str]:
    """Return fsspec's file system for ``url``, and the path in it.

    Raises:
        InputError: No such kind of file system, or what it needs is not installed.
    """
    try:
        file_system, path = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise InputError(
            f"{url} cannot be reached: {error}; pip install '.[scale]' in the checkout brings s3://, others need the "
            "fsspec package of their own"
        ) from error
    return file_system, path


@dataclass(frozen=True, slots=True)
class RemotePath:
    """A file by its URL, with as much of `pathlib.Path` as reading needs."""

    url: str

    def __str__(self) -> str:
        return self.url

    def __lt__(self, other: RemotePath) -> bool:
        return self.url < other.url

    @property
    def name(self) -> str:
        """The last part."""
        return PurePosixPath(self.url).name

    @property
    def suffix(self) -> str:
        """The last ending of the name."""
        return PurePosixPath(self.url).suffix

    @property
    def suffixes(self) -> list[str]:
        """All endings of the name."""
        return PurePosixPath(self.url).suffixes

    def exists(self) -> bool:
        """Say whether there is such a file or folder."""
        system, path = file_system(self.url)
        return bool(system.exists(path))

    def is_dir(self) -> bool:
        """Say whether it is a folder."""
        system, path = file_system(self.url)
        return bool(system.isdir(path))

    def open_binary(self) -> BinaryIO:
        """Open for reading, with `seek`."""
        system, path = file_system(self.url)
        return cast(BinaryIO, system.open(path, "rb"))

    def size_bytes(self) -> int:
        """Return its length."""
        system, path = file_system(self.url)
        return int(system.size(path))

    def version(self) -> str:
        """Return what changes when the file is written again, as far as its file system tells."""
        system, path = file_system(self.url)
        info = system.info(path)
        return next((str(info[field]) for field in _VERSION_FIELDS if info.get(field)), "")

    def files_below(self, left_out: Sequence[str] = ()) -> Iterator[RemotePath]:
        """Yield all files below this folder, sorted, but for those below ``left_out``, which are URLs that end in /."""
        system, path = file_system(self.url)
        starts = tuple(f"{system._strip_protocol(url)}/" for url in left_out)
        for found in sorted(system.find(path)):
            if not found.startswith(starts):
                yield RemotePath(str(system.unstrip_protocol(found)))
