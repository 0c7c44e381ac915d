"""Golden traces: spikes and gradients recorded from published code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from devices import (
    INTERPRETED,
    on_every_device,  # noqa: F401  a fixture
)

if INTERPRETED:
    from triton import language
    from triton.runtime import interpreter

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        """A call inside a kernel, which replaces the language's operators only if they are not yet.

        The interpreter does so at every call, which takes a third of the time.
        """
        known = (language, language.core)
        used = [module for module in known if module in self.fn.__globals__.values()]
        if any(language.core.is_builtin(module.load) for module in used):
            interpreter._patch_lang(self.fn)
        return self.rewrite()(*args, **kwargs)

    interpreter.InterpretedFunction.__call__ = call


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
