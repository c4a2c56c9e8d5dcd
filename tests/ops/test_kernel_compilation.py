"""Every tiling of the kernels compiles for the GPUs that it is for, and takes what it says; no GPU is needed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

triton = pytest.importorskip("triton", reason="the kernels need triton")
# the compiler of Triton 3.6 spills more: in half precision up to 32 bytes a thread for Hopper, 240 for Ampere
EARLIER_COMPILER = tuple(map(int, triton.__version__.split(".")[:2])) < (3, 7)
MOST_STACK_BYTES = {"90": 32, "80": 256} if EARLIER_COMPILER else {"90": 0, "80": 128}


def resources(*arguments):
    program = Path(__file__).with_name("kernel_compilation.py")
    environment = os.environ | {"TRITON_INTERPRET": "0"}
    done = subprocess.run(
        [sys.executable, program, *arguments], env=environment, capture_output=True, text=True, check=True
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert lines
    return lines


def assert_within_promise(lines, *, most_stack_bytes=MOST_STACK_BYTES["90"]):
    for line in lines:
        assert line["shared_kib"] <= line["promised_kib"], line
        # exact float32 products run elsewhere, and may spill a few registers there
        assert line["tensor_cores"] == (line["itemsize"] == 2 and line["kernel"] != "row_dots_kernel"), line
        assert line["stack_bytes"] <= (most_stack_bytes if line["itemsize"] == 2 else 64), line


def test_the_smallest_tilings_compile_for_hopper_within_the_memory_they_promise():
    lines = resources("90", "last")
    assert_within_promise(lines)
    assert max(line["shared_kib"] for line in lines) <= 99  # what every device from 8.0 on has


def test_batches_of_other_lengths_compile_no_kernel_anew():
    lines = resources("90", "variants")
    assert all(line["variants"] == 1 for line in lines), lines


@pytest.mark.slow
@pytest.mark.parametrize(("capability", "available_kib"), [("80", 99), ("90", 227)])
def test_the_widest_keys_fit_into_the_memory_of_a_device(capability, available_kib):
    assert max(line["shared_kib"] for line in resources(capability, "last", "widest")) <= available_kib


@pytest.mark.slow
def test_causal_kernels_of_widths_that_no_tile_divides_take_no_more_memory():
    assert_within_promise(resources("90", "last", "causal"))


@pytest.mark.slow
def test_all_tilings_compile_for_hopper_without_spilling_in_half_precision():
    assert_within_promise(resources("90"))


@pytest.mark.slow
def test_all_tilings_compile_for_ampere_and_spill_at_most_32_registers():
    assert_within_promise(resources("80"), most_stack_bytes=MOST_STACK_BYTES["80"])
