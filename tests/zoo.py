"""The registered spiking networks, small enough for tests."""

from __future__ import annotations

from typing import Any

import timm
import torch
from torch import nn

import robust_snn  # noqa: F401  registers the models
from robust_snn.models import MECHANISMS
from robust_snn.neurons import set_noise

NAMES = timm.list_models("snn_*")
BACKBONES = [name for name in NAMES if name.rsplit("_", 1)[-1] not in MECHANISMS]

NARROW: dict[str, dict[str, Any]] = {
    "vgg5": {"width": 1 / 8, "head_width": 32},
    "vgg11": {"width": 1 / 16, "head_width": 32},
    "wrn16": {"width": 1 / 8},
}


def narrow(name: str, noise: str = "frozen", **kwargs: Any) -> nn.Module:
    """Builds a registered network with few channels, in eval mode, with a noise policy."""
    torch.manual_seed(0)
    backbone = name.split("_")[1]
    net = timm.create_model(name, **{"T": 4, **NARROW[backbone], **kwargs})
    set_noise(net, noise, seed=0)
    return net.eval()


def awake(net: nn.Module, *shape: int) -> nn.Module:
    """Gives the batch norms statistics, so that every layer fires: `shape` is that of an input."""
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        net.train()(torch.rand(4, *shape))
    for norm in norms:
        norm.momentum = 0.1
    return net.eval()
