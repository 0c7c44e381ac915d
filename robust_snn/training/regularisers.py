"""Penalties and projections on parameters."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from robust_snn.neurons import StochasticGate


def gate_parameters(net: nn.Module) -> list[nn.Parameter]:
    """Opening probabilities of every stochastic gate of a network."""
    return [m.probability for m in net.modules() if isinstance(m, StochasticGate)]


def gate_penalty(probabilities: Iterable[Tensor], strength: float) -> Tensor:
    """`0.5 * strength * sum(p^2)`, the penalty in StoG's joint objective (AAAI 2024, eq. 25)."""
    total = torch.zeros(())
    for probability in probabilities:
        total = total + probability.square().sum()
    return 0.5 * strength * total


def penalty_strength(
    start: float, opening: float, *, steps: int, lr: float, momentum: float
) -> float:
    """Strength with which the penalty alone carries a gate from `start` to `opening`.

    Under SGD the penalty shrinks a probability by the factor `1 - lr * strength / (1 - momentum)`
    in every step, so what a strength does depends on the number of steps. The paper's 5e-6 and 1e-5
    lead its networks, with their steps, to mean probabilities around 0.7 and 0.5.

    Args:
        start: Mean opening probability before training.
        opening: The one to reach, at most `start`.
        steps: Number of optimiser steps.
        lr: Mean learning rate.
        momentum: Momentum of SGD.
    """
    return math.log(start / opening) * (1 - momentum) / (steps * lr)


def clamp_parameters(net: nn.Module) -> None:
    """Brings parameters back to where they may be, in every module that has a `clamp_()`."""
    for module in net.modules():
        clamp = getattr(module, "clamp_", None)
        if callable(clamp):
            clamp()
