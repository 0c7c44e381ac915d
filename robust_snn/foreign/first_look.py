"""The first look at a network that comes without images: noise of a shape that it runs on."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from robust_snn.foreign.foreign_net import ForeignSNN
from robust_snn.foreign.study import NotRunnable

SIDES = (32, 28, 64, 16, 8, 48, 128, 224)  # of square images
CHANNELS = (1, 3, 2)


def noise(net: nn.Module) -> Iterator[Tensor]:
    """Noise `[3, C, H, W]` of the shapes that a network may take, likely ones first."""
    generator = torch.Generator().manual_seed(0)
    device = next((p.device for p in net.parameters()), torch.device("cpu"))
    for shape in _shapes(net):
        yield torch.rand(3, *shape, generator=generator).to(device)


def look(net: ForeignSNN) -> bool:
    """Studies a network on noise, and says whether a shape was found that it runs on.

    Raises:
        InputError: If it runs, but not so that its caller could use it as it is.
    """
    for images in noise(net.net):
        try:
            net.study(images)
        except NotRunnable:
            continue
        return True
    return False


def _shapes(net: nn.Module) -> Iterator[tuple[int, int, int]]:
    """Likely shapes of an image, from the first layer that has weights."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            yield from ((module.in_channels, side, side) for side in SIDES)
            return
        if isinstance(module, nn.Linear):
            for channels in CHANNELS:
                side = round((module.in_features / channels) ** 0.5)
                if channels * side**2 == module.in_features:
                    yield channels, side, side
            return
