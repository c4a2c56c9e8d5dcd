"""Tile shapes of the kernels, the choice among them, and their launch. What they rest on: docs/kernels.md."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import triton
from triton.runtime import JITFunction

from flash.ops.quadratic_attention.kernels_backward import (
    key_gradient_kernel,
    query_gradient_kernel,
    row_dots_kernel,
    score_gradients_kernel,
    value_gradient_kernel,
)
from flash.ops.quadratic_attention.kernels_forward import attend_kernel, row_sums_kernel, weights_kernel


@dataclass(frozen=True)
class Tiling:
    """Tile shapes of one kernel.

    Args:
        blocks: Values of the kernel's ``BLOCK_*`` and ``SKIP``.
        shared_kib: Shared memory that it takes at most, for s <= 128 and compute capability 8.0 to 9.0.
    """

    blocks: dict[str, int]
    num_warps: int
    num_stages: int
    shared_kib: int


def _rows_columns(m: int, n: int, num_warps: int, num_stages: int, shared_kib: int) -> Tiling:
    return Tiling({"BLOCK_M": m, "BLOCK_N": n}, num_warps, num_stages, shared_kib)


def _with_width(m: int, n: int, e: int, num_warps: int, num_stages: int, skip: bool, shared_kib: int) -> Tiling:
    return Tiling({"BLOCK_M": m, "BLOCK_N": n, "BLOCK_E": e, "SKIP": skip}, num_warps, num_stages, shared_kib)


# With exact float32 products, which run outside the tensor cores, tiles are small.
_FLOAT32_WITH_WIDTH = [_with_width(32, 32, 64, 4, 2, False, 49), _with_width(32, 32, 64, 4, 2, True, 44)]
_ROW_DOTS = [Tiling({"BLOCK_M": 16, "BLOCK_E": 256}, 4, 1, 1)]
# Best guess first; the last of a list needs the least shared memory. 2 and 4: bytes of a number.
TILINGS: dict[Any, dict[int, list[Tiling]]] = {
    attend_kernel: {
        2: [
            _with_width(128, 64, 256, 8, 2, False, 160),
            _with_width(128, 32, 256, 8, 3, False, 136),
            _with_width(64, 64, 256, 8, 3, False, 193),
            _with_width(64, 64, 256, 8, 3, True, 96),
            _with_width(64, 64, 128, 4, 3, False, 145),
            _with_width(64, 64, 128, 4, 3, True, 80),
            _with_width(64, 32, 128, 4, 2, False, 56),
        ],
        4: _FLOAT32_WITH_WIDTH,
    },
    value_gradient_kernel: {
        2: [
            _with_width(32, 128, 256, 8, 3, False, 137),
            _with_width(32, 64, 256, 8, 3, False, 105),
            _with_width(64, 64, 256, 8, 3, False, 193),
            _with_width(64, 64, 256, 8, 3, True, 96),
            _with_width(64, 64, 128, 4, 3, False, 145),
            _with_width(64, 64, 128, 8, 3, True, 80),
            _with_width(32, 64, 128, 4, 2, False, 57),
        ],
        4: _FLOAT32_WITH_WIDTH,
    },
    # BLOCK is an argument: the launch allots memory by it
    score_gradients_kernel: {
        2: [
            Tiling({"BLOCK_E": 64}, 8, 4, 128),
            Tiling({"BLOCK_E": 64}, 8, 3, 96),
            Tiling({"BLOCK_E": 64}, 8, 2, 64),
        ],
        4: [Tiling({"BLOCK_E": 32}, 8, 2, 40)],
    },
    row_sums_kernel: {2: [_rows_columns(64, 64, 4, 2, 64)], 4: [_rows_columns(32, 32, 4, 2, 40)]},
    weights_kernel: {2: [_rows_columns(128, 64, 8, 1, 48)], 4: [_rows_columns(32, 32, 8, 1, 32)]},
    query_gradient_kernel: {2: [_rows_columns(128, 64, 8, 2, 48)], 4: [_rows_columns(32, 32, 4, 2, 40)]},
    key_gradient_kernel: {2: [_rows_columns(64, 128, 8, 2, 64)], 4: [_rows_columns(32, 32, 4, 2, 40)]},
    row_dots_kernel: {2: _ROW_DOTS, 4: _ROW_DOTS},
}

_tuned: dict[tuple[Any, ...], Any] = {}


def runs_in_interpreter() -> bool:
    """Whether Triton was imported under ``TRITON_INTERPRET=1``."""
    return not isinstance(attend_kernel, JITFunction)


def fitting_tilings(kernel: Any, dtype: torch.dtype, device: torch.device, s: int) -> list[Tiling]:
    """Return the tilings of a kernel that the device has the shared memory for; one where there is no choice."""
    tilings = TILINGS[kernel][dtype.itemsize]
    if device.type != "cuda":
        return tilings[-1:]
    available = triton.runtime.driver.active.utils.get_device_properties(device.index)["max_shared_mem"]
    fitting = [tiling for tiling in tilings if tiling.shared_kib * 1024 <= available]
    # wider keys take more than was measured
    return fitting if fitting and s <= 128 else tilings[-1:]


def launch(
    kernel: Any,
    programs: Callable[[dict[str, Any]], int],
    arguments: dict[str, Any],
    *,
    like: torch.Tensor,
    tuning_key: tuple[Any, ...] | None,
) -> None:
    """Run a kernel in its best tiling, found by trying all once for each ``tuning_key``.

    Under ``torch.use_deterministic_algorithms`` it is always the first: trials may end differently each time, and
    another tiling sums in another order.

    Args:
        programs: From the arguments, ``BLOCK_*`` among them, to the number of programs.
        like: Tells dtype and device.
        tuning_key: None to take the first tiling, for a kernel that cannot run twice.
    """
    tilings = fitting_tilings(kernel, like.dtype, like.device, arguments.get("S", 1))

    def grid(blocks: dict[str, Any]) -> tuple[int]:
        return (programs(blocks),)

    tune = tuning_key is not None and len(tilings) > 1 and not torch.are_deterministic_algorithms_enabled()
    with torch.cuda.device(like.device) if like.device.type == "cuda" else nullcontext():
        if tune:
            _tuned_kernel(kernel, tilings, like, tuning_key)[grid](**arguments)
        else:
            tiling = tilings[0]
            kernel[grid](**arguments, **tiling.blocks, num_warps=tiling.num_warps, num_stages=tiling.num_stages)


def _tuned_kernel(kernel: Any, tilings: list[Tiling], like: torch.Tensor, tuning_key: tuple[Any, ...] | None) -> Any:
    key = (kernel, like.dtype, like.device, tuning_key)
    if key not in _tuned:
        choices = [
            triton.Config(dict(tiling.blocks), num_warps=tiling.num_warps, num_stages=tiling.num_stages)
            for tiling in tilings
        ]
        _tuned[key] = triton.autotune(choices, key=[])(kernel)
    return _tuned[key]
