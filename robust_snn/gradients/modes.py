"""Gradient modes: rules that turn a gradient on spikes into a gradient on currents."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from torch import nn

from robust_snn.gradients.surrogates import SURROGATES, SurrogateFunction, Triangle
from robust_snn.gradients.text import Textual, parse
from robust_snn.kernels import Bptr, Bptt, Rule


@dataclass(frozen=True)
class GradientMode(Textual):
    """Base of the modes. A mode never changes a spike, only the backward pass."""

    def rule(self) -> Rule:
        """The same rule in the kernels' terms."""
        raise TypeError(f"{type(self).__name__} does not say what its rule is")


@dataclass(frozen=True)
class BPTT(GradientMode):
    """Backpropagation through time with a surrogate derivative.

    Attributes:
        surrogate: Stand-in for the derivative of the step function.
        detach_reset: Whether the gradient ignores that a spike resets the membrane. Published code
            differs in this: SNN-RAT, StoG and HART keep the path, ASSG cuts it.
    """

    name = "bptt"
    surrogate: SurrogateFunction = field(default_factory=Triangle)
    detach_reset: bool = False

    def rule(self) -> Rule:
        return Bptt(self.surrogate.kernel(), self.detach_reset)


@dataclass(frozen=True)
class BPTR(GradientMode):
    """Backward pass through rate (SNN-RAT, NeurIPS 2022): passes where a neuron fired at all.

    The slope is `gain / threshold`, the true slope of the rate of an integrate-and-fire neuron.
    """

    name = "bptr"

    def rule(self) -> Rule:
        return Bptr()


MODES: dict[str, type[GradientMode]] = {cls.name: cls for cls in (BPTT, BPTR)}


def parse_mode(mode: str | GradientMode) -> GradientMode:
    """Reads a gradient mode from its text form, such as `"bptt(surrogate=atan(alpha=4))"`.

    Raises:
        InputError: If a name or argument is not known; the message offers the nearest match.
    """
    if isinstance(mode, GradientMode):
        return mode
    return parse(mode, "gradient mode", MODES, SURROGATES)


@contextmanager
def gradient_mode(module: nn.Module, mode: str | GradientMode) -> Iterator[None]:
    """Gives every neuron inside `module` another gradient mode, and restores what was there.

    Raises:
        InputError: If the mode is not known.
    """
    chosen = parse_mode(mode)
    neurons = [m for m in module.modules() if isinstance(vars(m).get("gradient"), GradientMode)]
    before = [m.gradient for m in neurons]
    try:
        for neuron in neurons:
            vars(neuron)["gradient"] = chosen
        yield
    finally:
        for neuron, original in zip(neurons, before, strict=True):
            vars(neuron)["gradient"] = original
