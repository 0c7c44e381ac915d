"""A spike function as people write it, and what a victim around a network of somebody says."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from robust_snn import InputError, Victim


class Fire(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, v: Tensor) -> Tensor:
        return (v > 0).float()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return g


def logits_and_gradient(victim: Victim, images: Tensor, mode: str) -> tuple[Tensor, Tensor] | str:
    """Logits `[B, 3]` under a gradient mode, and their gradient; or why there are none."""
    x = images.clone().requires_grad_()
    try:
        logits = victim.replace(gradient=mode)(x)
    except InputError as error:
        return str(error)
    return logits, torch.autograd.grad((logits * torch.arange(1.0, 4.0)).sum(), x)[0]
