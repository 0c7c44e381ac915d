"""Networks whose answer follows how often they were called, by a number that they keep.

Such a number is put back before every call of a victim, so the network looks deterministic.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from robust_snn.foreign.hidden_state import Key, restore
from robust_snn.foreign.library import find_states
from robust_snn.foreign.runnable import Study
from robust_snn.foreign.shown_net import ShownNet
from robust_snn.kernels import sample_keys
from robust_snn.neurons.pass_settings import keyed

CALLS = 12  # among which an answer has to change


@torch.no_grad()
def changing_with_calls(net: ShownNet, x: Tensor, found: Study) -> str | None:
    """Names the numbers that a network keeps, if they change its answer within some calls.

    Args:
        net: A network that runs its steps itself; others keep numbers from step to step.
        x: Two images or more.
        found: How it is run.
    """
    known = {module for module, _ in find_states(net.net)}
    numbers = [
        key
        for key, value in net.rest.items()
        if net.net.get_submodule(key[0]) not in known and _is_number(value)
    ]
    if net.T is not None or not numbers:
        return None
    keys = sample_keys(0, torch.arange(len(x), device=x.device))
    with keyed(keys), _going_on(net, numbers):  # so that a random network answers alike
        net.with_own_neurons(x, found)
        numbers = [key for key in numbers if _is_number(_value(net, key))]  # not a membrane
    with keyed(keys), _going_on(net, numbers):
        first = net.with_own_neurons(x, found)
        others = (net.with_own_neurons(x, found) for _ in range(CALLS if numbers else 0))
        if all(torch.equal(first, logits) for logits in others):
            return None
    return ", ".join(".".join(filter(None, key)) for key in numbers)


@contextmanager
def _going_on(net: ShownNet, numbers: list[Key]) -> Iterator[None]:
    """Leaves some of what a network keeps as it is from one call to the next."""
    rest: Mapping[Key, Any] = net.rest
    net.rest = {key: value for key, value in rest.items() if key not in numbers}
    try:
        yield
    finally:
        net.rest = dict(rest)
        restore(net.net, rest)


def _value(net: ShownNet, key: Key) -> Any:
    return getattr(net.net.get_submodule(key[0]), key[1], None)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) or (isinstance(value, Tensor) and value.dim() == 0)
