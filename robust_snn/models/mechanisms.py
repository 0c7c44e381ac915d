"""Mechanisms: the neurons and input code of a backbone. A row here gives each one a variant."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

from torch import nn

from robust_snn.models.encodings import DirectEncoding, PoissonEncoding
from robust_snn.models.frequency_encoding import FrequencyEncoding
from robust_snn.models.fusion_encoding import FusionEncoding
from robust_snn.neurons import (
    DLIF,
    LIF,
    EvolvingLeakLIF,
    HomeostaticLIF,
    IntegerLIF,
    NoisyLIF,
    NormSpike,
    PoissonEncoder,
    RandomLeakLIF,
    StochasticGate,
    TimeBatchNorm2d,
)
from robust_snn.utils.argument_types import check_fields
from robust_snn.utils.errors import InputError, unknown

NORMALISATIONS = ("bn", "tdbn")


@dataclass(frozen=True)
class NeuronOptions:
    """Numbers of the neurons of a backbone; the defaults are those of SNN-RAT and StoG.

    Attributes:
        decay: Leak per step; 1 is the integrate-and-fire neuron of the released code.
        threshold: Firing threshold.
        reset: `"hard"` or `"soft"`.
        gain: Factor on the current; `1 - decay` is SpikingJelly's `decay_input`.
        gradient: Gradient mode in training and in attacks that choose none; `"bptt"`, or
            noise-driven learning for noisy neurons, if left out.
        backend: Backend of the spiking loop, and of attention.
        norm: `"bn"` for batch norm over time, or `"tdbn"`, whose weights start at the threshold.
        gate_probability: Initial opening probability of StoG's gates.
        gate_rule: Gradient of that probability, `"relaxed"` or `"released"`.
        dlif_form: Where DLIF's factors act, `"membrane"` (paper) or `"input"` (code).
        membrane_noise: Noise of NSNN's neurons, such as `"gaussian(sigma=0.2)"`.
        noise_form: How it acts, `"single"` (paper) or `"double"` (code).
        leak_spread: How far random leaks are from `decay` at most.
        homeostasis: Initial rate of HoSNN's thresholds.
        levels: Largest integer spike.
        codes: Input codes that stand side by side as channels, such as `"direct+first"`.
    """

    decay: float = 1.0
    threshold: float = 1.0
    reset: Literal["hard", "soft"] = "hard"
    gain: float = 1.0
    gradient: str | None = None
    backend: str = "auto"
    norm: Literal["bn", "tdbn"] = "bn"
    gate_probability: float = 0.95
    gate_rule: Literal["relaxed", "released"] = "relaxed"
    dlif_form: Literal["membrane", "input"] = "membrane"
    membrane_noise: str = "gaussian(sigma=0.3)"
    noise_form: Literal["single", "double"] = "single"
    leak_spread: float = 0.4
    homeostasis: float = 0.1
    levels: int = 4
    codes: str = "direct+first"

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def lif(self) -> dict[str, Any]:
        """The arguments that every neuron takes."""
        names = ("decay", "threshold", "reset", "gain", "backend")
        chosen = {} if self.gradient is None else {"gradient": self.gradient}
        return {name: getattr(self, name) for name in names} | chosen


Neurons = Callable[[tuple[int, ...], int, NeuronOptions], nn.Module]


def _lif(shape: tuple[int, ...], steps: int, options: NeuronOptions) -> nn.Module:
    return LIF(**options.lif)


def _stog(shape: tuple[int, ...], steps: int, options: NeuronOptions) -> nn.Module:
    gate = StochasticGate(shape, options.gate_probability, options.gate_rule)
    return LIF(**options.lif, gate=gate)


def _dlif(shape: tuple[int, ...], steps: int, options: NeuronOptions) -> nn.Module:
    return DLIF(steps, options.dlif_form, **options.lif)


def _nlif(shape: tuple[int, ...], steps: int, options: NeuronOptions) -> nn.Module:
    return NoisyLIF(options.membrane_noise, options.noise_form, **options.lif)


def _feel(shape: tuple[int, ...], steps: int, options: NeuronOptions) -> nn.Module:
    return EvolvingLeakLIF(shape, steps, **options.lif)


def _randhet(shape: tuple[int, ...], steps: int, options: NeuronOptions) -> nn.Module:
    return RandomLeakLIF(options.leak_spread, **options.lif)


def _hosnn(shape: tuple[int, ...], steps: int, options: NeuronOptions) -> nn.Module:
    return HomeostaticLIF(shape, steps, options.homeostasis, **options.lif)


OF_LEVELS = ("threshold", "reset")  # what integer neurons have by their levels


def _ilif(shape: tuple[int, ...], steps: int, options: NeuronOptions) -> nn.Module:
    read = {name: value for name, value in options.lif.items() if name not in OF_LEVELS}
    return IntegerLIF(options.levels, **read)


@dataclass(frozen=True)
class Mechanism:
    """What a mechanism changes in a backbone.

    Attributes:
        neurons: Builds the neurons of a layer from its shape, the time steps and the options.
        encoding: Class of the input code.
        defaults: Options in which its paper differs from the defaults.
        mark: Class of a module that only networks with this mechanism have.
        own: Options that only this mechanism reads.
        lacks: Options of all others that it does not read.
    """

    neurons: Neurons
    encoding: type[DirectEncoding] = DirectEncoding
    defaults: dict[str, Any] = field(default_factory=dict)
    mark: type[nn.Module] = LIF
    own: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()


MECHANISMS: dict[str, Mechanism] = {
    "none": Mechanism(_lif),
    "stog": Mechanism(
        _stog,
        defaults={"decay": 1.0},
        mark=StochasticGate,
        own=("gate_probability", "gate_rule"),
    ),
    "dlif": Mechanism(_dlif, defaults={"decay": 0.99}, mark=DLIF, own=("dlif_form",)),
    "nlif": Mechanism(
        _nlif, defaults={"decay": 0.5}, mark=NoisyLIF, own=("membrane_noise", "noise_form")
    ),
    "poisson": Mechanism(_lif, PoissonEncoding, mark=PoissonEncoder),
    "feel": Mechanism(_feel, FrequencyEncoding, {"decay": 1.0}, mark=EvolvingLeakLIF),
    "randhet": Mechanism(
        _randhet, defaults={"decay": 0.5}, mark=RandomLeakLIF, own=("leak_spread",)
    ),
    "hosnn": Mechanism(_hosnn, defaults={"decay": 0.5}, mark=HomeostaticLIF, own=("homeostasis",)),
    "ilif": Mechanism(
        _ilif, defaults={"decay": 1.0}, mark=IntegerLIF, own=("levels",), lacks=OF_LEVELS
    ),
    "fusion": Mechanism(_lif, FusionEncoding, mark=FusionEncoding, own=("codes",)),
}

OPTIONS = tuple(option.name for option in fields(NeuronOptions))


class Builder:
    """Builds the layers of one network: every layer has the same mechanism, options and steps.

    Args:
        mechanism: Row of `MECHANISMS`.
        steps: Time steps.
        defaults: Options of the backbone's paper; the mechanism's own defaults go first.
        **options: Fields of `NeuronOptions`.

    Raises:
        InputError: If the mechanism or an option is not known, or an option is another mechanism's.
    """

    def __init__(
        self, mechanism: str, steps: int, defaults: dict[str, Any] | None = None, **options: Any
    ) -> None:
        if mechanism not in MECHANISMS:
            raise unknown("mechanism", mechanism, MECHANISMS)
        for other, row in MECHANISMS.items():
            if other != mechanism and (idle := [name for name in options if name in row.own]):
                raise InputError(
                    f"{idle[0]} is an argument of '{other}' and does nothing in a network without "
                    f"it: leave it out, or build the variant _{other}"
                )
        self.mechanism = MECHANISMS[mechanism]
        if idle := [name for name in options if name in self.mechanism.lacks]:
            raise InputError(f"{idle[0]} does nothing in a network of '{mechanism}': leave it out")
        self.steps = steps
        self.options = NeuronOptions(**{**(defaults or {}), **self.mechanism.defaults, **options})
        if self.options.norm not in NORMALISATIONS:
            raise unknown("norm", self.options.norm, NORMALISATIONS)

    @property
    def largest_spike(self) -> int:
        """The largest value of a spike."""
        return self.options.levels if self.mechanism.mark is IntegerLIF else 1

    def encoding(
        self, in_chans: int, mean: tuple[float, ...] | None, std: tuple[float, ...] | None
    ) -> DirectEncoding:
        """The input code of images with so many channels, normalised by `mean` and `std`."""
        codes = {"codes": self.options.codes} if "codes" in self.mechanism.own else {}
        return self.mechanism.encoding(in_chans, self.steps, mean, std, **codes)

    def neurons(self, *shape: int, sensitivity: float = 1.0) -> nn.Module:
        """The neurons of a layer of the given shape for one sample, such as `(C, H, W)`.

        Args:
            *shape: The shape.
            sensitivity: What the threshold is divided by; integer neurons have none to divide.
        """
        options = replace(self.options, threshold=self.options.threshold / sensitivity)
        return self.mechanism.neurons(shape, self.steps, options)

    def norm(self, channels: int, branches: int = 1) -> TimeBatchNorm2d:
        """The norm of a current that is the sum of `branches` normalised currents."""
        threshold_dependent = self.options.norm == "tdbn"
        scale = self.options.threshold * branches**-0.5 if threshold_dependent else 1.0
        return TimeBatchNorm2d(channels, scale)

    def act(self, channels: int, size: tuple[int, int]) -> NormSpike:
        """Norm and neurons of a layer `[channels, *size]`."""
        return NormSpike(self.norm(channels), self.neurons(channels, *size), self.steps)
