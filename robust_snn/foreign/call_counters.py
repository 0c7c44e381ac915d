"""Networks whose answer follows how often they were called, by a count that they keep.

That is a number or the length of a list, in an attribute or deeper. It is put back before every
call of a victim, so the network looks deterministic, to where earlier calls have left it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robust_snn.foreign.hidden_state import MISSING, Key, copied, moving_leaves, restore
from robust_snn.foreign.library import find_states
from robust_snn.foreign.runnable import Study
from robust_snn.foreign.shown_net import ShownNet
from robust_snn.kernels import sample_keys
from robust_snn.neurons.pass_settings import keyed

CALLS = 12  # among which an answer has to change
Leaves = list[tuple[Any, Any]]  # what moves in an attribute: at rest, and after a call


@torch.no_grad()
def changing_with_calls(net: ShownNet, x: Tensor, found: Study) -> str | None:
    """Names the counts that a network keeps, if they change its answer within some calls.

    A network that is called once per step may count the steps of an image: then these are the
    counts that do not begin at zero.

    Args:
        net: The network.
        x: Two images or more.
        found: How it is run.
    """
    known, places = {module for module, _ in find_states(net.net)}, dict(net.net.named_modules())
    keys = [key for key in net.rest if key[0] in places and places[key[0]] not in known]
    if not keys:
        return None
    draws = sample_keys(0, torch.arange(len(x), device=x.device))
    rest = dict(net.rest)
    with keyed(draws), _going_on(net, keys):  # so that a random network answers alike
        net.with_own_neurons(x, found)
        now = {key: copied(getattr(places[key[0]], key[1], MISSING)) for key in keys}
    moving = {key: [*moving_leaves(rest[key], now[key])] for key in keys}
    counts = {key: leaves for key, leaves in moving.items() if _counts(leaves)}
    if net.T is not None:
        counts = {key: leaves for key, leaves in counts.items() if _begun(leaves)}
    with keyed(draws), _going_on(net, [*counts]):
        first = net.with_own_neurons(x, found)
        others = (net.with_own_neurons(x, found) for _ in range(CALLS if counts else 0))
        if all(torch.equal(first, logits) for logits in others):
            return None
    return ", ".join(_named(key, leaves) for key, leaves in counts.items())


@contextmanager
def _going_on(net: ShownNet, keys: list[Key]) -> Iterator[None]:
    """Leaves some of what a network keeps as it is from one call to the next."""
    rest: Mapping[Key, Any] = net.rest
    net.rest = {key: value for key, value in rest.items() if key not in keys}
    try:
        yield
    finally:
        net.rest = dict(rest)
        restore(net.net, rest)


def _counts(leaves: Leaves) -> bool:
    """Whether what moves are numbers, and no membrane."""
    return bool(leaves) and all(_is_number(now) for _, now in leaves)


def _is_number(value: Any) -> bool:
    if isinstance(value, Tensor | np.ndarray):
        return int(np.prod(value.shape)) == 1
    return isinstance(value, int | float | str | np.number)


def _begun(leaves: Leaves) -> bool:
    """Whether a count is not at zero, as of a network that was called before it was adapted."""
    return any(rest is not MISSING and bool(rest) for rest, _ in leaves)


def _named(key: Key, leaves: Leaves) -> str:
    """The name of a count, and where it begins if that is one number other than zero."""
    name = ".".join(filter(None, key))
    begins = [rest for rest, _ in leaves if rest is not MISSING]
    one = len(begins) == 1 and _is_number(begins[0]) and _begun(leaves)
    return f"{name} (from {np.asarray(begins[0]).item()})" if one else name
