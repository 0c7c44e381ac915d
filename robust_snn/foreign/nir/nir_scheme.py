"""How a library steps the differential equations that a NIR file holds.

A file has time constants in the unit of its writer and no time step, and says nothing of a delayed
reset or of several spikes in one step. So what a network computes follows from the file together
with the scheme of the library that wrote it; each row here gives what that library computes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import numpy as np

from robust_snn.foreign.nir.nir_file import Node
from robust_snn.utils.errors import InputError
from robust_snn.utils.text_form import Textual, parse

Reset = Literal["hard", "soft", "late", "blank", "none"]


class Membrane(NamedTuple):
    """A membrane in discrete time, counted from its rest potential, at which it starts.

        v[t] = decay * u[t-1] + gain * current[t],   s[t] = [v[t] >= threshold]

    Attributes:
        decay: Leak per step, in [0, 1].
        gain: Factor on the current.
        rest: Rest potential.
        threshold: Firing threshold; None for an integrator.
        reset: `"hard"` sets the membrane to `reset_value`; `"soft"` subtracts it, `"late"` at the
            next step, after the leak; `"blank"` drops what the next step would be, its current
            included.
        reset_value: See `reset`.
        levels: Whether a neuron fires as often in one step as the threshold fits into its membrane.
    """

    decay: np.ndarray
    gain: np.ndarray
    rest: np.ndarray
    threshold: np.ndarray | None = None
    reset: Reset = "hard"
    reset_value: np.ndarray = np.zeros(())
    levels: bool = False


@dataclass(frozen=True)
class Scheme(Textual):
    """Forward Euler, as the equations of NIR stand: a neuron above its threshold is reset.

    Attributes:
        step: The time step that the library writes files for, in the unit of their time constants.
    """

    name = "euler"
    step: ClassVar[float | None] = None

    def decay(self, tau: np.ndarray, dt: float) -> np.ndarray:
        """Leak per step of a time constant."""
        return 1 - dt / tau

    def gain(self, node: Node, decay: np.ndarray, factor: np.ndarray) -> np.ndarray:
        """Factor on the current of a leaky neuron, from its resistance."""
        return (1 - decay) * factor

    def integration(self, r: np.ndarray, dt: float) -> np.ndarray:
        """Factor on the current of a neuron without leak."""
        return dt * r

    def synapse_gain(self, node: Node, decay: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """Factor on the current of the synapse of a current-based neuron, from its weight."""
        return self.gain(node, decay, weight)

    def firing(self, membrane: Membrane, node: Node, recurrent: bool) -> Membrane:
        """Adds threshold and reset."""
        return membrane._replace(
            threshold=_above(_numbers(node, "v_threshold") - membrane.rest),
            reset_value=_numbers(node, "v_reset") - membrane.rest,
        )

    def synapse(self, node: Node, dt: float) -> Membrane:
        """The synapse of a current-based neuron."""
        decay = self.decay(_numbers(node, "tau_syn"), dt)
        return Membrane(decay, self.synapse_gain(node, decay, _numbers(node, "w_in")), np.zeros(()))

    def membrane(self, node: Node, dt: float, recurrent: bool = False) -> Membrane:
        """The membrane of a neuron or an integrator.

        Args:
            node: The node.
            dt: Time step, in the unit of the file's time constants.
            recurrent: Whether its own spikes reach it again.
        """
        if node.kind == "Threshold":
            threshold = _above(_numbers(node, "threshold"))
            return Membrane(np.zeros(()), np.ones(()), np.zeros(()), threshold, "none")
        r = _numbers(node, "r")
        if node.kind in ("I", "IF"):
            whole = Membrane(np.ones(()), self.integration(r, dt), np.zeros(()))
        else:
            decay = self.decay(_numbers(node, "tau_mem" if "tau_mem" in node.values else "tau"), dt)
            whole = Membrane(decay, self.gain(node, decay, r), _numbers(node, "v_leak"))
        return self.firing(whole, node, recurrent) if node.kind.endswith("IF") else whole


@dataclass(frozen=True)
class SnnTorch(Scheme):
    """What snnTorch computes.

    Attributes:
        reset: `reset_mechanism` of the neurons, which the file does not hold, with `reset_delay` as
            it is by default.
    """

    name = "snntorch"
    step: ClassVar[float | None] = 1e-4
    reset: Literal["subtract", "zero", "none"] = "subtract"

    def decay(self, tau: np.ndarray, dt: float) -> np.ndarray:
        return np.float32(np.clip(1 - dt / tau, 0, 1)).astype(float)

    def gain(self, node: Node, decay: np.ndarray, factor: np.ndarray) -> np.ndarray:
        """One: the file has resistances of tau / dt, which are infinite without a leak."""
        with np.errstate(invalid="ignore"):
            gain = (1 - decay) * factor
        return np.where(np.isnan(gain) | (abs(gain - 1) < 1e-3), 1.0, gain)

    def integration(self, r: np.ndarray, dt: float) -> np.ndarray:
        return r

    def firing(self, membrane: Membrane, node: Node, recurrent: bool) -> Membrane:
        threshold = _numbers(node, "v_threshold")
        blank = recurrent or node.kind == "CubaLIF"
        zero: Reset = "blank" if blank else "hard"
        resets: dict[str, Reset] = {"subtract": "late", "zero": zero, "none": "none"}
        return membrane._replace(
            threshold=_above(threshold),
            reset=resets[self.reset],
            reset_value=threshold if self.reset == "subtract" else np.zeros(()),
        )


@dataclass(frozen=True)
class SpikingJelly(Scheme):
    """What SpikingJelly computes: a neuron at its threshold fires."""

    name = "spikingjelly"
    step: ClassVar[float | None] = 1e-4

    def firing(self, membrane: Membrane, node: Node, recurrent: bool) -> Membrane:
        threshold = _numbers(node, "v_threshold") - membrane.rest
        return super().firing(membrane, node, recurrent)._replace(threshold=threshold)


@dataclass(frozen=True)
class Norse(Scheme):
    """What norse computes; its files hold time constants in steps, times the step."""

    name = "norse"
    step: ClassVar[float | None] = 1e-3

    def decay(self, tau: np.ndarray, dt: float) -> np.ndarray:
        return 1 - dt * (dt / tau)

    def integration(self, r: np.ndarray, dt: float) -> np.ndarray:
        return r

    def synapse_gain(self, node: Node, decay: np.ndarray, weight: np.ndarray) -> np.ndarray:
        return weight


@dataclass(frozen=True)
class Sinabs(Scheme):
    """What sinabs computes; its time constants are in steps, and its leak is exponential.

    Attributes:
        spikes: `"multi"` or `"single"`: its `spike_fn`, `MultiSpike` or `SingleSpike`.
        reset: Its `reset_fn`, `MembraneSubtract` or `MembraneReset`.
        norm_input: That argument of its `LIF`.
        norm_leak: The same argument of its `ExpLeak`.
    """

    name = "sinabs"
    step: ClassVar[float | None] = 1.0
    spikes: Literal["multi", "single"] = "multi"
    reset: Literal["subtract", "zero"] = "subtract"
    norm_input: bool = True
    norm_leak: bool = False

    def decay(self, tau: np.ndarray, dt: float) -> np.ndarray:
        return np.exp(-dt / tau)

    def gain(self, node: Node, decay: np.ndarray, factor: np.ndarray) -> np.ndarray:
        normed = self.norm_leak if node.kind == "LI" else self.norm_input
        return (1 - decay) * factor if normed else factor

    def integration(self, r: np.ndarray, dt: float) -> np.ndarray:
        return r

    def firing(self, membrane: Membrane, node: Node, recurrent: bool) -> Membrane:
        threshold = _numbers(node, "v_threshold")
        return membrane._replace(
            threshold=threshold,
            reset="soft" if self.reset == "subtract" else "hard",
            reset_value=threshold if self.reset == "subtract" else np.zeros(()),
            levels=self.spikes == "multi",
        )


SCHEMES: dict[str, type[Scheme]] = {
    cls.name: cls for cls in (Scheme, SnnTorch, SpikingJelly, Norse, Sinabs)
}


def parse_scheme(text: str | Scheme) -> Scheme:
    """Reads a scheme from its text form, such as `"snntorch(reset=zero)"`.

    Raises:
        InputError: If a name or argument is not known.
    """
    return text if isinstance(text, Scheme) else parse(text, "scheme", SCHEMES, {})


def _numbers(node: Node, name: str) -> np.ndarray:
    try:
        values = np.asarray(node.values[name], dtype=float)
    except (KeyError, TypeError, ValueError):
        raise InputError(f"its {name} is missing, or no array of numbers") from None
    endless = name in ("r", "tau", "tau_mem", "tau_syn")  # without a leak
    if np.isnan(values).any() or not (endless or np.isfinite(values).all()):
        raise InputError(f"its {name} is not finite")
    if name.startswith("tau") and not (values > 0).all():
        raise InputError(f"its {name} must be positive, got {values.min():g}")
    return values


def _above(threshold: np.ndarray) -> np.ndarray:
    """The number to reach for a neuron that fires above its threshold only."""
    return np.nextafter(threshold.astype(np.float32), np.float32(np.inf)).astype(float)
