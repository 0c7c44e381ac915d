"""Noisy LIF neurons and noise-driven learning (NSNN, ICLR 2023)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from robust_snn.gradients import BPTT, GradientMode, SurrogateFunction
from robust_snn.gradients.surrogates import Atan, Gaussian, Rectangle, Sigmoid, Triangle
from robust_snn.kernels import NoisyFiring
from robust_snn.kernels.philox import Purpose, draw_uniform
from robust_snn.neurons.lif import LIF
from robust_snn.neurons.noise_source import NoisyModule
from robust_snn.neurons.stochastic_gate import StochasticGate
from robust_snn.utils.errors import InputError, unknown
from robust_snn.utils.text_form import Textual, parse

FORMS = ("single", "double")


@dataclass(frozen=True)
class NoiseFamily(Textual):
    """Base of the distributions of membrane noise: symmetric around zero.

    Raises:
        InputError: If an argument is not a positive finite number.
    """

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not (math.isfinite(value) and value > 0):
                raise InputError(f"{name} of {self.name} noise must be positive, got {value:g}")

    def density(self) -> SurrogateFunction:
        """The density, which is the surrogate derivative of noise-driven learning."""
        raise TypeError(f"{type(self).__name__} does not say what its density is")

    def quantile(self, u: Tensor) -> Tensor:
        """The noise at the uniform draws `u` in (0, 1)."""
        raise TypeError(f"{type(self).__name__} does not say how it is sampled")


@dataclass(frozen=True)
class GaussianNoise(NoiseFamily):
    """Gaussian noise.

    Attributes:
        sigma: Standard deviation; 0.3 for images and 0.2 for DVS-CIFAR in the paper.
    """

    name = "gaussian"
    sigma: float = 0.3

    def density(self) -> SurrogateFunction:
        return Gaussian(self.sigma)

    def quantile(self, u: Tensor) -> Tensor:
        return self.sigma * math.sqrt(2) * torch.erfinv(2 * u - 1)


@dataclass(frozen=True)
class LogisticNoise(NoiseFamily):
    """Logistic noise of a given standard deviation `sigma`; its scale is `sigma sqrt(3) / pi`."""

    name = "logistic"
    sigma: float = 0.3

    @property
    def scale(self) -> float:
        return self.sigma * math.sqrt(3) / math.pi

    def density(self) -> SurrogateFunction:
        return Sigmoid(1 / self.scale)

    def quantile(self, u: Tensor) -> Tensor:
        return self.scale * torch.log(u / (1 - u))


@dataclass(frozen=True)
class UniformNoise(NoiseFamily):
    """Uniform noise of a given standard deviation `sigma`, on `+-sigma sqrt(3)`."""

    name = "uniform"
    sigma: float = 0.3

    @property
    def half_width(self) -> float:
        return self.sigma * math.sqrt(3)

    def density(self) -> SurrogateFunction:
        return Rectangle(2 * self.half_width)

    def quantile(self, u: Tensor) -> Tensor:
        return self.half_width * (2 * u - 1)


@dataclass(frozen=True)
class TriangularNoise(NoiseFamily):
    """Triangular noise of a given standard deviation `sigma`, on `+-sigma sqrt(6)`."""

    name = "triangular"
    sigma: float = 0.3

    @property
    def half_base(self) -> float:
        return self.sigma * math.sqrt(6)

    def density(self) -> SurrogateFunction:
        return Triangle(self.half_base)

    def quantile(self, u: Tensor) -> Tensor:
        distance = 1 - torch.sqrt(1 - (2 * u - 1).abs())
        return self.half_base * torch.copysign(distance, 2 * u - 1)


@dataclass(frozen=True)
class ArctanNoise(NoiseFamily):
    """Cauchy noise, whose distribution is an arctangent; it has no standard deviation.

    Attributes:
        alpha: Sharpness; half of the noise lies within `+-2 / (pi alpha)`.
    """

    name = "arctan"
    alpha: float = 4.0

    def density(self) -> SurrogateFunction:
        return Atan(self.alpha)

    def quantile(self, u: Tensor) -> Tensor:
        return 2 / (math.pi * self.alpha) * torch.tan(math.pi * (u - 0.5))


NOISES: dict[str, type[NoiseFamily]] = {
    cls.name: cls
    for cls in (GaussianNoise, LogisticNoise, UniformNoise, TriangularNoise, ArctanNoise)
}


def parse_noise(noise: str | NoiseFamily) -> NoiseFamily:
    """Reads a noise from its text form, such as `"gaussian(sigma=0.3)"`.

    Raises:
        InputError: If a name or argument is not known; the message offers the nearest match.
    """
    if isinstance(noise, NoiseFamily):
        return noise
    return parse(noise, "membrane noise", NOISES, {})


class MembraneNoise(NoisyModule):
    """The random stream of one layer of noisy membranes."""

    def __init__(self, family: NoiseFamily) -> None:
        super().__init__()
        self.family = family

    def spec(self, batch: int, device: torch.device) -> NoisyFiring:
        """The noise in the kernels' terms, with the keys of this call."""
        density = self.family.density().kernel()
        keys, mean = self.draw(batch, device)
        return NoisyFiring(density.family, density.sharpness, keys, self.layer, mean)

    def injected(self, noise: NoisyFiring, shape: tuple[int, ...], steps: int) -> Tensor:
        """Noise to add to the membranes of `shape`, `[T, B, *shape]`."""
        uniform = draw_uniform(noise.keys, shape, steps, self.layer, Purpose.MEMBRANE)
        return self.family.quantile(uniform + 2.0**-25)  # inside (0, 1)

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
        threshold: Firing threshold.
        reset: `"hard"` or `"soft"`.
        gain: Factor on the current.
        v_reset: Membrane after a hard reset.
        gradient: Gradient mode; noise-driven learning if left out.
        backend: `"auto"`, `"triton"`, `"numba"` or `"torch"`.
        gate: Stochastic gate on the outgoing spikes.

    Raises:
        InputError: If an argument is out of range or a name is not known.
    """

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
        self.noise = MembraneNoise(family)

    def forward(
        self,
        current: Tensor,
        steps: int | None = None,
        affine: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        steps = steps or current.shape[0]
        noise = self.noise.spec(current.shape[1], current.device)
        if self.form == "double" and not noise.mean:
            if affine is not None:
                scale, shift = (a.view(-1, *[1] * (current.dim() - 3)) for a in affine)
                current, affine = current * scale + shift, None
            injected = self.noise.injected(noise, tuple(current.shape[2:]), steps)
            current = current - injected.to(current.dtype) / self.dynamics.gain
        return self.fire(current, steps, affine, noise)

    def extra_repr(self) -> str:
        return f"form={self.form}, {super().extra_repr()}"
