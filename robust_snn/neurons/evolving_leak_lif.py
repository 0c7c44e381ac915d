"""LIF neurons with a trainable leak per neuron and step (FEEL-SNN, NeurIPS 2024)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from robust_snn.gradients import GradientMode
from robust_snn.neurons.lif import LIF
from robust_snn.neurons.stochastic_gate import StochasticGate
from robust_snn.utils.argument_types import checked_types
from robust_snn.utils.values import whole


class EvolvingLeakLIF(LIF):
    """LIF neurons whose every neuron learns its leak of every step.

        v[t] = decay * leak[t, neuron] * u[t-1] + gain * current[t]

    That is the evolutionary leak of FEEL-SNN (Xu et al., NeurIPS 2024). As in its code, leaks start
    at 1 and are not bounded. Rate-based gradient modes go by `decay` alone, as with `DLIF`; in the
    released code they go by a leak that is not the network's.

    Args:
        shape: Shape of the layer for one sample, such as `(C, H, W)`.
        steps: Number of time steps.
        decay: Leak that the trained ones are factors on.

    The other arguments are those of `LIF`.

    Raises:
        InputError: If an argument is out of range or a name is not known.
    """

    bounded = False  # a leak may be negative

    @checked_types
    def __init__(
        self,
        shape: tuple[int, ...],
        steps: int,
        decay: float = 1.0,
        threshold: float = 1.0,
        reset: Literal["hard", "soft"] = "hard",
        gain: float = 1.0,
        v_reset: float = 0.0,
        gradient: str | GradientMode = "bptt",
        backend: str = "auto",
        gate: StochasticGate | None = None,
    ) -> None:
        super().__init__(decay, threshold, reset, gain, v_reset, gradient, backend, gate)
        steps = whole(steps, "steps of neurons with a leak of their own", 1)
        self.leak = nn.Parameter(torch.ones(steps, *shape))

    def gains(self, steps: int) -> tuple[Tensor | None, Tensor | None]:
        return self.leak.unsqueeze(1), None

    def extra_repr(self) -> str:
        return f"leaks={tuple(self.leak.shape)}, {super().extra_repr()}"
