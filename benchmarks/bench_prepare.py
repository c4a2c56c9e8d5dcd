"""Speed and memory of ``flashquad prepare``, as Markdown tables.

    python benchmarks/bench_prepare.py --tokenizer vocab.txt --gigabytes 5 corpus/*.jsonl.zst

Without input it takes the corpus of the package, and a tokenizer trained on it. Three questions:

1. How many characters a second of processor time, against the earlier algorithm (``earlier_references.py``)? Both run
   in this process, in turn, on the same lines; starting the program is left out.
2. What do more workers bring, and what does each hold? The command runs on a JSON lines file of ``--gigabytes`` made
   from the input, each run a process of its own, the numbers of workers in turn, so that a slow spell hits all of them.
   Memory is sampled: RSS, which counts what a worker shares with others, and USS, which does not.
3. How long would CLUECorpusSmall take on 16 cores? Computed from 1 and 2, every term shown.

On a busy machine only processor time means anything: the seconds of the clock are those of all its users.
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
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import psutil

from flash.corpus.embedded import embedded_corpus
from flash.corpus.tokenizer_loading import load_tokenizer
from flash.corpus.tokenizer_training import train_tokenizer
from flash.corpus.tokens.prepare import prepare_tokens
from flash.corpus.tokens.settings import TokenSettings

from earlier_references import prepare_earlier
from synthetic_corpus import write_synthetic

_SAMPLE_SECONDS = 0.5
_MIB = 1 << 20
_EARLIER_CHARS = 500_000
_COMPARED_BYTES = 20 << 20

_CORPUS_CHARS = 5.0e9  # of CLUECorpusSmall, as its makers count
_CORPUS_CORES = 16
_CORPUS_GB = 14


@dataclass
class Run:
    """What one run of the command took."""

    characters: int = 0
    seconds: float = 0
    worker_rss_mib: float = 0
    worker_uss_mib: float = 0
    parent_rss_mib: float = 0
    parent_cpu_seconds: float = 0
    cpu_seconds: dict[int, float] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Million characters a second by the clock, start of the program included."""
        return self.characters / self.seconds / 1e6

    @property
    def all_cpu_seconds(self) -> float:
        """Processor time of all processes."""
        return self.parent_cpu_seconds + sum(self.cpu_seconds.values())


def compare(lines: Path, tokenizer: str, max_length: int, repeats: int) -> list[tuple[float, float]]:
    """Return, round by round, million characters a second of processor time: the earlier algorithm's and ours."""
    loaded = load_tokenizer(tokenizer)
    rates = []
    for _ in range(repeats):
        started, characters = time.process_time(), 0
        with lines.open(encoding="utf-8") as file:
            taken = []
            while characters < _EARLIER_CHARS:
                taken.append(file.readline())
                characters += len(json.loads(taken[-1])["text"])
        for _row in prepare_earlier(taken, loaded, max_length):
            pass
        earlier = characters / (time.process_time() - started) / 1e6
        with tempfile.TemporaryDirectory(prefix="bench_prepare_") as folder:
            started = time.process_time()
            settings = TokenSettings(max_length=max_length, shuffle_seed=2022)
            manifest = prepare_tokens([lines], Path(folder) / "out", tokenizer, settings, workers=1)
            assert manifest is not None
            rates.append((earlier, manifest["counts"]["characters"] / (time.process_time() - started) / 1e6))
    return rates


def run_prepare(lines: Path, tokenizer: str, max_length: int, workers: int) -> Run:
    """Run the command once, sampling memory and processor time of all its processes; one worker is the parent."""
    with tempfile.TemporaryDirectory(prefix="bench_prepare_", dir=lines.parent) as folder:
        output = Path(folder) / "out"
        command = [sys.executable, "-c", "from flash.cli import main; main()", "prepare", str(lines)]
        command += ["--shuffle", "--output", str(output), "--tokenizer", tokenizer]
        command += ["--max-length", str(max_length), "--workers", str(workers)]
        run = Run()
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None:
            sample(psutil.Process(process.pid), run, parent_works=workers == 1)
            time.sleep(_SAMPLE_SECONDS)
        run.seconds = time.perf_counter() - started
        if process.returncode:
            raise SystemExit(f"{' '.join(command)} failed with exit code {process.returncode}")
        run.characters = json.loads((output / "manifest.json").read_text(encoding="utf-8"))["counts"]["characters"]
        return run


def sample(parent: psutil.Process, run: Run, *, parent_works: bool) -> None:
    """Raise the peaks in ``run`` to what the processes hold now, and note the time they have used."""
    try:
        times = parent.cpu_times()
        run.parent_cpu_seconds = times.user + times.system
        run.parent_rss_mib = max(run.parent_rss_mib, parent.memory_info().rss / _MIB)
        for child in parent.children(recursive=True):
            times = child.cpu_times()
            run.cpu_seconds[child.pid] = times.user + times.system
        for worker in [parent] if parent_works else parent.children(recursive=True):
            memory = worker.memory_full_info()
            run.worker_rss_mib = max(run.worker_rss_mib, memory.rss / _MIB)
            run.worker_uss_mib = max(run.worker_uss_mib, memory.uss / _MIB)
    except (psutil.NoSuchProcess, psutil.ZombieProcess):  # one ended between being listed and being asked
        return


