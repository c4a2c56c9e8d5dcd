import json
import subprocess
import sys

import pytest
import torch

from flash.benchmarking import peak_memory
from flash.benchmarking.machine import GIB, memory_limit
from flash.benchmarking.peak_memory import Peak, PeakRequest, measure_peak, peak_of_step
from flash.benchmarking.rounds import is_out_of_memory
from flash.errors import InputError

REQUEST = PeakRequest("flash-quad", "tiny", "training", rows=1, length=8, device="cpu", threads=1)
MIB = 1 << 20
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="memory is read from Linux")


@linux_only
def test_the_peak_counts_what_the_step_held_and_not_what_was_there_before(monkeypatch):
    kept = torch.ones(64 * MIB // 4)

    def step():
        held = torch.ones(128 * MIB // 4)
        del held

    monkeypatch.setattr(peak_memory, "make_step", lambda *_, **__: step)
    peak = peak_of_step(REQUEST)
    assert peak.status == "ok"
    assert peak.before_bytes > kept.nbytes
    assert 127 * MIB <= peak.peak_bytes - peak.before_bytes <= 160 * MIB


@linux_only
def test_a_step_beyond_the_memory_limit_is_out_of_memory(monkeypatch):
    monkeypatch.setattr(peak_memory, "make_step", lambda *_, **__: lambda: torch.ones(1 << 42))
    assert peak_of_step(REQUEST) == Peak("oom")


@linux_only
def test_the_memory_limit_makes_a_large_tensor_fail_and_ends_with_the_block():
    size = 1 << 30  # the system gives it, untouched: what refuses it is the limit
    limit = (peak_memory._resident("VmData") + size // 2) / GIB
    with memory_limit(limit, torch.device("cpu")), pytest.raises(RuntimeError) as error:
        torch.empty(size, dtype=torch.uint8)
    assert is_out_of_memory(error.value)
    torch.empty(size, dtype=torch.uint8)


@pytest.mark.parametrize("gib", [0.0, -1.0, float("nan")])
def test_a_memory_limit_of_nothing_is_refused(gib):
    with pytest.raises(InputError, match="--memory-limit must be above 0"), memory_limit(gib, torch.device("cpu")):
        pass


def child(returncode=0, stdout="", stderr=""):
    return lambda command, **_: subprocess.CompletedProcess(command, returncode, stdout, stderr)


def test_a_process_answers_in_its_last_line(monkeypatch):
    answer = {"status": "ok", "note": "", "before_bytes": 1, "peak_bytes": 3}
    monkeypatch.setattr(subprocess, "run", child(stdout=f"a library says hello\n{json.dumps(answer)}\n"))
    assert measure_peak(REQUEST, budget_seconds=1) == Peak("ok", "", 1, 3)


def test_a_process_that_the_system_killed_was_out_of_memory(monkeypatch):
    monkeypatch.setattr(subprocess, "run", child(returncode=-9))
    assert measure_peak(REQUEST, budget_seconds=1).status == "oom"


def test_a_process_that_fails_is_reported_with_its_last_line(monkeypatch):
    monkeypatch.setattr(subprocess, "run", child(returncode=1, stderr="Traceback ...\nRuntimeError: broken\n"))
    assert measure_peak(REQUEST, budget_seconds=1) == Peak("failed", "RuntimeError: broken")


def test_a_process_beyond_the_budget_is_ended_and_too_slow():
    assert measure_peak(REQUEST, budget_seconds=0.01).status == "too slow"
