"""The registered spiking networks, small enough for tests."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import timm
import torch
from torch import nn

import robust_snn  # noqa: F401  registers the models
from robust_snn.models import MECHANISMS
from robust_snn.neurons import set_noise

ALL = timm.list_models("snn_*")
BACKBONES = [name for name in ALL if name.rsplit("_", 1)[-1] not in MECHANISMS]
# Every backbone alone and with gates, which are noise, parameters and shapes at once, and every
# mechanism on the backbones with a chain, with skip connections and with pooled sums.
EVERY_MECHANISM = ("snn_vgg5", "snn_resnet20", "snn_sew7b")
NAMES = [
    name
    for name in ALL
    if name in BACKBONES or name.endswith("_stog") or name.startswith(EVERY_MECHANISM)
]

# A backbone without a row has an eighth of its channels.
NARROW: dict[str, dict[str, Any]] = defaultdict(lambda: {"width": 1 / 8})
NARROW |= {
    "cifarnet": {"width": 1 / 16, "head_width": (32, 16)},
    "resnet18": {"width": 1 / 8},
    "resnet19": {"width": 1 / 16},
    "resnet20": {"width": 1 / 2},
    "sew7b": {"width": 1 / 4},
    "msresnet34": {"width": 1 / 16},
    "qkformer": {"width": 1 / 6, "threshold": 0.4},  # so few channels spike little
    "resformer": {"width": 1 / 8, "depths": (1, 1, 1)},
    "sdt": {"width": 1 / 8, "threshold": 0.4},
    "sdt3": {"width": 1 / 4, "depths": (1, 1, 1, 1, 1)},
    "sew34": {"width": 1 / 16},
    "spikformer": {"width": 1 / 8, "depth": 2, "threshold": 0.4},
    "vgg5": {"width": 1 / 8, "head_width": 32},
    "vgg11": {"width": 1 / 16, "head_width": 32},
    "vgg13": {"width": 1 / 16, "head_width": 32},
    "vgg16": {"width": 1 / 16, "head_width": 32},
    "vggsnn": {"width": 1 / 16},
    "wrn16": {"width": 1 / 8},
    "wrn28": {"width": 1 / 16},
}

# Five poolings by two need a larger image than the other networks are tested with.
LARGE = ("vgg13", "vgg16")


def size_of(name: str) -> int:
    """Height and width of the images that `narrow` builds a network for."""
    return 32 if name.split("_")[1] in LARGE else 16


def images(name: str, batch: int = 2, channels: int = 3) -> torch.Tensor:
    """The same random images on every call, `[batch, channels, size, size]`."""
    size = size_of(name)
    return torch.rand(batch, channels, size, size, generator=torch.Generator().manual_seed(0))


def narrow(name: str, noise: str = "frozen", **kwargs: Any) -> nn.Module:
    """Builds a registered network with few channels, in eval mode, with a noise policy."""
    torch.manual_seed(0)
    backbone = name.split("_")[1]
    arguments = {"T": 4, "img_size": size_of(name), **NARROW[backbone], **kwargs}
    net = timm.create_model(name, **arguments)
    set_noise(net, noise, seed=0)
    # not by torch.get_default_device, which fails before PyTorch 2.10 once one was taken back
    return net.eval().to(torch.empty(0).device)


def awake(net: nn.Module, x: torch.Tensor) -> nn.Module:
    """Gives the batch norms the statistics of `x`, so that every layer fires."""
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        net.train()(x)
    for norm in norms:
        norm.momentum = 0.1
    return net.eval()
