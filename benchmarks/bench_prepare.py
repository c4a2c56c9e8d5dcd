"""Speed and memory of ``flashquad prepare`` by number of workers, as a Markdown table.

    python benchmarks/bench_prepare.py --tokenizer vocab.txt corpus/*.jsonl.zst

Without input it takes the corpus of the package many times over, and a tokenizer trained on it.

Each run is a process of its own, and the numbers of workers take turns, so that a slow spell of the machine hits all
of them. Memory is sampled: RSS of each process, and PSS of all together, which counts a page they share only once.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import psutil

from flash.corpus.embedded import embedded_corpus
from flash.corpus.tokenizer_training import train_tokenizer

_SAMPLE_SECONDS = 0.5
_DEFAULT_CHARS = 20_000_000
_MIB = 1 << 20


@dataclass
class Run:
    """What one run took."""

    characters: int
    seconds: float
    parent_mib: float = 0
    child_mib: float = 0
    all_mib: float = 0
    cpu_seconds: dict[int, float] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Million characters of cleaned text a second, start of the program included."""
        return self.characters / self.seconds / 1e6

    @property
    def cpu_rate(self) -> float:
        """Million characters a second of processor time, of all processes: the same on a busy machine."""
        return self.characters / sum(self.cpu_seconds.values()) / 1e6


def run_prepare(inputs: list[str], tokenizer: str, max_length: int, workers: int) -> Run:
    """Run the command once, sampling memory and processor time of all its processes."""
    with tempfile.TemporaryDirectory(prefix="bench_prepare_") as folder:
        output = Path(folder) / "dataset"
        command = [str(Path(sys.executable).with_name("flashquad")), "prepare", *inputs, "--output", str(output)]
        command += ["--tokenizer", tokenizer, "--max-length", str(max_length), "--workers", str(workers)]
        run = Run(characters=0, seconds=0)
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None:
            sample(psutil.Process(process.pid), run)
            time.sleep(_SAMPLE_SECONDS)
        run.seconds = time.perf_counter() - started
        if process.returncode:
            raise SystemExit(f"{' '.join(command)} failed with exit code {process.returncode}")
        run.characters = json.loads((output / "manifest.json").read_text(encoding="utf-8"))["counts"]["characters"]
        return run


def sample(parent: psutil.Process, run: Run) -> None:
    """Raise the peaks in ``run`` to what the processes hold now, and note the time they have used."""
    try:
        for process in (parent, *parent.children(recursive=True)):
            times = process.cpu_times()
            run.cpu_seconds[process.pid] = times.user + times.system
        children = [child.memory_full_info() for child in parent.children(recursive=True)]
        own = parent.memory_full_info()
    except psutil.NoSuchProcess:  # one ended between being listed and being asked
        return
    run.parent_mib = max(run.parent_mib, own.rss / _MIB)
    run.child_mib = max(run.child_mib, max((child.rss for child in children), default=0) / _MIB)
    run.all_mib = max(run.all_mib, (own.pss + sum(child.pss for child in children)) / _MIB)


def machine() -> str:
    """Name processor, cores and versions."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":")[1].strip() for line in lines if "model name" in line] or [platform.machine()]
    packages = ("flashquad", "rjieba", "tokenizers", "pyarrow")
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    return f"{names[0]}, {os.cpu_count()} cores, Python {platform.python_version()}, {versions}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("inputs", nargs="*", help="what `flashquad prepare` takes")
    parser.add_argument("--tokenizer", help="what `flashquad prepare` takes; needed with inputs")
    parser.add_argument("--max-length", type=int, default=512)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    if arguments.inputs and not arguments.tokenizer:
        parser.error("--tokenizer is needed with inputs")
    with tempfile.TemporaryDirectory(prefix="bench_prepare_") as folder:
        if not arguments.inputs:
            arguments.inputs, arguments.tokenizer = embedded_input(Path(folder))
        measure(arguments)


def embedded_input(folder: Path) -> tuple[list[str], str]:
    """Write the package's corpus many times over into ``folder``, and train a tokenizer on it."""
    text = "\n\n".join(path.read_text(encoding="utf-8") for path in sorted(embedded_corpus().glob("*.txt")))
    corpus = folder / "corpus.txt"
    with corpus.open("w", encoding="utf-8") as file:
        for _ in range(_DEFAULT_CHARS // len(text)):
            file.write(f"{text}\n\n")
    train_tokenizer([embedded_corpus()], folder / "tokenizer")
    return [str(corpus)], str(folder / "tokenizer")


def measure(arguments: argparse.Namespace) -> None:
    """Run, and print the table."""
    runs: dict[int, list[Run]] = {workers: [] for workers in arguments.workers}
    for _ in range(arguments.repeats):
        for workers, done in runs.items():
            done.append(run_prepare(arguments.inputs, arguments.tokenizer, arguments.max_length, workers))

    characters = runs[arguments.workers[0]][0].characters
    print(
        f"{machine()}; {characters:,} characters, blocks of {arguments.max_length} tokens, {arguments.repeats} runs\n"
    )
    print(
        "| workers | seconds (median) | M characters/s (median) | least ... most "
        "| M characters/CPU s | peak parent | child | all |"
    )
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for workers, done in runs.items():
        rates = sorted(run.rate for run in done)
        memory = [max(getattr(run, name) for run in done) for name in ("parent_mib", "child_mib", "all_mib")]
        print(
            f"| {workers} | {statistics.median(run.seconds for run in done):.1f} | {statistics.median(rates):.2f} "
            f"| {rates[0]:.2f} ... {rates[-1]:.2f} | {statistics.median(run.cpu_rate for run in done):.2f} | "
            + " | ".join(f"{mib:,.0f} MiB" for mib in memory)
            + " |"
        )


if __name__ == "__main__":
    main()
