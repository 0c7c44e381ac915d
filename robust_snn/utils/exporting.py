"""What runs while PyTorch records a network: `torch.jit.trace`, `torch.export`, ONNX."""

from __future__ import annotations

import warnings
from types import SimpleNamespace
from typing import Any

import torch


def exporting() -> bool:
    """Whether the network that runs now is recorded, to be run without its Python code."""
    return torch.jit.is_tracing() or torch.compiler.is_exporting()


def recorded() -> bool:
    """Whether what records the network that runs now knows no operator of ours."""
    return torch.jit.is_tracing() or to_onnx()


def to_onnx() -> bool:
    """Whether the network that runs now is converted to ONNX, which knows no operator of ours."""
    followed = torch.compiler.is_compiling() or torch.jit.is_tracing()
    return followed and torch.onnx.is_in_onnx_export()  # which looks for modules to say it


@torch.compiler.assume_constant_result
def warn_of_frozen_draws(layer: str) -> None:
    """Says that what is recorded will draw the same random numbers in every call."""
    warnings.warn(
        f"the draws of {layer} are frozen in what is recorded; where they shall not be, record a "
        "module whose forward(x, keys) runs the network under robust_snn.neurons.keyed(keys)",
        stacklevel=2,
    )


def differentiable(function: type[torch.autograd.Function], *args: Any) -> Any:
    """`function.apply(*args)`; without its gradient in `torch.jit.trace`, which cannot save it."""
    if torch.jit.is_tracing():
        return function.forward(SimpleNamespace(save_for_backward=lambda *kept: None), *args)
    return function.apply(*args)
