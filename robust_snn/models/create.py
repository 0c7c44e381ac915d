"""Building a model by name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import timm
from torch import nn

from robust_snn.models.encodings import RELEASED_STATISTICS, DirectEncoding
from robust_snn.utils.errors import InputError, unknown
from robust_snn.utils.known_device import known_device

if TYPE_CHECKING:
    from robust_snn.data import OpenImageSet

WEIGHTS = (".safetensors", ".pth", ".pt", ".ckpt", ".bin")  # files that are taken for models
LARGEST = 1e6  # of an argument; beyond it memory ends, sooner or later


def create_network(name: str, **kwargs: Any) -> nn.Module:
    """`timm.create_model` with errors of one line.

    Args:
        name: Registered name, or `local-dir:` and `hf-hub:` addresses.
        **kwargs: Arguments of the model, such as `T=8` or `num_classes=10`.

    Raises:
        InputError: If the name is not registered or an argument does not fit.
    """
    if not name.startswith(("local-dir:", "hf-hub:")):
        check_model_name(name)
    architecture, _, tag = name.partition(".")
    if tag and timm.is_model(architecture) and not timm.is_model_pretrained(name):
        trained = timm.list_pretrained(f"{architecture}.*") or timm.list_pretrained("snn_*")
        raise unknown("trained network", name, trained)
    for key, value in kwargs.items():
        if isinstance(value, int | float) and abs(value) > LARGEST:
            raise InputError(f"cannot build {name}: {key}={value!r:.40} is beyond {LARGEST:g}")
    if kwargs.get("device") is not None:
        known_device(kwargs["device"], "device of the model")
    try:
        network: nn.Module = timm.create_model(name, **kwargs)
    except InputError:
        raise
    except Exception as error:  # whatever sizes that cannot be come to in PyTorch
        line = " ".join(f"{error}".split()) or type(error).__name__
        raise InputError(f"cannot build {name}: {line}") from error
    return network


def check_model_name(name: str) -> None:
    """Raises `InputError` unless a model of that name is registered."""
    if name.endswith(".py"):
        raise InputError(f"name the function in {name} that makes the network: {name}:make_net")
    if timm.is_model(name.split(".")[0]):
        return
    if Path(name).suffix in WEIGHTS or Path(name).exists():
        raise InputError(
            f"'{name}' is a path, and no name of a model: give weights as --checkpoint FILE, from "
            "Python by robust_snn.training.load_model(FILE), and code as file.py:make_net"
        )
    raise unknown("model", name, timm.list_models("snn_*"))


def fitted_kwargs(model: str, kwargs: Mapping[str, Any], data: OpenImageSet) -> dict[str, Any]:
    """Arguments of a model for some data; those that are given win.

    Args:
        model: Registered name.
        kwargs: Arguments that were asked for.
        data: Where number of classes, channels, image size, the steps of event frames, and the
            statistics of CIFAR-100, SVHN and Tiny-ImageNet, known by how the name of the set
            begins, come from if they are left out.
    """
    height, width = data.images.shape[-2:]
    fitted: dict[str, Any] = {"num_classes": len(data.classes), "in_chans": data.images.shape[-3]}
    if model.startswith("snn_"):  # not every model of timm is built for one size
        fitted["img_size"] = height if height == width else (height, width)
        if data.images.ndim == 5:
            fitted["T"] = data.images.shape[1]
        elif data.images.shape[1] == 3 and "_poisson" not in model:
            fitted |= _statistics(data.name)
    return {**fitted, **kwargs}


def _statistics(data: str) -> dict[str, list[float]]:
    """Mean and deviation of a set that models are not built for by default, as arguments."""
    name = re.sub("[^a-z0-9]", "", data.lower())
    for known, statistics in RELEASED_STATISTICS.items():
        if known != "cifar10" and name.startswith(known):
            return dict(zip(("mean", "std"), map(list, statistics), strict=True))
    return {}


def recorded_kwargs(net: nn.Module, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that a network was built with, and its time steps where those are a default."""
    encoder = getattr(net, "encoder", None)
    default = {"T": encoder.steps} if isinstance(encoder, DirectEncoding) else {}
    return {**default, **kwargs}
