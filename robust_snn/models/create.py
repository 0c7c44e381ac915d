"""Building a model by name."""

from __future__ import annotations

from typing import Any

import timm
from torch import nn

from robust_snn.utils.errors import InputError, unknown


def create_network(name: str, **kwargs: Any) -> nn.Module:
    """`timm.create_model` with errors of one line.

    Args:
        name: Registered name, or `local-dir:` and `hf-hub:` addresses.
        **kwargs: Arguments of the model, such as `T=8` or `num_classes=10`.

    Raises:
        InputError: If the name is not registered or an argument does not fit.
    """
    if not name.startswith(("local-dir:", "hf-hub:")) and not timm.is_model(name.split(".")[0]):
        raise unknown("model", name, timm.list_models("snn_*"))
    try:
        network: nn.Module = timm.create_model(name, **kwargs)
    except TypeError as error:
        raise InputError(f"cannot build {name}: {error}") from error
    return network
