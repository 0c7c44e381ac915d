"""LIF neurons whose time constants are drawn anew in every pass (RandHet-SNN, iScience 2025)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from robust_snn.gradients import GradientMode
from robust_snn.kernels.draws import fast_uniform
from robust_snn.kernels.philox import Purpose
from robust_snn.neurons.lif import LIF, steps_of
from robust_snn.neurons.noise_source import NoisyModule
from robust_snn.neurons.stochastic_gate import StochasticGate
from robust_snn.utils.argument_types import checked_types
from robust_snn.utils.errors import InputError
from robust_snn.utils.values import number


class LeakNoise(NoisyModule):
    """The random stream of one layer of random leaks.

    Args:
        relative: Largest distance of a leak from the mean, as a share of the mean.
    """

    def __init__(self, relative: float) -> None:
        super().__init__()
        self.relative = relative

    @property
    def stochastic(self) -> bool:
        return self.relative > 0

    def factors(self, current: Tensor) -> Tensor | None:
        """Leaks over the mean leak, `[1, B, ...]` for currents `[T, B, ...]`; None in the mean."""
        keys, mean, layer = self.draw(current.shape[1], current.device)
        if mean or not self.relative:
            return None
        uniform = fast_uniform(keys, tuple(current.shape[2:]), 1, layer, Purpose.LEAK)
        return 1 + self.relative * (2 * uniform - 1)


class RandomLeakLIF(LIF):
    """LIF neurons, each with a leak that is drawn anew for every image in every pass.

        v[t] = leak * u[t-1] + gain * current[t],   leak ~ U(decay - spread, decay + spread)

    That is RandHet-SNN (Wang et al., iScience 2025, PMC12159496): neurons of different time
    constants, redrawn in every forward pass. Its abstract is what we had of it, and it released no
    code that we know of: that leaks are uniform, and how wide, is ours. Here each image of a batch
    has draws of its own. Rate-based gradient modes go by the mean leak, and so do measures of
    membranes.

    Args:
        spread: Largest distance of a leak from `decay`; at most `decay` and `1 - decay`.
        decay: Mean leak per step.

    The other arguments are those of `LIF`.

    Raises:
        InputError: If an argument is out of range or a name is not known.
    """

    @checked_types
    def __init__(
        self,
        spread: float = 0.4,
        decay: float = 0.5,
        threshold: float = 1.0,
        reset: Literal["hard", "soft"] = "hard",
        gain: float = 1.0,
        v_reset: float = 0.0,
        gradient: str | GradientMode = "bptt",
        backend: str = "auto",
        gate: StochasticGate | None = None,
    ) -> None:
        super().__init__(decay, threshold, reset, gain, v_reset, gradient, backend, gate)
        most = min(decay, 1 - decay)
        if not 0 <= number(spread, "spread of leaks") <= most + 1e-12:
            raise InputError(
                f"spread of leaks must be in [0, {most:g}], so that all leaks around decay "
                f"{decay:g} are in [0, 1], got {spread:g}"
            )
        self.leak_noise = LeakNoise(spread / decay)

    def forward(
        self,
        current: Tensor,
        steps: int | None = None,
        affine: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        steps = steps_of(current, steps)
        factors = self.leak_noise.factors(current)
        if factors is not None:
            factors = factors.to(torch.promote_types(current.dtype, torch.float32))
        return self.fire(current, steps, affine, leak=factors)

    def extra_repr(self) -> str:
        spread = self.leak_noise.relative * self.dynamics.decay
        return f"spread={spread:g}, {super().extra_repr()}"
