"""Leaky integrate-and-fire neurons."""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor, nn

from robust_snn.gradients import GradientMode, parse_mode
from robust_snn.kernels import Dynamics, Homeostasis, NoisyFiring, spiking_loop
from robust_snn.kernels.backend import BACKENDS
from robust_snn.neurons.pass_settings import layer_gradient
from robust_snn.neurons.stochastic_gate import StochasticGate
from robust_snn.utils.argument_types import checked_types
from robust_snn.utils.errors import InputError, unknown
from robust_snn.utils.values import number


class LIF(nn.Module):
    """A layer of leaky integrate-and-fire neurons; it keeps nothing between calls.

        v[t] = decay * u[t-1] + gain * current[t],   s[t] = [v[t] >= threshold]
        u[t] = v_reset where it fired (hard reset), or v[t] - threshold * s[t] (soft reset)

    Args:
        decay: Leak per step, in (0, 1]; 1 makes an integrate-and-fire neuron.
        threshold: Firing threshold, positive.
        reset: `"hard"` or `"soft"`.
        gain: Factor on the current.
        v_reset: Membrane after a hard reset, below the threshold.
        gradient: Gradient mode; see `robust_snn.gradients`.
        backend: `"auto"`, `"triton"`, `"numba"` or `"torch"`.
        gate: Stochastic gate on the outgoing spikes.

    Attributes:
        bounded: Whether intervals of currents have bounds of spikes; see `certificates`.

    Raises:
        InputError: If an argument is out of range or a name is not known.
    """

    bounded: ClassVar[bool] = True

    @checked_types
    def __init__(
        self,
        decay: float = 1.0,
        threshold: float = 1.0,
        reset: Literal["hard", "soft"] = "hard",
        gain: float = 1.0,
        v_reset: float = 0.0,
        gradient: str | GradientMode = "bptt",
        backend: str = "auto",
        gate: StochasticGate | None = None,
    ) -> None:
        super().__init__()
        _check_dynamics(decay, threshold, reset, gain, v_reset)
        if backend not in BACKENDS:
            raise unknown("backend", backend, BACKENDS)
        self.dynamics = Dynamics(decay, threshold, gain, reset, v_reset)
        self.gradient = parse_mode(gradient)
        self.backend = backend
        self.gate = gate

    def forward(
        self,
        current: Tensor,
        steps: int | None = None,
        affine: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Maps currents to spikes.

        Args:
            current: `[T, B, ...]`, or `[1, B, ...]` when it is the same at every step.
            steps: Number of time steps; needed only for a constant current.
            affine: Per-channel `(scale, shift)`, each `[C]`, applied to the current first.

        Returns:
            Spikes `[T, B, ...]`, zeros and ones.
        """
        return self.fire(current, steps_of(current, steps), affine)

    def fire(
        self,
        current: Tensor,
        steps: int,
        affine: tuple[Tensor, Tensor] | None,
        noise: NoisyFiring | None = None,
        leak: Tensor | None = None,
        homeostasis: Homeostasis | None = None,
    ) -> Tensor:
        """Runs the spiking loop; subclasses bring what they add to it."""
        membrane_gain, input_gain = self.gains(steps)
        return spiking_loop(
            current,
            self.dynamics,
            layer_gradient(self).rule(self.dynamics),
            steps=steps,
            affine=affine,
            membrane_gain=membrane_gain if leak is None else leak,
            input_gain=input_gain,
            gate=None if self.gate is None else self.gate.spec(current.shape[1], steps),
            noise=noise,
            homeostasis=homeostasis,
            backend=self.backend,
        )

    def gains(self, steps: int) -> tuple[Tensor | None, Tensor | None]:
        """Factors on the carried membrane and on the current, or None for one.

        They are one per step, `[T]`; those on the membrane may be one per neuron, `[T, 1, ...]`.
        """
        return None, None

    def extra_repr(self) -> str:
        d = self.dynamics
        return f"decay={d.decay:g}, threshold={d.threshold:g}, reset={d.reset}, {self.gradient}"


def steps_of(current: Tensor, steps: int | None) -> int:
    """Number of steps of currents `[T, B, ...]`.

    Raises:
        InputError: If they have no axes of time and batch.
    """
    if current.dim() < 2:
        raise InputError(f"currents must be [T, B, ...], got {tuple(current.shape)}")
    return steps or len(current)


def _check_dynamics(
    decay: float, threshold: float, reset: str, gain: float, v_reset: float
) -> None:
    if reset not in ("hard", "soft"):
        raise unknown("reset", reset, ("hard", "soft"))
    if not 0 < number(decay, "decay") <= 1:
        raise InputError(f"decay must be in (0, 1], got {decay:g}")
    if not number(threshold, "threshold") > 0:
        raise InputError(f"threshold must be positive, got {threshold:g}")
    if not number(gain, "gain") > 0:
        raise InputError(f"gain must be positive, got {gain:g}")
    if not number(v_reset, "v_reset") < threshold:
        raise InputError(f"v_reset must be below the threshold {threshold:g}, got {v_reset:g}")
