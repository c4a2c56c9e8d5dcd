"""Inputs -> the list of tasks: which part of which file each reads. The number of workers has no say in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from flash.corpus.documents import ReadingSettings
from flash.corpus.input_files import InputFile
from flash.corpus.tokens.splits import split_places

# A task takes seconds to a minute, and what it holds fits in memory; there are enough of them for any machine.
_LEAST_RANGE_BYTES = 4 << 20
_MOST_RANGE_BYTES = 64 << 20
_WANTED_TASKS = 256


class Segment(NamedTuple):
    """A part of a file: ``begin`` to ``end`` in bytes, of Parquet in row groups; ``end`` None for all the rest."""

    file: int
    begin: int
    end: int | None


def range_bytes_for(total_bytes: int) -> int:
    """Return how much of the input a task is to read: a power of two, 4 to 64 MiB, so that there are about 256."""
    wanted = max(1, total_bytes // _WANTED_TASKS)
    return min(max(1 << (wanted.bit_length() - 1), _LEAST_RANGE_BYTES), _MOST_RANGE_BYTES)


def plan_tasks(files: Sequence[InputFile], reading: ReadingSettings, range_bytes: int) -> list[list[Segment]]:
    """Share the files out in their order: a large one among several tasks, several small ones to one task.

    Args:
        files: What to read.
        reading: How it is read.
        range_bytes: Size from which on a task gets no more files.
    """
    tasks: list[list[Segment]] = []
    task: list[Segment] = []
    task_bytes = 0
    for index, file in enumerate(files):
        places = split_places(file, reading, range_bytes)
        if places:  # each part is a task's whole work
            tasks += [task] if task else []
            begins, ends = [0, *places], [*places, None]
            tasks += [[Segment(index, begin, end)] for begin, end in zip(begins, ends, strict=True)]
            task, task_bytes = [], 0
            continue
        task.append(Segment(index, 0, None))
        task_bytes += file.size_bytes()
        if task_bytes >= range_bytes:
            tasks.append(task)
            task, task_bytes = [], 0
    return [*tasks, task] if task else tasks
