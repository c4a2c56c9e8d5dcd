"""What the user named -> a sorted list of files, and which kind each is."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from flash.corpus.records import Reject
from flash.corpus.remote import RemotePath, is_remote, local_path
from flash.errors import InputError

Kind = Literal["text", "json", "parquet"]

COMPRESSION_OF_SUFFIX = {".gz": "gzip", ".bz2": "bz2", ".xz": "xz", ".zst": "zstd"}
_KIND_OF_SUFFIX: dict[str, Kind] = {
    ".txt": "text",
    ".jsonl": "json",
    ".json": "json",
    ".ndjson": "json",
    ".parquet": "parquet",
}

# What a tokenizer, a model or the work of `prepare` holds, or a dataset of this package or of `datasets`.
_MARKS_OF_NO_TEXT = ({"tokenizer.json"}, {"manifest.json", "tokenizer"}, {"dataset_info.json", "state.json"})


@dataclass(frozen=True, slots=True)
class InputFile:
    """A file to read: plain text or JSON lines, compressed or not, or Parquet.

    ``folder`` is what a relative path begins at, where that is not the working folder of the process that reads.
    """

    path: Path | RemotePath
    kind: Kind
    folder: Path = Path()

    @property
    def name(self) -> str:
        """The path as one printable line."""
        return printable(self.path)

    @property
    def compression(self) -> str | None:
        """The kind of compression that its name tells, if any."""
        return COMPRESSION_OF_SUFFIX.get(self.path.suffix.lower())

    def open_binary(self) -> BinaryIO:
        """Open for reading; nothing is buffered, so that who counts the reads counts bytes of the disk."""
        if isinstance(self.path, RemotePath):
            return self.path.open_binary()
        return (self.folder / self.path).open("rb", buffering=0)

    def size_bytes(self) -> int:
        """Return its length as it lies on disk."""
        if isinstance(self.path, RemotePath):
            return self.path.size_bytes()
        return (self.folder / self.path).stat().st_size

    def version(self) -> str:
        """Return what changes when the file is written again; compared for equality alone, so clocks may be wrong."""
        if isinstance(self.path, RemotePath):
            return self.path.version()
        return str((self.folder / self.path).stat().st_mtime_ns)


def printable(path: Path | RemotePath | str) -> str:
    """Return a path as text on one line that can be printed and stored, with escapes for all that cannot."""
    text = os.fsencode(str(path)).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def kind_of(path: Path | RemotePath) -> Kind | None:
    """Return the kind that a file's name says it is, the ending of a compressed file set aside; None if none."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in COMPRESSION_OF_SUFFIX:
        suffixes.pop()
    return _KIND_OF_SUFFIX.get(suffixes[-1]) if suffixes else None


def find_input_files(
    paths: Sequence[Path | str],
    *,
    kinds: Collection[Kind] = ("text", "json", "parquet"),
    passed_over: Collection[Path | str] = (),
) -> tuple[list[InputFile], list[Reject]]:
    """List the files to read, sorted by path within each folder, and what was left out.

    A folder, local or a URL that fsspec knows, is searched to the bottom for files whose names end in ``.txt`` or
    ``.jsonl``, ``.json``, ``.ndjson``, compressed or not, or in ``.parquet`` (as ``kinds`` asks); links are followed,
    and no folder is read twice. On a local disk, datasets, tokenizers and models below the folder are left out. A file
    that the user names is taken whatever its name ends in, as text where the name does not say.

    Args:
        paths: Files and folders.
        kinds: What to look for in folders.
        passed_over: What lies in the folders and is no input: what the work makes itself, and its tokenizer.

    Raises:
        InputError: A path does not exist, or there is no file to read.
    """
    files: list[InputFile] = []
    rejects: list[Reject] = []
    urls = tuple(f"{str(place).rstrip('/')}/" for place in passed_over if is_remote(place))
    folders = {local_path(place).resolve() for place in passed_over if not is_remote(place)}
    for place in paths:
        path = RemotePath(str(place)) if is_remote(place) else local_path(place)
        if not path.exists():
            raise InputError(f"{printable(path)} does not exist: check the path of the input")
        if not path.is_dir():
            files.append(InputFile(path, kind_of(path) or "text"))
            continue
        for found in path.files_below(urls) if isinstance(path, RemotePath) else _walk(path, rejects, set(), folders):
            kind = kind_of(found)
            if kind is not None and kind in kinds:
                files.append(InputFile(found, kind))
            else:
                detail = "left out for the ending of its name: name the file itself to read it"
                rejects.append(Reject("other_file", printable(found), None, detail))
    if not files:
        named = ", ".join(map(printable, paths))
        endings = ", ".join(suffix for suffix, kind in _KIND_OF_SUFFIX.items() if kind in kinds)
        raise InputError(f"no file to read in {named}: looked for {endings}, also with .gz, .bz2, .xz or .zst")
    return files, rejects


def _walk(folder: Path, rejects: list[Reject], visited: set[Path], passed_over: set[Path]) -> Iterator[Path]:
    """Yield the files below ``folder``, sorted by path; what cannot be read goes to ``rejects``.

    Args:
        folder: Where to begin.
        rejects: Added to here.
        visited: Folders, without links in their paths, that were searched already; added to here. A link to a folder
            above would never end otherwise. Empty for the folder that the user named.
        passed_over: Files and folders to pass over, likewise without links.
    """
    resolved = folder.resolve()
    if resolved in visited:
        detail = f"a link to {printable(resolved)}, which is read already: name it on its own to read it twice"
        rejects.append(Reject("repeated_folder", printable(folder), None, detail))
        return
    is_named = not visited
    visited.add(resolved)
    try:
        entries = sorted(folder.iterdir(), key=os.fsencode)  # whatever the locale
    except OSError as error:
        detail = f"{error.strerror}: make the folder readable, or leave it out"
        rejects.append(Reject("unreadable_folder", printable(folder), None, detail))
        return
    names = {entry.name for entry in entries}
    if not is_named and any(marks <= names for marks in _MARKS_OF_NO_TEXT):
        detail = "left out, because it holds a dataset, a tokenizer or a model: name the folder itself to read it"
        rejects.append(Reject("other_folder", printable(folder), None, detail))
        return
    for entry in entries:
        try:
            mode = entry.stat().st_mode
        except FileNotFoundError:
            detail = "a link to nothing: mend it, or remove it"
            rejects.append(Reject("dangling_link", printable(entry), None, detail))
            continue
        except OSError as error:
            detail = f"{error.strerror}: make it readable, or leave it out"
            rejects.append(Reject("unreadable_file", printable(entry), None, detail))
            continue
        if stat.S_ISDIR(mode):
            if entry.resolve() not in passed_over:
                yield from _walk(entry, rejects, visited, passed_over)
        elif stat.S_ISREG(mode):
            if resolved / entry.name not in passed_over:
                yield entry
        else:
            detail = "a pipe, socket or device: save what it gives to a file"
            rejects.append(Reject("special_file", printable(entry), None, detail))
