"""What is kept of the runs of a study: a file with a JSON object a line, which is only ever added to."""

import contextlib
import fcntl
import json
import os
from collections.abc import Callable, Hashable, Iterator
from pathlib import Path
from typing import IO, Any, TypeVar

from flash.errors import InputError

Run = TypeVar("Run", bound=Hashable)


def read_run_records(results: Path, run_of: Callable[[dict[str, Any]], Run]) -> dict[Run, dict[str, Any]]:
    """Read the records of finished runs, by run; nothing where there is no file yet.

    Args:
        run_of: Makes a run of a record's ``run``.

    Raises:
        InputError: A line is no record.
    """
    if not results.exists():
        return {}
    with results.open(encoding="utf-8") as lines, _locked(lines, fcntl.LOCK_SH):
        return dict(_read_line(f"{results}:{number}", line, run_of) for number, line in enumerate(lines, start=1))


def append_record(results: Path, record: dict[str, Any]) -> None:
    """Add a record; several processes may do so at a time. What a killed one left of a line stays a line by itself."""
    results.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps(record, ensure_ascii=False).encode() + b"\n"
    with results.open("a+b") as out, _locked(out, fcntl.LOCK_EX):
        size = out.seek(0, os.SEEK_END)
        if size:
            out.seek(size - 1)
            if out.read() != b"\n":
                line = b"\n" + line
        out.write(line)
        out.flush()


def _read_line(place: str, line: str, run_of: Callable[[dict[str, Any]], Run]) -> tuple[Run, dict[str, Any]]:
    try:
        record = json.loads(line)
        return run_of(record["run"]), record
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{place}: no record of a run ({type(error).__name__}: {error}); delete the line, and the run is made again"
        ) from error


@contextlib.contextmanager
def _locked(file: IO[Any], kind: int) -> Iterator[None]:
    fcntl.flock(file, kind)
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)
