"""A spike function as people write it, and what a victim around a network of somebody says."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from robust_snn import InputError, Victim
from tests.helpers import logits_and_gradient


class Fire(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, v: Tensor) -> Tensor:
        return (v > 0).float()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return g


def answers(victim: Victim, images: Tensor, mode: str) -> tuple[Tensor, Tensor] | str:
    """Logits `[B, K]` under a gradient mode, and their gradient; or why there are none."""
    try:
        return logits_and_gradient(victim.replace(gradient=mode), images)
    except InputError as error:
        return str(error)
