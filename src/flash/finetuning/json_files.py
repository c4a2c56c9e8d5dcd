"""Files that a study goes on from: written in whole or not at all, and refused where they are damaged."""

import json
from pathlib import Path
from typing import Any

from flash.corpus.folders import LocalFolder
from flash.errors import InputError


def write_json(path: Path, value: Any) -> None:
    """Write a file that a process which is killed does not leave behind in part."""
    LocalFolder(path.parent).write_json(path.name, value)


def read_json(path: Path, way_out: str) -> dict[str, Any]:
    """Read it again.

    Args:
        way_out: What to do where it is damaged, for the message.

    Raises:
        InputError: It holds no JSON object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is damaged ({error}); {way_out}") from error
    if not isinstance(value, dict):
        raise InputError(f"{path} is damaged (no JSON object); {way_out}")
    return value
