"""Peak memory of contestants, each at each length in a process of its own."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from flash.benchmarking.machine import source_commit
from flash.benchmarking.peak_memory import PeakRequest, check_memory_can_be_measured, measure_peak
from flash.benchmarking.records import Conditions, Memory
from flash.benchmarking.result_file import ResultFile
from flash.benchmarking.settings import BenchmarkSettings
from flash.benchmarking.steps import batch_shape
from flash.benchmarking.timings import missing


def measure_memories(
    settings: BenchmarkSettings,
    conditions: Conditions,
    file: ResultFile[Memory],
    *,
    memory_limit_gib: float | None = None,
) -> Iterator[str]:
    """Measure what the file does not hold yet, and say what is next."""
    check_memory_can_be_measured(torch.device(settings.device))
    done = {row.key for row in file.read_matching(conditions) if row.status != "failed"}
    todo = [(mode, length, one) for mode, length, left in missing(settings, done) for one in left]
    for number, (mode, length, contestant) in enumerate(todo, start=1):
        shape = batch_shape(settings.batch_tokens, length)
        yield f"{number} of {len(todo)}: memory, {mode}, {shape.rows} x {length:,} tokens: {contestant.name}"
        request = PeakRequest(
            contestant.name,
            settings.size,
            mode,
            shape.rows,
            length,
            settings.device,
            conditions.threads,
            memory_limit_gib,
        )
        peak = measure_peak(request, budget_seconds=settings.budget_seconds)
        row = Memory(
            conditions=conditions,
            mode=mode,
            contestant=contestant.name,
            length=length,
            rows=shape.rows,
            status=peak.status,
            note=peak.note,
            commit=source_commit(),
            before_bytes=peak.before_bytes,
            peak_bytes=peak.peak_bytes,
        )
        file.append([row])
