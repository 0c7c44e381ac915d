"""The stages of a backbone while it is built, and stems for small and for large images."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from torch import nn

from robust_snn.models.backbone import Trunk
from robust_snn.models.time_layers import TimeMaxPool2d
from robust_snn.utils.errors import unknown

STEMS = ("small", "imagenet")
Stem = Literal["small", "imagenet"]


@dataclass
class Stages:
    """What of a trunk is built.

    Attributes:
        size: Height and width of what comes next.
        modules: The stages.
        channels: Channels after each.
        sizes: Height and width after each.
    """

    size: tuple[int, int]
    modules: list[nn.Module] = field(default_factory=list)
    channels: list[int] = field(default_factory=list)
    sizes: list[tuple[int, int]] = field(default_factory=list)

    def halve(self) -> tuple[int, int]:
        """Notes a convolution of stride 2 that pads, and gives the size of what comes next."""
        self.size = -(-self.size[0] // 2), -(-self.size[1] // 2)
        return self.size

    def pool(self) -> tuple[int, int]:
        """Notes a 2x2 pooling, which drops an odd row, and gives the size of what comes next."""
        self.size = self.size[0] // 2, self.size[1] // 2
        return self.size

    def end(self, blocks: list[nn.Module], channels: int) -> None:
        """Ends a stage."""
        self.modules.append(nn.Sequential(*blocks))
        self.channels.append(channels)
        self.sizes.append(self.size)

    def trunk(self, norm: nn.Module, head: nn.Module, width: int | None = None) -> Trunk:
        """The trunk, with a head of so many features; it keeps the channels if left out."""
        width = self.channels[-1] if width is None else width
        return Trunk(self.modules, self.channels, self.sizes, norm, head, width)


def check_stem(stem: str) -> bool:
    """Whether a stem is that of ImageNet, 7x7 with stride 2, and not 3x3 for small images.

    Raises:
        InputError: If it is neither.
    """
    if stem not in STEMS:
        raise unknown("stem", stem, STEMS)
    return stem == "imagenet"


def halving_pool() -> TimeMaxPool2d:
    """The 3x3 max pooling of stride 2 that ResNets and spiking transformers have."""
    return TimeMaxPool2d(3, stride=2, padding=1)


def in_heads(base: int, heads: int, width: float) -> int:
    """A number of channels, scaled, that heads share equally."""
    return heads * max(1, round(base * width / heads))
