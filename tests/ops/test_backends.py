"""Which implementation can run where."""

import subprocess
import sys

import pytest
import torch

from flash.ops.backends import kernels_obstacle


def test_devices_that_cannot_run_the_kernels_are_refused(monkeypatch):
    pytest.importorskip("triton", reason="the kernels need triton")

    def obstacle(device, dtype, interpreted):
        return kernels_obstacle(torch.device(device), dtype, 64, interpreted=interpreted)

    assert obstacle("cpu", torch.float32, interpreted=True) is None
    assert "TRITON_INTERPRET=1" in obstacle("cpu", torch.float32, interpreted=False)
    assert "right in float32 only, got torch.bfloat16" in obstacle("cpu", torch.bfloat16, interpreted=True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")
    assert "need compute capability 8.0, Tesla T4 has 7.5" in obstacle("cuda", torch.float32, interpreted=False)


@pytest.mark.slow  # a fresh interpreter loads transformers
def test_the_package_does_not_need_triton():
    program = "import sys; sys.modules['triton'] = None; import flash, flash.ops.quadratic_attention"
    subprocess.run([sys.executable, "-c", program], check=True)
