"""Mechanisms: which neuron a backbone is built from. A row here gives every backbone a variant."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Literal

from torch import nn

from robust_snn.errors import unknown
from robust_snn.neurons import LIF, StochasticGate


@dataclass(frozen=True)
class NeuronOptions:
    """Numbers of the neurons of a backbone; the defaults are those of SNN-RAT and StoG.

    Attributes:
        decay: Leak per step; 1 is the integrate-and-fire neuron of the released code.
        threshold: Firing threshold.
        reset: `"hard"` or `"soft"`.
        gradient: Gradient mode in training and in attacks that choose none.
        backend: Backend of the spiking loop.
        gate_probability: Initial opening probability of StoG's gates.
    """

    decay: float = 1.0
    threshold: float = 1.0
    reset: Literal["hard", "soft"] = "hard"
    gradient: str = "bptt"
    backend: str = "auto"
    gate_probability: float = 0.95

    @classmethod
    def read(cls, arguments: dict[str, Any], model: type) -> NeuronOptions:
        """Takes the keyword arguments that the constructor of `model` left over.

        Raises:
            InputError: If one of them is no argument of the neurons either.
        """
        known = [field.name for field in fields(cls)]
        for name in arguments:
            if name not in known:
                accepted = [*inspect.signature(model).parameters, *known]
                raise unknown(f"argument of {model.__name__}", name, set(accepted) - {"neuron"})
        return cls(**arguments)

    def lif(self, gate: StochasticGate | None = None) -> LIF:
        return LIF(
            self.decay,
            self.threshold,
            self.reset,
            gradient=self.gradient,
            backend=self.backend,
            gate=gate,
        )


def _plain(shape: tuple[int, ...], options: NeuronOptions) -> nn.Module:
    return options.lif()


def _stog(shape: tuple[int, ...], options: NeuronOptions) -> nn.Module:
    return options.lif(StochasticGate(shape, options.gate_probability))


MECHANISMS: dict[str, Callable[[tuple[int, ...], NeuronOptions], nn.Module]] = {
    "none": _plain,
    "stog": _stog,
}


def build_neuron(mechanism: str, shape: tuple[int, ...], options: NeuronOptions) -> nn.Module:
    """Builds the neurons of one layer.

    Args:
        mechanism: Row of `MECHANISMS`.
        shape: Shape of the layer for one sample, such as `(C, H, W)`.
        options: Numbers of the neurons.

    Raises:
        InputError: If the mechanism or an option is not known.
    """
    if mechanism not in MECHANISMS:
        raise unknown("mechanism", mechanism, MECHANISMS)
    return MECHANISMS[mechanism](shape, options)
