"""From images or event frames to a time axis: what the first layer of a backbone is given."""

from __future__ import annotations

from typing import Any

import torch
from timm.models import register_notrace_module
from torch import Tensor, nn

from robust_snn.neurons import PoissonEncoder
from robust_snn.utils.errors import InputError
from robust_snn.utils.values import number

# Statistics of CIFAR-10, as the three papers use them. Two channels are the polarities of events,
# many are the frequencies of a cochlea, and both stay as they are; others take the colours' mean.
CIFAR10_MEAN, CIFAR10_STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)

# Mean and deviation that the releases of StoG and stable SNN normalise images by.
RELEASED_STATISTICS = {
    "cifar10": (CIFAR10_MEAN, CIFAR10_STD),
    "svhn": ((0.4376821, 0.4437697, 0.47280442), (0.19803012, 0.20101562, 0.19703614)),
    "cifar100": ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
    "tinyimagenet": ((0.480, 0.448, 0.398), (0.272, 0.266, 0.274)),
}


def default_statistics(in_chans: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per input channel."""
    if in_chans == 3:
        return CIFAR10_MEAN, CIFAR10_STD
    if in_chans == 2 or in_chans > 4:
        return (0.0,) * in_chans, (1.0,) * in_chans
    return (sum(CIFAR10_MEAN) / 3,) * in_chans, (sum(CIFAR10_STD) / 3,) * in_chans


def _numbers(values: Any, what: str) -> tuple[float, ...]:
    """Numbers, one per channel."""
    if not isinstance(values, tuple | list):
        raise InputError(
            f"{what} needs one number per channel, as in (0.5, 0.5, 0.5), got {values!r}"
        )
    return tuple(number(value, what) for value in values)


@register_notrace_module
class DirectEncoding(nn.Module):
    """Normalises images in [0, 1] and gives them a time axis.

    A static image becomes one step `[1, B, C, H, W]`, which the first spiking layer presents at
    every time step, so everything before that layer runs once. Event frames keep their steps; a
    single frame counts as a static image.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        in_chans: int,
        steps: int,
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
    ) -> None:
        super().__init__()
        default_mean, default_std = default_statistics(in_chans)
        mean = _numbers(default_mean if mean is None else mean, "mean")
        std = _numbers(default_std if std is None else std, "std")
        if not len(mean) == len(std) == in_chans:
            raise InputError(
                f"mean and std need one number per channel: {in_chans}, got {len(mean)}, {len(std)}"
            )
        if min(std) <= 0:
            raise InputError(f"std must be above 0 in every channel, got {min(std):g}")
        self.in_chans = in_chans
        self.steps = steps
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)

    @property
    def out_chans(self) -> int:
        """Channels of what it gives."""
        return self.in_chans

    def forward(self, x: Tensor) -> Tensor:
        """Maps `[B, C, H, W]` to `[1, B, C, H, W]`, or `[B, T, C, H, W]` to `[T, B, C, H, W]`."""
        if x.dim() not in (4, 5) or x.shape[-3] != self.in_chans:
            raise InputError(
                f"expected images [B, {self.in_chans}, H, W] or event frames "
                f"[B, T, {self.in_chans}, H, W], got {tuple(x.shape)}"
            )
        return self.encode(x.unsqueeze(0) if x.dim() == 4 else x.transpose(0, 1))

    def encode(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


@register_notrace_module
class PoissonEncoding(DirectEncoding):
    """Turns images in [0, 1] into Poisson spike trains `[T, B, C, H, W]`, which are not normalised.

    The values of event frames are spiking probabilities in the same way, one draw per frame.
    """

    def __init__(
        self,
        in_chans: int,
        steps: int,
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
    ) -> None:
        if mean is not None or std is not None:
            raise InputError("Poisson coding samples the pixels themselves: drop mean and std")
        super().__init__(in_chans, steps)
        self.spikes = PoissonEncoder()

    def encode(self, x: Tensor) -> Tensor:
        return self.spikes(x, self.steps if x.shape[0] == 1 else x.shape[0])
