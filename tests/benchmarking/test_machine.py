import os
import subprocess

import pytest
import torch

from flash.benchmarking import machine
from flash.benchmarking.machine import (
    PRODUCT_WIDTH,
    PRODUCTS,
    describe_environment,
    find_device,
    product_flops,
    product_step,
    source_commit,
    speed_variables,
)

CPU = torch.device("cpu")


def test_the_environment_names_what_a_number_depends_on():
    environment = describe_environment(CPU)
    assert environment["threads"] == torch.get_num_threads()
    assert environment["torch"] == torch.__version__
    assert environment["device"] == environment["processor"]


def test_variables_that_change_what_memory_costs_are_named(monkeypatch):
    for name in [name for name in os.environ if name.startswith(("MALLOC_", "LD_PRELOAD"))]:
        monkeypatch.delenv(name)
    assert describe_environment(CPU)["variables"] == speed_variables() == ""
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "1000")
    monkeypatch.setenv("MALLOC_MMAP_MAX_", "0")
    monkeypatch.setenv("MALLOCS", "1")
    assert speed_variables() == "MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=1000"


def test_a_product_does_the_operations_that_it_is_counted_with(monkeypatch):
    monkeypatch.setitem(PRODUCT_WIDTH, "cpu", 16)
    monkeypatch.setitem(PRODUCTS, "cpu", 3)
    from torch.utils.flop_counter import FlopCounterMode

    step = product_step(torch.bfloat16, CPU)
    with FlopCounterMode(display=False) as counter:
        step()
    assert counter.get_total_flops() == product_flops(CPU) == 3 * 2 * 16**3


def test_sources_that_no_repository_tracks_have_no_commit(tmp_path, monkeypatch):
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    monkeypatch.setattr(machine, "__file__", str(tmp_path / "machine.py"))
    assert source_commit() == ""


def test_without_git_there_is_no_commit(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert source_commit() == ""


@pytest.mark.parametrize("name", ["cpu", "cpu:0"])
def test_a_cpu_is_a_device(name):
    assert find_device(name).type == "cpu"
