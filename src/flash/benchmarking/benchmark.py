"""A benchmark as a folder: a CSV for times, one for memory, one for padding; all of it as JSON; a figure."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
import transformers

from flash.benchmarking.families import equal_parameters
from flash.benchmarking.figures import draw_benchmark
from flash.benchmarking.machine import (
    check_memory_limit,
    describe_environment,
    device_name,
    find_device,
    memory_limit,
    speed_variables,
)
from flash.benchmarking.memories import measure_memories
from flash.benchmarking.padding import measure_padding
from flash.benchmarking.records import Conditions, Memory, Padding, Point, Timing
from flash.benchmarking.result_file import ResultFile, flat
from flash.benchmarking.settings import BenchmarkSettings
from flash.benchmarking.timings import measure_timings
from flash.errors import InputError

P = TypeVar("P", bound=Point)
NUMBERS_FILE, FIGURE_FILE = "bench.json", "bench.png"


@dataclass(frozen=True)
class Results:
    """All rows of a folder."""

    timings: list[Timing]
    memories: list[Memory]
    paddings: list[Padding]

    @property
    def points(self) -> list[Point]:
        """Rows of all kinds."""
        return [*self.timings, *self.memories, *self.paddings]


def run_benchmark(
    settings: BenchmarkSettings,
    folder: Path,
    *,
    memory: bool = False,
    lengths_from: str | None = None,
    threads: int | None = None,
    memory_limit_gib: float | None = None,
) -> Iterator[str]:
    """Measure what the folder does not hold yet, and say what is next; at the end write numbers and figure.

    Args:
        memory: Measure peak memory in place of times.
        lengths_from: Measure rows of unequal length, padded and packed, in place of times: a distribution's name or a
            file, see ``padding.draw_lengths``.
        threads: Of PyTorch, from now on; None leaves them.
        memory_limit_gib: See ``machine.memory_limit``.

    Raises:
        InputError: The machine has no such device or cannot run a contestant on it, or the folder's rows were measured
            under other conditions.
    """
    if memory and lengths_from is not None:
        raise InputError("--memory and --lengths-from are two measurements; ask for one at a time")
    device = find_device(settings.device)
    check_memory_limit(memory_limit_gib, device)
    for contestant in settings.compared:
        contestant.check_backend(device, settings.widths)
    if threads is not None:
        cores = os.cpu_count() or 1
        if not 1 <= threads <= cores:
            raise InputError(f"--threads must be at least 1 and at most {cores}, the cores here, got {threads}")
        torch.set_num_threads(threads)
    conditions = Conditions(
        size=settings.size,
        batch_tokens=settings.batch_tokens,
        rounds=settings.rounds,
        baseline=settings.compared[0].name,
        device=device_name(device),
        threads=torch.get_num_threads(),
        torch=torch.__version__,
        transformers=transformers.__version__,
        variables=speed_variables(),
    )
    folder.mkdir(parents=True, exist_ok=True)
    timings, memories, paddings = result_files(folder)
    if memory:
        yield from measure_memories(settings, conditions, memories, memory_limit_gib=memory_limit_gib)
    else:
        with memory_limit(memory_limit_gib, device):
            if lengths_from is None:
                yield from measure_timings(settings, conditions, timings)
            else:
                yield from measure_padding(settings, conditions, paddings, distribution=lengths_from)
    results = read_results(folder)
    numbers = {
        "environment": describe_environment(device),
        "settings": asdict(settings),
        "parameters": parameter_counts(settings),
        **{name: [flat(row) for row in rows] for name, rows in vars(results).items()},
    }
    (folder / NUMBERS_FILE).write_text(json.dumps(numbers, indent=2) + "\n", encoding="utf-8")
    if results.timings:
        draw_benchmark(results.timings, results.memories, folder / FIGURE_FILE)


def result_files(folder: Path) -> tuple[ResultFile[Timing], ResultFile[Memory], ResultFile[Padding]]:
    """Name the CSVs of a folder."""
    return (
        ResultFile(folder / "times.csv", Timing),
        ResultFile(folder / "memory.csv", Memory),
        ResultFile(folder / "padding.csv", Padding),
    )


def read_results(folder: Path) -> Results:
    """Read the CSVs of a folder; what was measured again counts once, as it was last."""
    timings, memories, paddings = result_files(folder)
    return Results(_latest(timings.read()), _latest(memories.read()), _latest(paddings.read()))


def parameter_counts(settings: BenchmarkSettings) -> dict[str, dict[str, Any]]:
    """Count the parameters of each family that takes part, and its difference from FLASH-Quad."""
    counts = {}
    for family in dict.fromkeys(one.family for one in settings.compared):
        own, target = equal_parameters(family, settings.widths)
        counts[family] = {"parameters": own, "flash_quad": target, "difference": own / target - 1}
    return counts


def _latest(rows: list[P]) -> list[P]:
    return list({row.key: row for row in rows}.values())
