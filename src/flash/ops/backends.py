"""Which implementation of the attention can run where, and why another cannot."""

import os
import shutil
import sys
import sysconfig
from importlib.util import find_spec
from pathlib import Path

import torch

from flash.errors import InputError

BACKENDS = ("auto", "reference", "blocked", "fused", "materialized")
KERNELS = ("fused", "materialized")  # those that Triton compiles
# the first with bfloat16 matrix units and the asynchronous copies that the kernels are made for
OLDEST_CAPABILITY = (8, 0)
KERNEL_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
WIDEST_KEY = 256


def check_backend_name(name: str, *, flag: str) -> None:
    """Refuse a name that is none of ``BACKENDS``.

    Args:
        flag: What the user wrote, to begin the message with.
    """
    if name not in BACKENDS:
        raise InputError(f"{flag}: there are {', '.join(BACKENDS)}")


def choose_backend(
    wanted: str, *, device: torch.device, dtype: torch.dtype, key_dim: int, only_reference: str | None = None
) -> str:
    """Return one of ``BACKENDS`` other than ``auto``.

    ``auto`` takes ``fused`` where it can run, else ``blocked``; the reference where only that computes what is asked.

    Args:
        wanted: One of ``BACKENDS``.
        device: Where the tensors are.
        dtype: Of the tensors.
        key_dim: Query and key width.
        only_reference: What is asked that no other backend computes; None where there is nothing.

    Raises:
        InputError: What is wanted cannot run; the message says why.
    """
    if wanted == "reference":
        return wanted
    if only_reference is not None:
        if wanted == "auto":
            return "reference"
        raise InputError(f"attention_backend={wanted!r} does not compute {only_reference}; 'auto' and 'reference' do")
    if wanted == "blocked":
        return wanted
    obstacle = kernels_obstacle(device, dtype, key_dim)
    if wanted == "auto":
        # the interpreter of Triton is for tests
        return "fused" if device.type == "cuda" and obstacle is None else "blocked"
    if obstacle is not None:
        raise InputError(f"attention_backend={wanted!r} cannot run: {obstacle}; 'auto' and 'blocked' do without")
    return wanted


def kernels_obstacle(
    device: torch.device, dtype: torch.dtype, key_dim: int, *, interpreted: bool | None = None
) -> str | None:
    """Say why the Triton kernels cannot run; None where they can.

    Args:
        interpreted: Whether they run in Triton's interpreter; None asks the environment, as Triton does when it is
            imported.
    """
    if find_spec("triton") is None:
        return "triton is not installed"
    if dtype not in KERNEL_DTYPES:
        return f"the kernels compute float32, bfloat16 and float16, got {dtype}"
    if not 1 <= key_dim <= WIDEST_KEY:
        return f"the kernels take a query_key_dim of 1 to {WIDEST_KEY}, got {key_dim}"
    if os.environ.get("TRITON_INTERPRET") == "1" if interpreted is None else interpreted:
        # its products of other dtypes are wrong
        return None if dtype == torch.float32 else f"Triton's interpreter is right in float32 only, got {dtype}"
    if device.type != "cuda":
        return (
            f"the kernels need a CUDA device, the tensors are on {device.type!r} "
            "(TRITON_INTERPRET=1, set before Python starts, tries them out slowly)"
        )
    capability = torch.cuda.get_device_capability(device)
    if capability < OLDEST_CAPABILITY and torch.version.hip is None:
        found, needed = (".".join(map(str, pair)) for pair in (capability, OLDEST_CAPABILITY))
        return f"the kernels need compute capability {needed}, {torch.cuda.get_device_name(device)} has {found}"
    return LAUNCHER_OBSTACLE


def launcher_obstacle() -> str | None:
    """Say what Triton lacks to build the C code that starts its kernels; None where it has all."""
    if sys.platform != "linux":  # elsewhere it brings its compiler
        return None
    if "CC" not in os.environ and not any(map(shutil.which, ("gcc", "clang"))):
        return "Triton needs a C compiler, gcc or clang (or the path of one in CC), and finds none"
    default = sysconfig.get_default_scheme()
    # Debian has another place for what is added to its Python; Triton does not look there
    headers = Path(sysconfig.get_paths("posix_prefix" if default == "posix_local" else default)["include"])
    if (headers / "Python.h").exists() or {"CPATH", "C_INCLUDE_PATH"} & os.environ.keys():
        return None
    return f"Triton needs the C headers of Python, and there is no {headers / 'Python.h'} (install python3-dev)"


# asked once, and not while torch.compile looks on: it cannot follow a search for files
LAUNCHER_OBSTACLE = launcher_obstacle()
