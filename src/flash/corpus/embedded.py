"""The corpus that comes with the package: everyday Chinese, enough to try every command without a download."""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path

from flash.corpus.input_files import printable
from flash.errors import InputError

_FOLDER = Path(str(files("flash"))) / "assets" / "everyday_zh"


def embedded_corpus() -> Path:
    """Return the folder of the ``.txt`` files that come with the package."""
    if not _FOLDER.is_dir():
        raise InputError("the corpus that comes with the package is not installed: name your own text files")
    return _FOLDER


def portable_path(path: str) -> str:
    """Return ``everyday_zh/NAME`` for a file of this corpus, whose place differs from machine to machine.

    Args:
        path: As `printable` gives it; all others are returned unchanged.
    """
    place = printable(_FOLDER) + os.sep
    return f"{_FOLDER.name}/{path.removeprefix(place)}" if path.startswith(place) else path
