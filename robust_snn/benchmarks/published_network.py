"""A wide residual network as papers write it, ours beside it, and its convolutions alone."""

from __future__ import annotations

import copy
from collections.abc import Callable
from types import UnionType
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robust_snn.benchmarks.layer_speed import plain_loop
from robust_snn.kernels.convolution.api import Geometry, convolution_input_gradient
from robust_snn.models.encodings import DirectEncoding
from robust_snn.neurons import LIF, NormSpike, StochasticGate

RATES = (0.24, 0.08)  # of the first and last layer of a trained net


class PlainNeurons(nn.Module):
    """The plain loop, and a gate that PyTorch draws."""

    def __init__(self, neurons: Any) -> None:
        super().__init__()
        self.decay, self.gate = neurons.dynamics.decay, neurons.gate

    def forward(self, current: Tensor, steps: int, affine: object = None) -> Tensor:
        spikes = plain_loop(current, self.decay)
        if self.gate is None:
            return spikes
        return spikes * (torch.rand_like(spikes) < self.gate.opening).float()


class Repeated(nn.Module):
    """Normalises an image and repeats it for every step."""

    def __init__(self, encoding: DirectEncoding, steps: int) -> None:
        super().__init__()
        self.encoding, self.steps = encoding, steps

    def forward(self, x: Tensor) -> Tensor:
        return self.encoding(x).repeat(self.steps, 1, 1, 1, 1)


def as_published(
    net: nn.Module, steps: int, neurons: Callable[[Any], nn.Module] = PlainNeurons
) -> nn.Module:
    """The same network and weights with other neurons, and every step's image written out."""
    twin: Any = copy.deepcopy(net)
    for module in list(twin.modules()):
        if isinstance(getattr(module, "neuron", None), LIF):
            module.neuron = neurons(module.neuron)
    twin.encoder = Repeated(twin.encoder, steps)
    whole: nn.Module = twin
    return whole


@torch.no_grad()
def network_with_rates(
    steps: int = 8,
    gated: bool = False,
    width: float = 1.0,
    batch: int = 8,
    device: str | torch.device = "cpu",
) -> nn.Module:
    """WRN-16-4 with random weights and the firing rates of a trained net, in eval mode."""
    torch.manual_seed(0)
    name = "snn_wrn16_stog" if gated else "snn_wrn16"
    net = timm.create_model(name, T=steps, width=width).to(device)
    x = torch.rand(batch, 3, 32, 32).to(device)
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    layers = [m for m in net.modules() if isinstance(m, NormSpike)]
    for layer in layers:
        if isinstance(layer.neuron.gate, StochasticGate):
            layer.neuron.gate.probability.fill_(0.9)
        hook = _ShiftToRate(
            layer, RATES[0] + (RATES[1] - RATES[0]) * layers.index(layer) / len(layers)
        )
        layer.norm.register_forward_hook(hook)
    net.train()(x)
    for layer in layers:
        layer.norm._forward_hooks.clear()
    return net.eval()


class _ShiftToRate:
    """Shifts a norm while it runs so that its neurons fire at a rate."""

    def __init__(self, layer: Any, rate: float) -> None:
        self.layer, self.rate, self.decay = layer, rate, layer.neuron.dynamics.decay

    def __call__(self, norm: nn.BatchNorm2d, inputs: tuple[Tensor], out: Tensor) -> Tensor:
        low, high, neuron = -3.0, 1.0, LIF(self.decay)
        for _ in range(7):
            shift = (low + high) / 2
            drive = (out + shift).expand(self.layer.steps, *out.shape[1:])
            fires = float(neuron(drive).mean()) > self.rate
            low, high = (low, shift) if fires else (shift, high)
        norm.bias.data.fill_(shift)
        return out + shift


@torch.no_grad()
def layer_inputs(
    net: nn.Module, x: Tensor, kinds: type[nn.Module] | UnionType
) -> list[tuple[Any, Tensor]]:
    """Every layer of these kinds, in the order of their calls, and its input."""
    calls: list[tuple[Any, Tensor]] = []
    layers = [m for m in net.modules() if isinstance(m, kinds)]
    hooks = [m.register_forward_pre_hook(lambda m, x: calls.append((m, x[0]))) for m in layers]
    net(x)
    for hook in hooks:
        hook.remove()
    return calls


def convolutions_alone(
    net: nn.Module, x: Tensor, dtype: torch.dtype = torch.float32, channels_last: bool = False
) -> dict[str, Callable[[], object]]:
    """Forward and input gradient of every convolution of a published net, and the forward alone."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    calls: list[tuple[Tensor, Tensor, Any]] = []
    for conv, inputs in layer_inputs(net, x, nn.Conv2d):
        geometry = Geometry(conv.stride, tuple(map(int, conv.padding)), conv.dilation, conv.groups)
        images, weight = (
            tensor.to(dtype).contiguous(memory_format=layout)
            for tensor in (inputs.flatten(0, 1), conv.weight.detach())
        )
        calls.append((images, weight, geometry))

    def forward() -> list[Tensor]:
        return [F.conv2d(x, w, None, *g) for x, w, g in calls]

    def both() -> None:
        for x, w, g in calls:
            convolution_input_gradient(x.shape, w, F.conv2d(x, w, None, *g), g)

    return {"convolutions, forward": forward, "convolutions": both}
