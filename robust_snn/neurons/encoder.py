"""Input encoders: from pixels to spikes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from robust_snn.kernels.draws import fast_uniform
from robust_snn.kernels.philox import Purpose
from robust_snn.neurons.noise_source import NoisyModule
from robust_snn.utils.errors import InputError
from robust_snn.utils.exporting import differentiable
from robust_snn.utils.values import whole


class PoissonEncoder(NoisyModule):
    """Poisson (Bernoulli) rate coding: a pixel x in [0, 1] spikes with probability x at every step.

    It samples pixels as the attacker sees them, before any normalisation. The gradient is straight
    through, summed over the steps, and zero where x is outside [0, 1]: there the rate saturates.
    Fresh in every call, unlike released code that keeps its first mask for good.
    """

    def forward(self, x: Tensor, steps: int | None = None) -> Tensor:
        """Maps pixels to spikes.

        Args:
            x: `[T, B, ...]`, or `[1, B, ...]` when it is the same at every step.
            steps: Number of time steps; needed only for a constant input.

        Returns:
            Spikes `[T, B, ...]`, or the rates themselves under the mean-field policy.

        Raises:
            InputError: If the input has no axis of time.
        """
        x = _at_every_step(x, steps)
        keys, mean, layer = self.draw(x.shape[1], x.device)
        if mean:
            return differentiable(_Coded, x, x.detach().clamp(0, 1))
        uniform = fast_uniform(keys, tuple(x.shape[2:]), len(x), layer, Purpose.ENCODER)
        return differentiable(_Coded, x, (uniform < x).to(x.dtype))


class LatencyEncoder(nn.Module):
    """Time-to-first-spike coding: a pixel spikes once, the earlier the brighter, 0 never.

        s[t] = [t = T - ceil(T x)],   t = 0, ..., T - 1

    The gradient is straight through, and zero where x is outside [0, 1].
    """

    def forward(self, x: Tensor, steps: int | None = None) -> Tensor:
        """Maps pixels `[1, B, ...]` to spikes `[steps, B, ...]`."""
        x, time = _presented(x, steps)
        first = len(x) - torch.ceil(len(x) * x.clamp(0, 1))
        return differentiable(_Coded, x, (time == first).to(x.dtype))


class FirstEncoder(nn.Module):
    """Information-first coding: as many spikes as a rate code has, all of them in the first steps.

        s[t] = [t < T x],   t = 0, ..., T - 1

    A pixel so spikes `ceil(T x)` times, and a step shows what is brighter than its share of time
    (Ding et al., Nature Communications 16:10175, 2025; `pre` in their code). The gradient is
    straight through, and zero where x is outside [0, 1]; theirs passes where a pixel spiked.
    """

    def forward(self, x: Tensor, steps: int | None = None) -> Tensor:
        """Maps pixels `[1, B, ...]` to spikes `[steps, B, ...]`."""
        x, time = _presented(x, steps)
        return differentiable(_Coded, x, (time < len(x) * x).to(x.dtype))


class PhaseEncoder(nn.Module):
    """Phase coding: the bits of a pixel, from the most significant on, repeated after `bits` steps.

    The spike of bit k weighs `2 ** -k`, so that one period adds up to the pixel in `bits` bits. The
    gradient is straight through, and zero where x is outside [0, 1].

    Args:
        bits: Length of a period.

    Raises:
        InputError: If `bits` is not positive.
    """

    def __init__(self, bits: int = 8) -> None:
        super().__init__()
        self.bits = whole(bits, "bits of a phase code", 1)

    def forward(self, x: Tensor, steps: int | None = None) -> Tensor:
        """Maps pixels `[1, B, ...]` to weighted spikes `[steps, B, ...]`."""
        x, time = _presented(x, steps)
        phase = time % self.bits
        levels = (x.clamp(0, 1) * 2**self.bits).floor().clamp(max=2**self.bits - 1)
        bit = (levels / 2 ** (self.bits - 1 - phase)).floor() % 2
        return differentiable(_Coded, x, bit * 2.0 ** -(phase + 1))


def _presented(x: Tensor, steps: int | None) -> tuple[Tensor, Tensor]:
    """Pixels at every step `[T, B, ...]`, and the number of the step `[T, 1, ...]`."""
    x = _at_every_step(x, steps)
    time = torch.arange(len(x), device=x.device, dtype=x.dtype)
    return x, time.view(-1, *[1] * (x.dim() - 1))


def _at_every_step(x: Tensor, steps: int | None) -> Tensor:
    """Pixels `[T, B, ...]`, from those of every step or from `[1, B, ...]`."""
    if x.dim() < 2 or len(x) not in (1, steps or len(x) or 1):
        raise InputError(
            f"pixels to encode must be [1, B, ...] or [T, B, ...] with T = {steps or '1, 2, ...'}, "
            f"got {tuple(x.shape)}; give a batch of images its axis of time: x.unsqueeze(0)"
        )
    return x.expand(steps or len(x), *x.shape[1:])


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
