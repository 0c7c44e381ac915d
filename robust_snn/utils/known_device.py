"""Devices that a user names: those that compute, and are there."""

from __future__ import annotations

import torch

from robust_snn.utils.errors import InputError


def known_device(name: str | torch.device, what: str = "device") -> torch.device:
    """The device of a name.

    Args:
        name: Such as `"cpu"` or `"cuda:1"`.
        what: What messages call it.

    Raises:
        InputError: If there is no such device here.
    """
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError, ValueError):
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda"):
        raise InputError(f"{what} must be cpu, cuda or auto, got '{name}'")
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise InputError(f"{what} {name}: PyTorch sees no CUDA device here; use cpu")
        if (device.index or 0) >= (count := torch.cuda.device_count()):
            raise InputError(f"{what} {name}: there are {count}, numbered from 0")
    elif device.index:
        raise InputError(f"{what} {name}: there is one cpu; use cpu")
    return device
