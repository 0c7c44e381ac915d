"""What `robust-snn doctor` says of GPUs."""

from __future__ import annotations

import pytest
import torch

from devices import GPU
from robust_snn.cli.gpu_check import gpu_report


@pytest.mark.gpu
@pytest.mark.skipif(not GPU, reason="no CUDA device here")
def test_a_gpu_can_do_all_of_it() -> None:
    rows = dict(gpu_report())
    assert "compute capability" in rows["CUDA device 0"] and "GiB" in rows["CUDA device 0"]
    assert rows["CUDA"].startswith(("runtime", "ROCm"))
    assert rows["CUDA graphs"] == "work"


def test_a_machine_without_a_gpu_says_so_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise RuntimeError(
            "Found no NVIDIA driver\non your system. Please check\nthat you have one."
        )

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "init", fail)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    assert gpu_report() == [("CUDA device", "none: Found no NVIDIA driver on your system")]
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch.version, "hip", None)
    assert gpu_report() == [("CUDA device", "none: this PyTorch is built for CPUs alone")]


def test_a_driver_that_fails_hides_no_row(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise RuntimeError("CUDA error: unknown error. Try again.")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for name in ("get_device_properties", "is_bf16_supported", "get_device_capability"):
        monkeypatch.setattr(torch.cuda, name, fail)
    monkeypatch.setattr(torch.nn.Module, "cuda", fail)
    rows = dict(gpu_report())
    assert list(rows) == ["CUDA device 0", "CUDA device 1", "CUDA", "bf16", "TF32", "CUDA graphs"]
    failed = [name for name, found in rows.items() if found == "fails: CUDA error: unknown error"]
    assert len(failed) >= 5
