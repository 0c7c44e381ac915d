"""Golden traces: spikes and gradients recorded from published code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor


@pytest.fixture
def golden(shared: Callable[[str], Path]) -> Callable[[str], dict[str, Tensor]]:
    """Reads a file of traces, or skips the test where there is none."""

    def read(name: str) -> dict[str, Tensor]:
        with np.load(shared(f"golden/{name}.npz")) as file:
            return {key: torch.from_numpy(file[key]) for key in file}

    return read
