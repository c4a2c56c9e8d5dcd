"""The corpus that comes with the package: everyday Chinese, enough to try every command without a download."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from flash.errors import InputError


def embedded_corpus() -> Path:
    """Return the folder of the ``.txt`` files that come with the package."""
    folder = Path(str(files("flash"))) / "assets" / "everyday_zh"
    if not folder.is_dir():
        raise InputError("the corpus that comes with the package is not installed: name your own text files")
    return folder
