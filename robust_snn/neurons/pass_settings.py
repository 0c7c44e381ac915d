"""The settings of a forward pass that its layers read, such as random keys and gradient modes.

They are one frozen object in one context variable. So nothing of a call is left on a network that
another thread may be running too, and gradient checkpointing, which recomputes a block later, only
has to keep that one object.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

from torch import Tensor, nn

from robust_snn.gradients import GradientMode, parse_mode
from robust_snn.kernels import Dynamics, LayerStatistics, Rule, SharpnessMemory
from robust_snn.utils.modules import modules_of


class DrawKeys(NamedTuple):
    """Sample keys `[B]` of one draw, whether its mean field replaces it, its layer's address."""

    keys: Tensor
    mean: bool = False
    layer: int = 0


class LayerGradient(NamedTuple):
    """The gradient mode of one layer, and what the layer has learned in the attack run."""

    mode: GradientMode
    statistics: LayerStatistics | None = None

    def rule(self, dynamics: Dynamics) -> Rule:
        """The mode as a rule of the kernels, for neurons of these dynamics."""
        return self.mode.rule(dynamics, self.statistics)


class LayerConstants(NamedTuple):
    """What layers compute from fixed parameters, made for the whole network at once.

    Attributes:
        affine: Scale and shift, each `[C]`, by batch norm.
        opening: Opening probabilities, shaped as one sample, by gate.
        weights: Weights in the type and layout of the activations, by convolution.
    """

    affine: Mapping[nn.Module, tuple[Tensor, Tensor]] = {}
    opening: Mapping[nn.Module, Tensor] = {}
    weights: Mapping[nn.Module, Tensor] = {}


class PassSettings(NamedTuple):
    """Everything about a forward pass that is not in the network.

    Attributes:
        keys: Random keys of the samples `[B]`; if left out, every noisy module makes its own.
        mean_field: Whether every draw is replaced by its mean.
        layers: Address of noisy modules in the random stream; others have their own `layer`.
        gradients: Gradient mode by neuron; others have the mode that they were built with.
        constants: Constants of layers; a layer that has none here makes its own.
        fused_norm: Whether batch norms in eval mode run as an affine map in the spiking kernel.
        sparse: Setting of `kernels.convolve`, which then runs the convolutions whose weights are
            fixed; None for PyTorch's own convolution.
        every_step: Whether readouts keep the time axis, `[T * B, ...]`.
        drawn: Samples that modules have drawn for in this pass, if that counts; see `one_pass`.
        grouping: How a network that passes other batches than it gets forms them, a row of
            `GROUPINGS`; None where it does not, or where that is not known yet.
        recorded: Where the keys of every draw are noted, in order.
        replayed: Keys to draw with, in the order in which they were recorded.
    """

    keys: Tensor | None = None
    mean_field: bool = False
    layers: Mapping[nn.Module, int] = {}
    gradients: Mapping[nn.Module, LayerGradient] = {}
    constants: LayerConstants = LayerConstants()
    fused_norm: bool = False
    sparse: str | None = None
    every_step: bool = False
    drawn: dict[nn.Module, int] | None = None
    grouping: str | None = None
    recorded: list[DrawKeys] | None = None
    replayed: Iterator[DrawKeys] | None = None

    def repeated(self) -> PassSettings:
        """The settings for repeating a pass: its recorded draws, statistics as it left them."""
        gradients = {
            neuron: gradient
            if gradient.statistics is None
            else gradient._replace(statistics=gradient.statistics._replace(learning=False))
            for neuron, gradient in self.gradients.items()
        }
        replayed = iter(self.recorded or ())
        return self._replace(gradients=gradients, recorded=None, replayed=replayed)


_PLAIN = PassSettings()
_settings: ContextVar[PassSettings] = ContextVar("pass_settings", default=_PLAIN)


def current_settings() -> PassSettings:
    """The settings that are in force."""
    return _settings.get()


@contextmanager
def use_settings(settings: PassSettings) -> Iterator[None]:
    """Runs forward passes under these settings and no others."""
    token = _settings.set(settings)
    try:
        yield
    finally:
        _settings.reset(token)


def change_settings(**changes: Any) -> AbstractContextManager[None]:
    """Runs forward passes under the current settings with some fields changed."""
    return use_settings(_settings.get()._replace(**changes))


def keyed(keys: Tensor, mean: bool = False) -> AbstractContextManager[None]:
    """Lets every draw use the given sample keys `[B]`, or its mean; see also `one_pass`."""
    return change_settings(keys=keys, mean_field=mean)


def one_pass() -> AbstractContextManager[None]:
    """Inside is one pass: a module that is used again in it draws anew, as once per time step."""
    return change_settings(drawn={})


def fused_norm(enabled: bool = True) -> AbstractContextManager[None]:
    """Runs batch norms in eval mode as an affine map in the spiking kernel.

    That saves two passes over memory and is exact up to rounding, which can move a spike.
    """
    return change_settings(fused_norm=enabled)


@contextmanager
def gradient_mode(module: nn.Module, mode: str | GradientMode) -> Iterator[None]:
    """Gives every neuron inside `module` another gradient mode; other neurons keep theirs.

    Statistics that a mode collects, as ASSG does, last as long as the context.

    Raises:
        InputError: If the mode is not known.
    """
    gradients = layer_gradients(module, parse_mode(mode), SharpnessMemory())
    with change_settings(gradients={**current_settings().gradients, **gradients}):
        yield


def layer_gradients(
    net: nn.Module,
    mode: GradientMode,
    memory: SharpnessMemory,
    modules: Iterable[nn.Module] | None = None,
) -> dict[nn.Module, LayerGradient]:
    """One gradient mode for every neuron of a network or a part of one.

    Args:
        net: The network.
        mode: The mode.
        memory: Statistics of the attack run, for modes that accumulate some.
        modules: Those of the network, where they are at hand.
    """
    if not mode.accumulates:
        modules = modules_of(net) if modules is None else modules
        return dict.fromkeys(filter(is_neuron, modules), LayerGradient(mode))
    return {
        neuron: LayerGradient(mode, LayerStatistics(memory, name))
        for name, neuron in net.named_modules()
        if is_neuron(neuron)
    }


def is_neuron(module: nn.Module) -> bool:
    """Whether a module has a gradient mode that the settings of a pass can replace."""
    found = vars(module).get("gradient")
    return found is not None and isinstance(found, GradientMode)  # which asks abstract classes


def layer_gradient(neuron: nn.Module) -> LayerGradient:
    """The gradient mode of a neuron in this pass: that of the settings, or its own `gradient`."""
    gradients = _settings.get().gradients
    if gradients and neuron in gradients:
        return gradients[neuron]
    return LayerGradient(neuron.gradient)  # type: ignore[arg-type]
