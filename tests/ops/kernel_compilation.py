"""Compile the kernels for GPUs that need not be there; print a line of JSON for each: what it takes of the device.

    python tests/ops/kernel_compilation.py CAPABILITY [last] [widest] [causal] [variants]

CAPABILITY is 80 or 90; with ``last`` only the tiling of each kernel that needs least; with ``widest`` for the widest
keys that the kernels take, which get no other tiling than the last; with ``causal`` for a causal model whose widths no
tile divides; with ``variants`` only count what batches of other lengths would have compiled. A program of its own,
because a process that imported Triton for its interpreter cannot compile.
"""

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, make_backend
from triton.runtime.jit import create_function_from_signature

from flash.ops.backends import WIDEST_KEY
from flash.ops.quadratic_attention.kernels_backward import score_gradients_kernel
from flash.ops.quadratic_attention.kernels_tiles import LENGTHS
from flash.ops.quadratic_attention.kernels_tuning import TILINGS, Tiling

CUOBJDUMP = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
SIZES = {"S": 128, "E": 1536, "BLOCK_S": 128, "CAUSAL": False, "PRECISION": "ieee"}
TYPES = {
    "cumulative_lengths": "*i32",
    "key_mask": "*i1",
    **dict.fromkeys(["diagonals", "scale", "inverse_divisor", "delta", "sums", "dots"], "*fp32"),
    **dict.fromkeys(["grad_diagonals", "grad_key"], "*fp32"),
    **dict.fromkeys(["reach", "longest", "tokens", "panel", "panel_rows"], "i32"),
}
# arguments that are None, and the tile size that the launch decides on, in each use of the kernel that serves two
USES = {
    (score_gradients_kernel, 2): {
        "fused": ({"grad_weights", "weights"}, {"BLOCK": 128}),
        "materialized": (set(), {"BLOCK": 64}),
    },
    (score_gradients_kernel, 4): {"fused": ({"grad_weights", "weights"}, {"BLOCK": 32})},
}
ONE_USE: dict[str, tuple[set[str], dict[str, int]]] = {"": (set(), {})}
OPTIONS = {"key_mask", "delta"}
POINTERS = {2: "*bf16", 4: "*fp32"}


def compile_for(
    capability: int, kernel: Any, tiling: Tiling, itemsize: int, absent: set[str], more_sizes: dict[str, int]
) -> dict[str, Any]:
    """Compile one kernel for the ``SIZES`` in bfloat16 or float32; every pointer and stride a multiple of 16."""
    sizes = SIZES | tiling.blocks | more_sizes
    signature, constants, attributes = {}, {}, {}
    for place, name in enumerate(kernel.arg_names):
        if name in absent or name in sizes:
            signature[name], constants[name] = "constexpr", None if name in absent else sizes[name]
            continue
        signature[name] = "i32" if name.endswith("_stride") else TYPES.get(name, POINTERS[itemsize])
        if signature[name] != "i32" or name.endswith("_stride"):
            attributes[(place,)] = [["tt.divisibility", 16]]
    options = {"num_warps": tiling.num_warps, "num_stages": tiling.num_stages}
    source = ASTSource(kernel, signature, constants, attributes)
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        listing = subprocess.run(
            [CUOBJDUMP, "-res-usage", file.name], capture_output=True, text=True, check=True
        ).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+)", listing)
    assert found is not None, listing
    return {
        "kernel": kernel.fn.__name__,
        "itemsize": itemsize,
        **tiling.blocks,
        "num_warps": tiling.num_warps,
        "num_stages": tiling.num_stages,
        "promised_kib": tiling.shared_kib,
        "shared_kib": -(-compiled.metadata.shared // 1024),
        "registers": int(found[1]),
        "stack_bytes": int(found[2]),  # spilled registers
        "tensor_cores": bool(re.search(r"wgmma\.mma_async|mma\.sync", compiled.asm["ptx"])),
    }


def compile_all(capability: int, *, last: bool) -> Iterator[dict[str, Any]]:
    """Compile all tilings, with and without a key mask and row sums; or the last of each list, with them."""
    for kernel, lists in TILINGS.items():
        for itemsize, tilings in lists.items():
            for tiling in tilings[-1:] if last else tilings:
                for use, (absent, sizes) in USES.get((kernel, itemsize), ONE_USE).items():
                    for options in (OPTIONS,) if last else (set(), OPTIONS):
                        missing = absent | OPTIONS - options
                        resources = compile_for(capability, kernel, tiling, itemsize, missing, sizes)
                        yield {"use": use, "options": bool(options)} | resources


def count_variants(capability: int) -> Iterator[dict[str, Any]]:
    """Count into how many variants Triton compiles one tiling of each kernel for lengths that differ."""
    backend = make_backend(GPUTarget("cuda", capability, 32))
    for kernel in TILINGS:
        bind = create_function_from_signature(kernel.signature, kernel.params, backend)
        variants = {
            str(bind(**{name: length if name in LENGTHS else None for name in kernel.arg_names})[1])
            for length in (1, 2, 16, 33)
        }
        yield {"kernel": kernel.fn.__name__, "variants": len(variants)}


if __name__ == "__main__":
    if "widest" in sys.argv:
        SIZES |= {"S": WIDEST_KEY, "BLOCK_S": WIDEST_KEY}
    if "causal" in sys.argv:
        SIZES |= {"CAUSAL": True, "S": 100, "E": 1000}
    capability = int(sys.argv[1])
    lines = count_variants(capability) if "variants" in sys.argv else compile_all(capability, last="last" in sys.argv)
    for line in lines:
        print(json.dumps(line), flush=True)
