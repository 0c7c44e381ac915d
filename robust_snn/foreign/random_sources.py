"""The generators that a network may draw from, all of which follow from one seed in its calls.

These are the global ones of PyTorch, NumPy and Python, and those that it keeps in its modules or
names in its files.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from robust_snn.foreign.outside_state import places_outside

KINDS = (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)


@contextmanager
def seeded(net: nn.Module, seed: int, device: torch.device) -> Iterator[None]:
    """Everything that a network draws from starts at a seed inside, and comes back afterwards."""
    sources = _sources(net)
    states = [_state(source) for source in sources]
    cuda = [device.index or 0] if device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=cuda):
            torch.manual_seed(seed)
            for number, source in enumerate(sources):
                _seed(source, (seed + number) % 2**32)
            yield
    finally:
        for source, state in zip(sources, states, strict=True):
            _set_state(source, state)


def fingerprints(net: nn.Module) -> list[Any]:
    """What tells whether a network has drawn in the meantime; of GPUs nothing."""
    return [_plain(torch.random.get_rng_state()), *(_plain(_state(s)) for s in _sources(net))]


def _sources(net: nn.Module) -> list[Any]:
    """Generators beside the global one of PyTorch, each once, in an order of their own."""
    kept = [value for module in net.modules() for value in _kept(vars(module))]
    named = [where[name] for where, name in places_outside(net)]
    found = [value for value in (*kept, *named) if isinstance(value, KINDS)]
    return [*{id(value): value for value in (np.random, random, *found)}.values()]


def _kept(attributes: dict[str, Any]) -> Iterator[Any]:
    for value in attributes.values():
        if isinstance(value, dict):
            yield from value.values()
        elif isinstance(value, list | tuple):
            yield from value
        else:
            yield value


def _state(source: Any) -> Any:
    if isinstance(source, np.random.Generator):
        return source.bit_generator.state
    return source.getstate() if hasattr(source, "getstate") else source.get_state()


def _set_state(source: Any, state: Any) -> None:
    if isinstance(source, np.random.Generator):
        source.bit_generator.state = state
    elif hasattr(source, "setstate"):
        source.setstate(state)
    else:
        source.set_state(state)


def _seed(source: Any, seed: int) -> None:
    if isinstance(source, torch.Generator):
        source.manual_seed(seed)
    elif isinstance(source, np.random.Generator):
        bits: Any = type(source.bit_generator)
        source.bit_generator.state = bits(seed).state
    else:
        source.seed(seed)


def _plain(state: Any) -> str:
    """A state as text, with all of its numbers."""
    if isinstance(state, Tensor):
        return repr(state.tolist())
    with np.printoptions(threshold=10**6):
        return repr(state)