def machine() -> str:
    """Name processor, cores, load and versions."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":")[1].strip() for line in lines if "model name" in line] or [platform.machine()]
    packages = ("flashquad", "rjieba", "tokenizers", "pyarrow")
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    load = f"load {os.getloadavg()[0]:.1f}"
    return f"{names[0]}, {os.cpu_count()} cores, {load}, Python {platform.python_version()}, {versions}"


def spread(values: Sequence[float], form: str = ".2f") -> str:
    """Write the median, and least and most."""
    ordered = sorted(values)
    return f"{statistics.median(ordered):{form}} ({ordered[0]:{form}} ... {ordered[-1]:{form}})"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("inputs", nargs="*", help="what `flashquad prepare` takes")
    parser.add_argument("--tokenizer", help="what `flashquad prepare` takes; needed with inputs")
    parser.add_argument("--max-length", type=int, default=512)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--gigabytes", type=float, default=0.1, help="size of the file for the runs of the command")
    parser.add_argument("--folder", type=Path, help="where to write it; by default where temporary files go")
    arguments = parser.parse_args()
    if arguments.inputs and not arguments.tokenizer:
        parser.error("--tokenizer is needed with inputs")
    with tempfile.TemporaryDirectory(prefix="bench_prepare_", dir=arguments.folder) as folder:
        if not arguments.inputs:
            arguments.inputs, arguments.tokenizer = [str(embedded_corpus())], f"{folder}/tokenizer"
            train_tokenizer([embedded_corpus()], Path(arguments.tokenizer))
        measure(arguments, Path(folder))


def measure(arguments: argparse.Namespace, folder: Path) -> None:
    """Run, and print the tables."""
    few, many = folder / "few.jsonl", folder / "many.jsonl"
    write_synthetic(arguments.inputs, few, _COMPARED_BYTES)
    characters = write_synthetic(arguments.inputs, many, int(arguments.gigabytes * 1e9))
    print(f"{machine()}; blocks of {arguments.max_length} tokens, {arguments.repeats} rounds\n")

    rates = compare(few, arguments.tokenizer, arguments.max_length, arguments.repeats)
    print("| one process, million characters a second of processor time | median (least ... most) |")
    print("| --- | ---: |")
    print(f"| the earlier algorithm, {_EARLIER_CHARS:,} characters | {spread([pair[0] for pair in rates], '.3f')} |")
    print(f"| prepare, {_COMPARED_BYTES >> 20} MiB of JSON lines | {spread([pair[1] for pair in rates])} |")
    print(f"| ratio, round by round | {spread([ours / earlier for earlier, ours in rates], '.1f')} |\n")

    runs: dict[int, list[Run]] = {workers: [] for workers in arguments.workers}
    for _ in range(arguments.repeats):
        for workers, done in runs.items():
            done.append(run_prepare(many, arguments.tokenizer, arguments.max_length, workers))
    print(f"{many.stat().st_size / 1e9:.2f} GB of JSON lines, {characters:,} characters\n")
    print(
        "| workers | seconds by the clock | M characters/s by the clock | processor seconds | of these the parent's "
        "| peak RSS of a worker, MiB | USS, MiB | RSS of the parent, MiB |"
    )
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for workers, done in runs.items():
        peaks = [
            max(getattr(run, f"{name}_mib") for run in done) for name in ("worker_rss", "worker_uss", "parent_rss")
        ]
        print(
            f"| {workers} | {spread([run.seconds for run in done], '.1f')} | {spread([run.rate for run in done])} "
            f"| {spread([run.all_cpu_seconds for run in done], '.1f')} "
            f"| {spread([run.parent_cpu_seconds for run in done], '.1f')} | "
            + " | ".join(f"{peak:,.0f}" for peak in peaks)
            + " |"
        )
    project(runs, rates)


def project(runs: dict[int, list[Run]], rates: list[tuple[float, float]]) -> None:
    """Print what more workers bring, and the time of the whole corpus, with the arithmetic."""
    first, *others = runs
    for workers in others:
        pairs = zip(runs[first], runs[workers], strict=True)
        gains = spread([few.seconds / many.seconds for few, many in pairs])
        print(f"\n{first} -> {workers} workers, by the clock, round by round: {gains} times as fast")
    most = max(runs)
    serial = statistics.median(run.parent_cpu_seconds for run in runs[most])
    rate = min(ours for _, ours in rates)
    minutes = _CORPUS_CHARS / (rate * 1e6) / _CORPUS_CORES / 60
    print(
        f"\n{_CORPUS_GB} GB on {_CORPUS_CORES} cores: {_CORPUS_CHARS / 1e9:.1f} G characters / ({rate:.2f} M "
        f"characters/s * {_CORPUS_CORES}) = {minutes:.1f} min, + what the parent does alone, at most {serial:.0f} s, = "
        f"{minutes + serial / 60:.1f} min. The rate is that of the slowest round."
    )


if __name__ == "__main__":
    main()
