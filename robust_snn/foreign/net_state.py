"""What a net of another library needs around a call: a state at rest, gradients, twins in place."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from robust_snn.foreign.hidden_state import Key, restore
from robust_snn.foreign.library import Library
from robust_snn.foreign.random_sources import seeded
from robust_snn.foreign.twin import TwinNeuron
from robust_snn.neurons import one_pass


@contextmanager
def at_rest(
    net: nn.Module,
    states: Sequence[tuple[nn.Module, Library]],
    broken: Sequence[nn.Module],
    rest: Mapping[Key, Any],
    seed: int | None,
    device: torch.device,
) -> Iterator[None]:
    """Starts a net from rest, and leaves it without a state.

    Args:
        net: The net.
        states: Its modules that keep something between calls; see `find_states`.
        broken: Neurons that have a gradient in train mode only.
        rest: Attributes that move in a call, with the values that they have before.
        seed: Seed of all that it draws from; None leaves that alone.
        device: Where the net runs.
    """
    parts = [module for node in broken for module in node.modules()]  # surrogates ask too
    modes = [module.training for module in parts]
    try:
        for module, owner in states:
            owner.reset(module)
        restore(net, rest)
        for module in parts:
            module.training = True
        with ExitStack() as stack:
            stack.enter_context(one_pass())
            for module, owner in states:
                stack.enter_context(owner.on_torch(module))
            if seed is not None:
                stack.enter_context(seeded(net, seed, device))
            yield
    finally:
        for module, training in zip(parts, modes, strict=True):
            module.training = training
        for module, owner in states:
            owner.reset(module)
        restore(net, rest)


@contextmanager
def twins_in_place(root: nn.Module, twins: Sequence[TwinNeuron]) -> Iterator[None]:
    """Puts a twin in the place of every neuron below `root`, and the neurons back."""
    table = {id(twin.node): twin for twin in twins}
    places = [
        (parent._modules, name, child)
        for parent in root.modules()
        for name, child in parent._modules.items()
        if id(child) in table
    ]
    try:
        for children, name, child in places:
            children[name] = table[id(child)]
        yield
    finally:
        for children, name, child in places:
            children[name] = child


@contextmanager
def counting_calls(modules: Sequence[nn.Module]) -> Iterator[list[int]]:
    """Counts how often each module is called."""
    calls = [0] * len(modules)

    def hook(place: int) -> Any:
        def count(*_: Any) -> None:
            calls[place] += 1

        return count

    hooks = [module.register_forward_hook(hook(i)) for i, module in enumerate(modules)]
    try:
        yield calls
    finally:
        for handle in hooks:
            handle.remove()


def loses_gradient_in_eval(node: nn.Module, owner: Library) -> bool | None:
    """Whether a neuron has a gradient in train mode and none in eval (SpikingJelly 0.0.0.0.14).

    None where it cannot be told, as of a neuron that takes no input of one step and one channel.
    """
    probe = torch.zeros(1, 1, 1, requires_grad=True)
    has_gradient = []
    for training in (True, False):
        try:
            neuron = copy.deepcopy(node).cpu().train(training)
            with torch.enable_grad(), owner.on_torch(neuron):
                has_gradient.append(spikes_of(neuron(probe)).requires_grad)
        except Exception:
            return None
    return has_gradient == [True, False]


def spikes_of(out: Any) -> Tensor:
    """The spikes of an output, which may be `(spikes, membrane)`."""
    return out[0] if isinstance(out, tuple) else out
