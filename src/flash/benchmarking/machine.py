"""The machine that numbers come from: what it is, how fast it multiplies matrices, how much memory it lends."""

from __future__ import annotations

import math
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil
import torch

from flash.benchmarking.steps import Step
from flash.errors import InputError

GIB = 1 << 30
# width of the square product that the matrix rate is measured with: large enough that a larger one is not faster
PRODUCT_WIDTH = {"cpu": 2048, "cuda": 8192}
# one is too short to be timed on a GPU
PRODUCTS = {"cpu": 1, "cuda": 10}
_SPEED_VARIABLES = re.compile(
    r"MALLOC_\w+|GLIBC_TUNABLES|LD_PRELOAD|THP_MEM_ALLOC_ENABLE|PYTORCH_(CUDA_)?ALLOC_CONF|ONEDNN_DEFAULT_FPMATH_MODE"
)


def find_device(name: str) -> torch.device:
    """Return the device of a name such as ``cpu``, ``cuda`` or ``cuda:1``.

    Raises:
        InputError: This machine has no such device, or nothing here can be measured on it.
    """
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(f"--device {name}: no such device; choose cpu, cuda or cuda:N") from None
    if device.type not in PRODUCT_WIDTH:
        raise InputError(f"--device {name}: cannot be measured; choose cpu, cuda or cuda:N")
    if device.type == "cuda":
        count = torch.cuda.device_count()
        if (device.index or 0) >= count:
            raise InputError(f"--device {name}: PyTorch sees {count} CUDA devices here; choose another, or cpu")
    return device


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def device_name(device: torch.device) -> str:
    """Name the processor or GPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def describe_environment(device: torch.device) -> dict[str, Any]:
    """Collect what a number depends on, besides what was measured: machine, versions, settings."""
    about: dict[str, Any] = {
        "device": device_name(device),
        "device_type": device.type,
        "processor": device_name(torch.device("cpu")),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gib": round(psutil.virtual_memory().total / GIB, 1),
        "system": platform.system(),
        "python": platform.python_version(),
        **{package: _version(package) for package in ("torch", "transformers", "triton", "flashquad")},
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        "variables": speed_variables(),
        "commit": source_commit(),
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        about |= {
            "device_memory_gib": round(properties.total_memory / GIB, 1),
            "capability": f"{properties.major}.{properties.minor}",
            "cuda": torch.version.cuda,
        }
    return about


def speed_variables() -> str:
    """Write the variables of the environment that change what memory or a product costs, as a shell takes them."""
    return " ".join(f"{name}={value}" for name, value in sorted(os.environ.items()) if _SPEED_VARIABLES.fullmatch(name))


def source_commit() -> str:
    """Name the commit of the sources, with ``-dirty`` where they were changed since; "" where no repository has them.

    An installed package may lie within the repository of somebody else's project, which does not track it.
    """
    try:
        _git("ls-files", "--error-unmatch", Path(__file__).name)
        return _git("describe", "--always", "--dirty", "--abbrev=10", "--exclude=*")
    except (FileNotFoundError, subprocess.CalledProcessError):  # no git, or no commit to name
        return ""


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def product_step(dtype: torch.dtype, device: torch.device) -> Step:
    """Make a step of square matrix products; it does `product_flops` operations."""
    width = PRODUCT_WIDTH[device.type]
    left, right = (torch.randn(width, width, device=device, dtype=dtype) for _ in range(2))
    out = torch.empty_like(left)

    def multiply() -> None:
        for _ in range(PRODUCTS[device.type]):
            torch.mm(left, right, out=out)

    return multiply


def product_flops(device: torch.device) -> int:
    """Operations of one `product_step`."""
    return PRODUCTS[device.type] * 2 * PRODUCT_WIDTH[device.type] ** 3


def check_memory_limit(gib: float | None, device: torch.device) -> None:
    """Raise InputError where `memory_limit` would, so that it is said before anything is measured."""
    if gib is None:
        return
    if not 0 < gib < math.inf:
        raise InputError(f"--memory-limit must be above 0 and finite, in GiB, got {gib}")
    if not _can_limit_memory(device):
        raise InputError("--memory-limit is for --device cpu on Linux; leave it out")


@contextmanager
def memory_limit(gib: float | None, device: torch.device) -> Iterator[None]:
    """Refuse this process more memory than so much, so that a step too large fails, and the system kills nobody.

    Args:
        gib: In GiB; None for nine tenths of what is available now.
        device: A GPU has a memory of its own, whose end is an error anyway: nothing is limited. Nor is it on a system
            that knows no such limit.
    """
    check_memory_limit(gib, device)
    if not _can_limit_memory(device):
        yield
        return
    import resource  # Unix only

    held = psutil.Process().memory_info().rss
    limit = int(gib * GIB) if gib is not None else held + int(0.9 * psutil.virtual_memory().available)
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _can_limit_memory(device: torch.device) -> bool:
    return device.type == "cpu" and sys.platform == "linux"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
