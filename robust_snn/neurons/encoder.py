"""Input encoders: from pixels to spikes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from robust_snn.kernels.philox import Purpose, draw
from robust_snn.neurons.noise import NoisyModule


class PoissonEncoder(NoisyModule):
    """Poisson (Bernoulli) rate coding: a pixel x in [0, 1] spikes with probability x at every step.

    It samples pixels as the attacker sees them, before any normalisation. The gradient is straight
    through, summed over the steps, and zero where x is outside [0, 1]: there the rate saturates.
    Drawn anew in every call, unlike released code that keeps its first mask for good.
    """

    def forward(self, x: Tensor, steps: int | None = None) -> Tensor:
        """Maps pixels to spikes.

        Args:
            x: `[T, B, ...]`, or `[1, B, ...]` when it is the same at every step.
            steps: Number of time steps; needed only for a constant input.

        Returns:
            Spikes `[T, B, ...]`, or the rates themselves under the mean-field policy.
        """
        steps = steps or x.shape[0]
        x = x.expand(steps, *x.shape[1:])
        keys, mean = self.draw(x.shape[1], x.device)
        if mean:
            return _Coded.apply(x, x.detach().clamp(0, 1))
        uniform = draw(keys, tuple(x.shape[2:]), steps, self.layer, Purpose.ENCODER)
        return _Coded.apply(x, (uniform < x).to(x.dtype))


class _Coded(torch.autograd.Function):
    """A code of pixels `x`, with a straight-through gradient inside [0, 1], ends included."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, code: Tensor) -> Tensor:
        ctx.save_for_backward((x >= 0) & (x <= 1))
        return code.view_as(code)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None]:
        (inside,) = ctx.saved_tensors
        return upstream[0] * inside, None
