"""Which implementation can run where."""

import subprocess
import sys

import pytest
import torch

from flash.ops import backends
from flash.ops.backends import choose_backend, kernels_obstacle, launcher_obstacle


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


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere Triton brings its compiler")
def test_without_a_c_compiler_or_the_headers_of_python_auto_leaves_the_kernels_to_blocks(monkeypatch, tmp_path):
    pytest.importorskip("triton", reason="the kernels need triton")
    for variable in ("TRITON_INTERPRET", "CC", "CPATH", "C_INCLUDE_PATH"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    (tmp_path / "gcc").touch(mode=0o755)
    (tmp_path / "Python.h").touch()

    def auto(programs, headers):
        monkeypatch.setenv("PATH", str(programs))
        monkeypatch.setattr("sysconfig.get_paths", lambda *_: {"include": str(headers)})
        monkeypatch.setattr(backends, "LAUNCHER_OBSTACLE", launcher_obstacle())
        return choose_backend("auto", device=torch.device("cuda"), dtype=torch.bfloat16, key_dim=64)

    assert auto(tmp_path, tmp_path) == "fused"
    assert auto(tmp_path, tmp_path / "nothing") == "blocked"
    assert "Python.h" in launcher_obstacle()
    assert auto(tmp_path / "nothing", tmp_path) == "blocked"
    assert "gcc or clang" in launcher_obstacle()
    monkeypatch.setenv("CC", "cc")
    assert launcher_obstacle() is None


@pytest.mark.slow  # a fresh interpreter loads transformers
def test_the_package_does_not_need_triton():
    program = "import sys; sys.modules['triton'] = None; import flash, flash.ops.quadratic_attention"
    subprocess.run([sys.executable, "-c", program], check=True)
