"""A network that a user's own function makes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from robust_snn.utils.errors import InputError
from robust_snn.utils.user_function import load_function, short_reference


def make_network(reference: str, kwargs: Mapping[str, Any]) -> tuple[nn.Module, dict[str, Any]]:
    """Calls the function that a user names, which runs the code of its file.

    PyTorch's random numbers start from the same seed every time, so that a network without a
    checkpoint is the same network when a command is started again.

    Args:
        reference: `file.py:make_net` or `package.module:make_net`.
        kwargs: Arguments of the function.

    Returns:
        The network, and the arguments of the function, those by default among them.

    Raises:
        InputError: If there is no such function, it does not take the arguments, raises, or returns
            something else than a network.
    """
    made = load_function(reference)
    name = short_reference(reference)
    if isinstance(made.function, nn.Module):
        raise InputError(f"{name} is a network; name a function that returns it")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = made.result(**kwargs)
    if not isinstance(net, nn.Module):
        raise InputError(f"{name} returned {type(net).__name__}, expected a torch.nn.Module")
    return net, made.arguments(**kwargs)
