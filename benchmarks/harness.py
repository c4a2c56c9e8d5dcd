"""What the benchmarks share: the machine's description, runs side by side, medians with their spread."""

import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path


def machine() -> str:
    """Name processor, cores and versions in one line."""
    import torch

    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        models = [line.split(":")[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        name = f"{models[0]} x {len(models)}" if models else name
    versions = ", ".join(f"{package} {version(package)}" for package in ("torch", "transformers"))
    return f"{name}, {torch.get_num_threads()} torch threads, Python {platform.python_version()}, {versions}"


def side_by_side(
    contestants: dict[str, Callable[[], object]],
    *,
    rounds: int,
    warmup: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Time each contestant once a round, in turn, so that a slow spell of the machine hits all of them.

    Args:
        contestants: What to run, by name.
        rounds: Times that count.
        warmup: Rounds before that do not.
        clock: ``time.process_time`` for work in one thread on a machine that others use as well.

    Returns:
        Seconds of each round.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(warmup + rounds):
        for name, run in contestants.items():
            started = clock()
            run()
            if turn >= warmup:
                seconds[name].append(clock() - started)
    return seconds


def table(seconds: dict[str, list[float]], *, tokens: int, baseline: str) -> str:
    """Write a Markdown table: tokens/s (median, least and most) and the ratio to the baseline, round by round."""
    lines = [
        "| contestant | tokens/s (median) | least ... most | ratio to baseline (median) | least ... most |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name, times in seconds.items():
        rates = sorted(tokens / t for t in times)
        ratios = sorted(base / t for base, t in zip(seconds[baseline], times, strict=True))
        lines.append(
            f"| {name} | {statistics.median(rates):,.0f} | {rates[0]:,.0f} ... {rates[-1]:,.0f} "
            f"| {statistics.median(ratios):.2f} | {ratios[0]:.2f} ... {ratios[-1]:.2f} |"
        )
    return "\n".join(lines)
