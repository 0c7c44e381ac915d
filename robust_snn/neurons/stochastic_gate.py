"""The stochastic synaptic gate of StoG (Ding et al., AAAI 2024)."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from robust_snn.kernels import Gate, open_gates
from robust_snn.kernels.spiking.gate import EPSILON
from robust_snn.neurons.noise_source import NoisyModule
from robust_snn.neurons.pass_settings import current_settings
from robust_snn.utils.argument_types import checked_types
from robust_snn.utils.errors import InputError, unknown
from robust_snn.utils.exporting import differentiable
from robust_snn.utils.values import number

LOWEST, HIGHEST = 0.1, 1.0
FLOOR = 0.0989  # released gates at 0.1 open with 0.09899; training clips at 0.1
RULES = ("relaxed", "released")


class StochasticGate(NoisyModule):
    """Lets each spike pass with a probability of its neuron, with a fresh draw per step and sample.

        out[t] = s[t] * g[t],   g[t] ~ Bernoulli(p),   p = clip(probability, 0.1, 1)

    The gate stays active in `eval()`. It is not rescaled by `1 / p`. The parameter starts below 1:
    the paper starts at 1, where a gate never closes.

    Args:
        shape: Shape of the layer for one sample, such as `(C, H, W)`.
        probability: Initial opening probability, in [0.1, 1].
        rule: Gradient of the probability. `"relaxed"` is the derivative of the binary-concrete
            relaxation. `"released"` reproduces the published code, whose rule has the opposite
            sign, averages over steps and samples and has a pole at p = 1.

    Raises:
        InputError: If the probability is outside [0.1, 1] or the rule is not known.
    """

    @checked_types
    def __init__(
        self,
        shape: tuple[int, ...],
        probability: float = 0.95,
        rule: Literal["relaxed", "released"] = "relaxed",
    ) -> None:
        super().__init__()
        if not LOWEST <= number(probability, "gate probability") <= HIGHEST:
            raise InputError(f"gate probability must be in [0.1, 1], got {probability:g}")
        if rule not in RULES:
            raise unknown("gradient rule of a gate", rule, RULES)
        self.rule = rule
        self.probability = nn.Parameter(torch.full(shape, probability))

    @property
    def opening(self) -> Tensor:
        """Opening probability per neuron, `[*shape]`, for measures and for the training penalty.

        The gradient passes the clip, so that a gate at 1 can still learn to close;
        `clamp_` after each optimiser step makes that projected gradient descent.
        """
        clipped = self.probability.detach().clamp(FLOOR, HIGHEST)
        return self.probability + (clipped - self.probability.detach())

    @property
    def stochastic(self) -> bool:
        return bool((self.probability < HIGHEST).any())

    def spec(self, batch: int, steps: int) -> Gate:
        """The gate in the kernels' terms, with the keys of this call."""
        opening = current_settings().constants.opening.get(self)
        if opening is None:
            opening = self.opening
        if self.rule == "released" and opening.requires_grad:
            opening = differentiable(_ReleasedRule, opening, batch * steps)
        keys, mean, layer = self.draw(batch, opening.device)
        return Gate(opening, keys, layer, mean)

    def clamp_(self) -> None:
        """Brings the parameter back into [0.1, 1] after an optimiser step."""
        with torch.no_grad():
            self.probability.clamp_(LOWEST, HIGHEST)

    def forward(self, spikes: Tensor) -> Tensor:
        """Maps spikes `[T, B, *shape]` to the spikes that pass, `[T, B, *shape]`.

        Raises:
            InputError: If the spikes have another shape, which would be spread over the gates.
        """
        shape = tuple(self.probability.shape)
        if spikes.dim() != 2 + len(shape) or spikes.shape[2:] != shape or not len(spikes):
            raise InputError(
                f"spikes must be [T, B, *shape] with shape = {shape}, got {tuple(spikes.shape)}"
            )
        steps, batch = spikes.shape[:2]
        gate = self.spec(batch, steps)
        gates = open_gates(gate.probability, gate.keys, steps, gate.layer, gate.mean)
        return spikes * gates.to(spikes.dtype)

    def extra_repr(self) -> str:
        return f"shape={tuple(self.probability.shape)}, rule={self.rule}"


class _ReleasedRule(torch.autograd.Function):
    """Turns the gradient of the relaxation into that of the released StoG code.

    Relaxed, summed over draws:   g sig (1 - sig) (1 + eps) / (tau p (1 - p + eps))
    Released, mean over draws:   -g sig (1 - sig)           / (tau p (1 - p)), and 0 where p is 1
    """

    @staticmethod
    def forward(ctx: Any, opening: Tensor, draws: int) -> Tensor:
        ctx.save_for_backward(opening)
        ctx.draws = draws
        return opening.view_as(opening)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None]:
        (p,) = ctx.saved_tensors
        factor = -(1 - p + EPSILON) / ((1 - p) * (1 + EPSILON) * ctx.draws)
        inside = (p > LOWEST) & (p < HIGHEST)
        return torch.where(inside, upstream[0] * factor, 0), None
