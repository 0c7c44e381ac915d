"""Stochastic synaptic gates (StoG, AAAI 2024) with the gradient of their opening probability."""

from __future__ import annotations

import torch
from torch import Tensor

from robust_snn.kernels.philox import Purpose, draw_uniform

TEMPERATURE = 0.5
EPSILON = 1e-3


def relaxed_gate(probability: Tensor, uniform: Tensor) -> Tensor:
    """Binary-concrete relaxation of the gate `[uniform < probability]`.

    Its derivative `sig (1 - sig) (1 + eps) / (tau p (1 - p + eps))` is positive and finite up to
    p = 1. The released StoG code has the opposite sign, a mean for the sum and a pole at p = 1.
    """
    logit = torch.log(probability / (1 - probability + EPSILON))
    noise = torch.log((1 - uniform) / (uniform + EPSILON))
    return torch.sigmoid((logit + noise) / TEMPERATURE)


def open_gates(probability: Tensor, keys: Tensor, steps: int, layer: int, mean: bool) -> Tensor:
    """Draws gates that open with the given probability.

    The values are exact draws; the gradient of `probability` is that of `relaxed_gate`.

    Args:
        probability: Opening probabilities in (0, 1], `[*shape]`.
        keys: Sample keys `[B]`, int64.
        steps: Number of time steps `T`.
        layer: Address of the layer in the random stream.
        mean: Whether to return the mean field `p` instead of draws.

    Returns:
        `[T, B, *shape]`: zeros and ones, or `p` repeated.
    """
    if mean:
        return probability.expand(steps, len(keys), *probability.shape)
    uniform = draw_uniform(keys, tuple(probability.shape), steps, layer, Purpose.GATE)
    hard = (uniform < probability).to(probability.dtype)
    learning = torch.is_grad_enabled() and probability.requires_grad
    if not learning or torch.jit.is_tracing():
        return hard
    soft = relaxed_gate(probability, uniform)
    return hard + (soft - soft.detach())
