"""torchattacks' tests of every attack, on victims of ours and digits in place of CIFAR-10."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import timm
import torch
import torchattacks  # noqa: F401  before its tests change the path

import robust_snn
from robust_snn.victim.scoring import accuracy

MODEL = "snn_vgg5_stog.digits"


def load_model(*args: Any, **kwargs: Any) -> robust_snn.Victim:
    """In place of RobustBench's function of the name."""
    net = timm.create_model(MODEL, pretrained=True).eval()
    return robust_snn.adapt(net, channels=1, noise="frozen")


def load_images(n_examples: int, **kwargs: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """In place of RobustBench's `load_cifar10`."""
    data = robust_snn.data.load_dataset("digits", n=n_examples)
    return data.images.repeat(1, 3, 1, 1), data.labels  # some attacks know three channels only


robustbench, utils, data = map(ModuleType, ("robustbench", "robustbench.utils", "robustbench.data"))
vars(utils).update(load_model=load_model, clean_accuracy=accuracy)
vars(data).update(load_cifar10=load_images)
sys.modules.update({module.__name__: module for module in (robustbench, utils, data)})
