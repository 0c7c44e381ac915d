"""From spikes to features without a time axis: readouts over time, and the heads around them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Literal

import torch
from timm.models import register_notrace_module
from torch import Tensor, nn

from robust_snn.kernels.convolution.constant_gradients import unread_input
from robust_snn.neurons import change_settings, current_settings, each_step, over_time
from robust_snn.utils.errors import InputError, unknown

READOUTS = ("mean", "membrane")


@register_notrace_module
class Readout(nn.Module):
    """Takes the time axis out of spikes `[T, B, ...]`.

    The linear classifier behind it commutes with any weighting of time.

    Args:
        kind: `"mean"`, or `"membrane"` for the last potential of a neuron that leaks like the
            others and never fires, scaled so that a constant input gives the same as the mean.
        decay: Leak of that neuron.

    Raises:
        InputError: If the kind is not known.
    """

    def __init__(self, kind: Literal["mean", "membrane"], decay: float) -> None:
        super().__init__()
        if kind not in READOUTS:
            raise unknown("readout", kind, READOUTS)
        self.decay = decay if kind == "membrane" else 1.0

    def forward(self, x: Tensor) -> Tensor:
        if current_settings().every_step:
            return x.flatten(0, 1)
        if self.decay == 1.0:
            return x.sum(0) / len(x)  # the gradient of a mean would be written at every step
        age = torch.arange(x.shape[0] - 1, -1, -1, device=x.device)
        weights = (self.decay**age).to(x.dtype)
        return torch.tensordot(weights / weights.sum(), x, dims=1)


@contextmanager
def every_step(net: nn.Module) -> Iterator[None]:
    """Lets the network give the logits of every step, `[T * B, K]`, for losses such as TET's.

    Raises:
        InputError: If the network has no readout of this package.
    """
    check_readout(net)
    with change_settings(every_step=True):
        yield


def step_logits(net: nn.Module, images: Tensor) -> Tensor:
    """Logits of every time step, `[T, B, K]`; under the mean readout, their mean are the logits.

    Raises:
        InputError: If the network is none of this package's.
    """
    with every_step(net):
        logits: Tensor = net(images)
    return logits.unflatten(0, (-1, len(images)))


class OneStep(nn.Module):
    """A network that answers with the logits of one of its steps alone, a sub-network in time.

    Args:
        net: A network of this package.
        share: Which step, as a share of them in [0, 1): 0 is the first.
    """

    def __init__(self, net: nn.Module, share: float) -> None:
        super().__init__()
        self.net = net
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        """Maps images to logits `[B, K]`."""
        logits = step_logits(self.net, x)
        return logits[int(self.share * len(logits))]


def check_readout(net: nn.Module) -> None:
    """Refuses a network that cannot give the logits of every step.

    Raises:
        InputError: If the network has no readout of this package.
    """
    if not any(isinstance(module, Readout) for module in net.modules()):
        raise InputError(
            f"the logits of every step need a spiking network of this package, "
            f"got a {type(net).__name__}"
        )


class MeanPool(nn.Module):
    """Mean over space and readout over time: `[T, B, C, H, W]` to `[B, C]`."""

    def __init__(self, readout: Readout) -> None:
        super().__init__()
        self.readout = readout

    def forward(self, x: Tensor) -> Tensor:
        return self.readout(x).mean((-2, -1))


class LinearSpike(nn.Module):
    """Linear layer, spiking neurons."""

    def __init__(self, in_features: int, out_features: int, neuron: nn.Module) -> None:
        super().__init__()
        self.fc = nn.Linear(in_features, out_features)
        self.neuron = neuron

    def _pull(self, gradient: Tensor, shape: torch.Size) -> Tensor:
        """The gradient of the linear layer on its input `[T B, in_features]`."""
        return gradient @ self.fc.weight.to(gradient.dtype)  # autocast may have cast the layer

    def forward(self, x: Tensor, steps: int) -> Tensor:
        """Maps `[T, B, in_features]` to spikes `[steps, B, out_features]`."""
        if self.fc.weight.requires_grad:
            return self.neuron(self.fc(x), steps=steps)
        current = each_step(x, self.fc, self._pull)
        return self.neuron(current, steps=steps)


@register_notrace_module
class SpikingMLP(nn.Module):
    """Hidden spiking layers on flattened features, read out over time.

    Args:
        in_chans: Channels of the features.
        grid: Height and width that the weights expect; other sizes are pooled to it.
        widths: Neurons per hidden layer; without any, the features themselves are read out.
        neurons: The spiking layers.
        steps: Time steps that constant features `[1, B, C, H, W]` are presented for.
        readout: Takes the time axis out.
    """

    def __init__(
        self,
        in_chans: int,
        grid: tuple[int, int],
        widths: tuple[int, ...],
        neurons: list[nn.Module],
        steps: int,
        readout: Readout,
    ) -> None:
        super().__init__()
        self.grid = grid
        self.pool = nn.AdaptiveAvgPool2d(grid)
        self.steps = steps
        sizes = (in_chans * grid[0] * grid[1], *widths)
        self.layers = nn.ModuleList(map(LinearSpike, sizes, widths, neurons))
        self.readout = readout

    def _spread(self, gradient: Tensor, shape: torch.Size) -> Tensor:
        """The gradient of the pooling on its input."""
        if self.grid == (1, 1):
            return (gradient / shape[2:].numel()).expand(shape)
        unread = unread_input(gradient, shape)
        spread: Tensor = torch.ops.aten._adaptive_avg_pool2d_backward(gradient, unread)
        return spread

    def forward(self, x: Tensor) -> Tensor:
        """Maps `[T, B, C, H, W]` to what is read out of the last layer, `[B, width]`."""
        if x.shape[-2:] != self.grid:
            x = each_step(x, partial(over_time, self.pool), self._spread)
        steps = self.steps if x.shape[0] == 1 else x.shape[0]
        x = x.flatten(2)
        for layer in self.layers:
            x = layer(x, steps)
        return self.readout(x)
