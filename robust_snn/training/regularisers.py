"""Penalties and projections on parameters."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from robust_snn.neurons import StochasticGate

MANY_ROWS = 200  # linear layers with as many rows are retracted by part
MOVED = 0.3  # share of their rows that moves in a step


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


def mean_rate(lr: float, min_lr: float, share: float) -> float:
    """Mean learning rate over the first share of a cosine schedule."""
    angle = math.pi * share
    return min_lr + (lr - min_lr) * (1 + math.sin(angle) / angle) / 2


def clamp_parameters(net: nn.Module) -> None:
    """Brings parameters back to where they may be, in every module that has a `clamp_()`."""
    for module in net.modules():
        clamp = getattr(module, "clamp_", None)
        if callable(clamp):
            clamp()


@torch.no_grad()
def orthogonal_retraction(
    net: nn.Module, strength: float, generator: torch.Generator | None = None
) -> None:
    """One step of every kernel and matrix towards orthogonal rows (SNN-RAT, NeurIPS 2022).

        W <- (1 + strength) W - strength W W^T W

    takes every singular value s to `s (1 + strength - strength s^2)`. Kernels are flattened to
    `[out, in * height * width]`. Of a linear layer with at least 200 rows, a random 30 % move,
    with a new draw in every step.

    Args:
        net: The network.
        strength: Length of the step; 5e-4 for VGG-11 and 4e-3 for WRN-16 on CIFAR-10 in the paper.
        generator: Generator on the CPU for the random rows.
    """
    for module in net.modules():
        if not isinstance(module, nn.Conv2d | nn.Linear):
            continue
        weight = module.weight
        if isinstance(module, nn.Linear) and len(weight) >= MANY_ROWS:
            chosen = torch.randperm(len(weight), generator=generator)[: int(MOVED * len(weight))]
            chosen = chosen.to(weight.device, non_blocking=True)
            weight[chosen] = _retracted(weight[chosen], strength)
        else:
            weight.copy_(_retracted(weight.flatten(1), strength).view_as(weight))


def _retracted(matrix: Tensor, strength: float) -> Tensor:
    return (1 + strength) * matrix - strength * (matrix @ matrix.T) @ matrix
