"""Golden traces: spikes and gradients recorded from published code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from devices import on_every_device  # noqa: F401  a fixture


@pytest.fixture
def compiled(device: torch.device) -> str:
    """The compiled backend of the device."""
    return "triton" if device.type == "cuda" else "numba"


@pytest.fixture
def golden(
    shared: Callable[[str], Path], device: torch.device
) -> Callable[[str], dict[str, Tensor]]:
    """Reads a file of traces, or skips the test where there is none."""

    def read(name: str) -> dict[str, Tensor]:
        with np.load(shared(f"golden/{name}.npz")) as file:
            return {key: torch.from_numpy(file[key]).to(device) for key in file}

    return read
