"""The arguments of a compiled spiking loop, flat as operators and kernels take them.

`KernelArgs` are the numbers, which Numba's kernels take as they are; `LayerTensors` the tensors.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from robust_snn.kernels.layout import storage_view
from robust_snn.kernels.spiking.codes import Randomness, Saved, Shape, Time
from robust_snn.kernels.spiking.rules import (
    TRIANGLE_RECURSION,
    RateSlope,
    Recursion,
    TimeAverage,
    TimeRule,
)
from robust_snn.kernels.spiking.spec import Dynamics, Gate, LayerInputs, NoisyFiring


class KernelArgs(NamedTuple):
    """Everything but the tensors."""

    steps: int
    # dynamics
    decay: float
    threshold: float
    gain: float
    reset_value: float
    hard: bool
    levels: int
    unit: float  # between the thresholds of several levels
    adapts: bool  # whether thresholds follow the membranes
    # rule
    time: int  # of `Time`
    detach_reset: bool
    surrogate_shape: int  # of `Shape`
    surrogate_sharpness: float
    surrogate_scale: float
    surrogate_floor: float
    saves: int  # of `Saved`
    lower_edge: float
    upper_edge: float
    lower_slope: float
    upper_slope: float
    # gate
    gating: int  # of `Randomness`
    gate_layer: int
    # membrane noise
    firing: int  # of `Randomness`
    noise_shape: int  # of `Shape`
    noise_sharpness: float
    noise_layer: int

    @property
    def saved_steps(self) -> int:
        """The bytes that a forward pass saves for each neuron."""
        if self.saves == Saved.NOTHING:
            return 0
        return self.steps if self.saves == Saved.MEMBRANE else 1

    @property
    def recomputes(self) -> bool:
        """Whether a backward pass needs the membranes, and what was saved does not give them."""
        return not (self.time == Time.RATE_SLOPE or self.saves == Saved.MEMBRANE)


class LayerTensors(NamedTuple):
    """The tensors of a layer besides its current; see `LayerInputs`."""

    scale: Tensor | None
    shift: Tensor | None
    membrane_gain: Tensor | None
    input_gain: Tensor | None
    probability: Tensor | None
    gate_keys: Tensor | None
    noise_keys: Tensor | None
    rate: Tensor | None
    usual: Tensor | None

    @property
    def leaks_differ(self) -> bool:
        """Whether `membrane_gain` is one per neuron."""
        return self.membrane_gain is not None and self.membrane_gain.dim() > 1

    def leaks(self, sample: torch.Size, channels_last: bool) -> Tensor:
        """The membrane gains of every neuron in storage order, float32 `[T or 1, B or 1, N]`."""
        assert self.membrane_gain is not None
        steps, batch = self.membrane_gain.shape[:2]
        gains = self.membrane_gain.detach().float().expand(steps, batch, *sample)
        return storage_view(gains, channels_last).reshape(steps, batch, sample.numel())

    def homeostasis(self, sample: torch.Size, channels_last: bool) -> tuple[Tensor, Tensor]:
        """Rates and usual membranes in storage order, float32 `[N]` and `[T, N]`."""
        assert self.rate is not None and self.usual is not None
        rate, usual = (
            storage_view(tensor.detach().float(), channels_last)
            for tensor in (self.rate[None, None], self.usual[:, None])
        )
        return rate.reshape(sample.numel()), usual.reshape(len(usual), sample.numel())


class Kept(NamedTuple):
    """What a forward pass keeps for the backward pass, besides the tensors of the layer.

    Attributes:
        current: Currents `[T or 1, B, ...]`; None where no membrane is recomputed.
        saved_bytes: uint8 `[1 or T, B, N]`, see `Saved`; None where nothing is saved.
        sharpness_map: Sharpness of the surrogate, broadcasts to `[T, B, ...]`; None if it is one.
    """

    current: Tensor | None
    saved_bytes: Tensor | None
    sharpness_map: Tensor | None


class Wanted(NamedTuple):
    """What a backward pass returns.

    Attributes:
        summed: Whether the gradient of the current is summed over the steps, float32
            `[1, B, ...]`.
        channels_last: Whether the gradient of the current lies channels-last in memory.
        affine: Whether the gradients of scale and shift are needed.
        gains: Whether those of both gains per step are needed.
        probability: Whether that of the gate's opening probability is needed.
        leaks: Whether that of membrane gains per neuron is needed.
        rate: Whether that of the rates of adapting thresholds is needed.
    """

    summed: bool
    channels_last: bool
    affine: bool
    gains: bool
    probability: bool
    leaks: bool = False
    rate: bool = False

    @property
    def parameters(self) -> bool:
        """Whether any gradient besides that of the current is needed."""
        return self.affine or self.gains or self.probability or self.leaks or self.rate


def layer_tensors(inputs: LayerInputs) -> LayerTensors:
    """The tensors of one call."""
    scale, shift = inputs.affine or (None, None)
    gate, noise, adapting = inputs.gate, inputs.noise, inputs.homeostasis
    return LayerTensors(
        scale,
        shift,
        inputs.membrane_gain,
        inputs.input_gain,
        None if gate is None else gate.probability,
        None if gate is None else gate.keys,
        None if noise is None else noise.keys,
        None if adapting is None else adapting.rate,
        None if adapting is None else adapting.usual,
    )


def kernel_args(
    dynamics: Dynamics, rule: TimeRule, inputs: LayerInputs, saves: bool = True
) -> KernelArgs:
    """The numbers of one call; those of a layer that ran before are at hand.

    Args:
        saves: Whether the forward pass saves what the rule reads of it, if it reads any.
    """
    gate, noise = inputs.gate, inputs.noise
    gating = None if gate is None else (_randomness(gate), gate.layer)
    firing = None
    if noise is not None:
        firing = _randomness(noise), noise.layer, noise.family, noise.sharpness
    adapts = inputs.homeostasis is not None
    given = dynamics, rule, inputs.steps, adapts, gating, firing, saves
    # a compiler traces through the cache, which would also keep a map of sharpness alive
    if torch.compiler.is_compiling() or getattr(rule, "sharpness", None) is not None:
        return _kernel_args(*given)
    return _known_kernel_args(*given)


def _kernel_args(
    dynamics: Dynamics,
    rule: TimeRule,
    steps: int,
    adapts: bool,
    gating: tuple[int, int] | None,
    firing: tuple[int, int, str, float] | None,
    saves: bool,
) -> KernelArgs:
    gate_code, gate_layer = gating or (int(Randomness.NONE), 0)
    noise_code, noise_layer, family, sharpness = firing or (int(Randomness.NONE), 0, "", 1.0)
    args = KernelArgs(
        steps=steps,
        decay=dynamics.decay,
        threshold=dynamics.threshold,
        gain=dynamics.gain,
        reset_value=dynamics.reset_value,
        hard=dynamics.reset == "hard",
        levels=dynamics.levels,
        unit=dynamics.unit,
        adapts=adapts,
        **_rule_numbers(rule),
        gating=gate_code,
        gate_layer=gate_layer,
        firing=noise_code,
        noise_shape=int(Shape[family.upper()]) if family else 0,
        noise_sharpness=sharpness,
        noise_layer=noise_layer,
    )
    return args if saves else args._replace(saves=int(Saved.NOTHING))


_known_kernel_args = lru_cache(maxsize=1024)(_kernel_args)


def _rule_numbers(rule: TimeRule) -> dict[str, Any]:
    time, saves = Time.RECURSION, Saved.NOTHING
    surrogate = TRIANGLE_RECURSION.surrogate  # where the rule has none, it is not read
    slopes = edges = (0.0, 0.0)
    if isinstance(rule, RateSlope):
        time, slopes = Time.RATE_SLOPE, (rule.slope, rule.upper_slope)
        saves = Saved.FIRED if rule.edges is None else Saved.MEAN_DRIVE
        edges = rule.edges or edges
    else:
        surrogate = rule.surrogate
    if isinstance(rule, TimeAverage):
        time = Time.AVERAGE
    if isinstance(rule, Recursion) and rule.compact:
        saves = Saved.MEMBRANE
    return {
        "time": int(time),
        "detach_reset": isinstance(rule, Recursion) and rule.detach_reset,
        "surrogate_shape": int(Shape[surrogate.family.upper()]),
        "surrogate_sharpness": surrogate.sharpness,
        "surrogate_scale": surrogate.scale,
        "surrogate_floor": surrogate.floor,
        "saves": int(saves),
        "lower_edge": edges[0],
        "upper_edge": edges[1],
        "lower_slope": slopes[0],
        "upper_slope": slopes[1],
    }


def _randomness(source: Gate | NoisyFiring) -> int:
    return int(Randomness.MEAN if source.mean else Randomness.DRAW)
