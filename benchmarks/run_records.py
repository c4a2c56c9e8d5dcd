"""What is kept of the runs of a study: a file with a JSON object a line, which is only ever added to."""

import contextlib
import fcntl
import json
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any, TypeVar

Run = TypeVar("Run", bound=Hashable)


def read_run_records(results: Path, run_of: Callable[[dict[str, Any]], Run]) -> dict[Run, dict[str, Any]]:
    """Read the records of finished runs, by run; nothing where there is no file yet.

    Args:
        run_of: Makes a run of a record's ``run``.
    """
    if not results.exists():
        return {}
    records = [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()]
    return {run_of(record["run"]): record for record in records}


def append_record(results: Path, record: dict[str, Any]) -> None:
    """Add a record; several processes may do so at a time."""
    results.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps(record, ensure_ascii=False) + "\n"
    with results.open("a", encoding="utf-8") as out, contextlib.ExitStack() as stack:
        fcntl.flock(out, fcntl.LOCK_EX)
        stack.callback(fcntl.flock, out, fcntl.LOCK_UN)
        out.write(line)
        out.flush()
