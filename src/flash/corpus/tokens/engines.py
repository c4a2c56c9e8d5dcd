"""Who runs the stages, by the name that the user gives."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Literal

from flash.corpus.tokens.job import Job
from flash.corpus.tokens.local_engine import run_locally
from flash.errors import InputError

ExecutorName = Literal["local", "slurm", "ray"]

# Job, most workers, documents between two log lines -> whether the dataset is in its place now.
Engine = Callable[[Job, int, int], bool]


def engine_for(
    executor: ExecutorName | None = None, *, slurm_partition: str = "", slurm_time: str = "24:00:00"
) -> Engine:
    """Return what runs the stages of a job.

    Args:
        executor: One of datatrove's; None for the processes of this machine without it.
        slurm_partition: Where Slurm is to run the tasks.
        slurm_time: Limit of a Slurm job.

    Raises:
        InputError: What the executor needs is not installed, or it needs to know more.
    """
    if executor is None:
        return run_locally
    require_scale(f"--executor {executor}", ["datatrove", *(["ray"] if executor == "ray" else [])])
    if executor == "slurm" and not slurm_partition:
        raise InputError("--executor slurm needs --slurm-partition: sinfo lists the partitions")
    from flash.corpus.tokens import datatrove_engine

    if executor == "local":
        return datatrove_engine.run_on_processes
    if executor == "ray":
        return datatrove_engine.run_on_ray
    return partial(datatrove_engine.submit_to_slurm, partition=slurm_partition, time=slurm_time)


def require_scale(what: str, packages: list[str]) -> None:
    """Raise InputError unless ``packages`` are installed, which ``what`` needs."""
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise InputError(f"{what} needs {' and '.join(missing)}: pip install '.[scale]' in the checkout")
