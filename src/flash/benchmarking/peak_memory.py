"""Peak memory of a second step, in a process of its own: ``python -m flash.benchmarking.peak_memory POINT``.

On a GPU it is what PyTorch's allocator has handed out at most. On a CPU it is the resident memory of the process, read
from Linux; blocks of 64 KiB and more are mapped one by one there and given back when they are freed, so that resident
is what is in use. By then the optimizer has its state, and the gradients of the first step are gone.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from flash.benchmarking.contestants import parse_contestant
from flash.benchmarking.machine import memory_limit, synchronize
from flash.benchmarking.rounds import is_out_of_memory, release_memory
from flash.benchmarking.sizes import SIZES
from flash.benchmarking.steps import Mode, Shape, make_step, random_batch
from flash.errors import InputError

_STATUS = Path("/proc/self/status")
_RESET_PEAK = Path("/proc/self/clear_refs")
# fixed: by itself the C library raises it with what is freed, and keeps more and more
_MAPPED_FROM_BYTES = str(1 << 16)
_KILLED = -9


@dataclass(frozen=True)
class PeakRequest:
    """The step that is measured, as ``steps.make_step`` takes it."""

    contestant: str
    size: str
    mode: Mode
    rows: int
    length: int
    device: str
    threads: int
    memory_limit_gib: float | None = None


@dataclass(frozen=True)
class Peak:
    """What a process found; see ``records.Memory``."""

    status: str
    note: str = ""
    before_bytes: int = 0
    peak_bytes: int = 0


def check_memory_can_be_measured(device: torch.device) -> None:
    """Raise InputError where this system does not tell the peak of a process."""
    if device.type == "cpu" and not (_STATUS.exists() and _RESET_PEAK.exists()):
        raise InputError("--memory on a CPU reads /proc/self/status of Linux, which is not there; measure on Linux")


def measure_peak(request: PeakRequest, *, budget_seconds: float) -> Peak:
    """Measure in a fresh process, which may run out of memory, be killed for it, or take too long."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    environment |= {"MALLOC_MMAP_THRESHOLD_": _MAPPED_FROM_BYTES, "MALLOC_TRIM_THRESHOLD_": "0"}
    command = [sys.executable, "-m", "flash.benchmarking.peak_memory", json.dumps(asdict(request))]
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=budget_seconds, check=False
        )
    except subprocess.TimeoutExpired:
        return Peak("too slow", f"more than {budget_seconds:,.0f} s, the budget")
    if done.returncode == _KILLED:
        return Peak("oom", "killed by the system")
    if done.returncode:
        return Peak("failed", (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1][:200])
    return Peak(**json.loads(done.stdout.splitlines()[-1]))


def peak_of_step(request: PeakRequest) -> Peak:
    """Do two steps in this process; return the memory before the second and at its peak."""
    torch.set_num_threads(request.threads)
    device = torch.device(request.device)
    shape = Shape(request.rows, request.length)
    contestant = parse_contestant(request.contestant)
    try:
        step = make_step(
            contestant,
            SIZES[request.size],
            request.mode,
            random_batch(shape, device),
            length=shape.length,
            device=device,
        )
        step()  # the optimizer makes its state, kernels are tuned
        release_memory()
        before = _start(device)
        step()
        synchronize(device)
        return Peak("ok", before_bytes=before, peak_bytes=_peak(device))
    except Exception as error:
        if not is_out_of_memory(error):
            raise
    return Peak("oom")


def _start(device: torch.device) -> int:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device)
    _RESET_PEAK.write_text("5")  # the peak becomes what is held now, see proc_pid_clear_refs(5)
    return _resident("VmRSS")


def _peak(device: torch.device) -> int:
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else _resident("VmHWM")


def _resident(name: str) -> int:
    (line,) = (line for line in _STATUS.read_text().splitlines() if line.startswith(name + ":"))
    return int(line.split()[1]) * 1024


def main() -> None:
    """Measure what the only argument asks for, and print the answer as JSON."""
    request = PeakRequest(**json.loads(sys.argv[1]))
    with memory_limit(request.memory_limit_gib, torch.device(request.device)):
        print(json.dumps(asdict(peak_of_step(request))))


if __name__ == "__main__":
    main()
