"""Noisy LIF neurons and noise-driven learning (NSNN, 2022)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from robust_snn.gradients import BPTT, GradientMode
from robust_snn.kernels import NoisyFiring
from robust_snn.kernels.draws import fast_uniform
from robust_snn.kernels.philox import Purpose
from robust_snn.kernels.spiking.spec import transformed
from robust_snn.neurons.lif import LIF, steps_of
from robust_snn.neurons.noise_families import NoiseFamily, parse_noise
from robust_snn.neurons.noise_source import NoisyModule
from robust_snn.neurons.stochastic_gate import StochasticGate
from robust_snn.utils.argument_types import checked_types
from robust_snn.utils.errors import unknown

FORMS = ("single", "double")


class MembraneNoise(NoisyModule):
    """The random stream of one layer of noisy membranes."""

    def __init__(self, family: NoiseFamily) -> None:
        super().__init__()
        self.family = family

    def spec(self, batch: int, device: torch.device) -> NoisyFiring:
        """The noise in the kernels' terms, with the keys of this call."""
        density = self.family.density().kernel()
        keys, mean, layer = self.draw(batch, device)
        return NoisyFiring(density.family, density.sharpness, keys, layer, mean)

    def injected(self, noise: NoisyFiring, shape: tuple[int, ...], steps: int) -> Tensor:
        """Noise to add to the membranes of `shape`, float64 `[T, B, *shape]`."""
        uniform = fast_uniform(noise.keys, shape, steps, noise.layer, Purpose.MEMBRANE).double()
        return self.family.quantile(uniform + 2.0**-25)  # inside (0, 1); in float32 it may be 1

    def extra_repr(self) -> str:
        return str(self.family)


class NoisyLIF(LIF):
    """LIF neurons that fire with the probability of their noisy membrane to be over the threshold.

        s[t] ~ Bernoulli(F(v[t] - threshold)),   F the distribution of the noise

    Their gradient is noise-driven learning: backpropagation through time whose surrogate is the
    density of the noise.

    Args:
        noise: `gaussian(sigma)`, `logistic(sigma)`, `uniform(sigma)`, `triangular(sigma)`, all by
            their standard deviation, or `arctan(alpha)`, which has none.
        form: `"single"` is the paper's equation. `"double"` is its released code, which also adds a
            draw of the noise to the membrane and carries it on: for Gaussian noise the first spike
            has probability `Phi(z / (sqrt(2) sigma))`.
        decay: Leak per step; 0.5 in the paper.
        gradient: Gradient mode; noise-driven learning if left out.

    The other arguments are those of `LIF`.

    Raises:
        InputError: If an argument is out of range or a name is not known.
    """

    @checked_types
    def __init__(
        self,
        noise: str | NoiseFamily = "gaussian(sigma=0.3)",
        form: Literal["single", "double"] = "single",
        decay: float = 0.5,
        threshold: float = 1.0,
        reset: Literal["hard", "soft"] = "hard",
        gain: float = 1.0,
        v_reset: float = 0.0,
        gradient: str | GradientMode | None = None,
        backend: str = "auto",
        gate: StochasticGate | None = None,
    ) -> None:
        family = parse_noise(noise)
        learning = gradient or BPTT(family.density())
        super().__init__(decay, threshold, reset, gain, v_reset, learning, backend, gate)
        if form not in FORMS:
            raise unknown("form of NoisyLIF", form, FORMS)
        self.form = form
        self.membrane_noise = MembraneNoise(family)

    def forward(
        self,
        current: Tensor,
        steps: int | None = None,
        affine: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        steps = steps_of(current, steps)
        noise = self.membrane_noise.spec(current.shape[1], current.device)
        if self.form == "double" and not noise.mean:
            if affine is not None:
                current, affine = transformed(current, affine), None
            injected = self.membrane_noise.injected(noise, tuple(current.shape[2:]), steps)
            current = current - injected.to(current.dtype) / self.dynamics.gain
        return self.fire(current, steps, affine, noise)

    def extra_repr(self) -> str:
        return f"form={self.form}, {super().extra_repr()}"
