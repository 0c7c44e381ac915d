"""The step function with another surrogate derivative, in the place of a library's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn

from robust_snn.foreign.interception import listening
from robust_snn.foreign.library import Library, Spike
from robust_snn.kernels import Surrogate
from robust_snn.kernels.spiking.surrogate_shapes import derivative
from robust_snn.utils.errors import InputError


class SpikeFunction:
    """The step function with a surrogate derivative, in the place of a library's own.

    Args:
        surrogate: The derivative.
        step: The function itself.
    """

    spiking = True  # SpikingJelly asks

    def __init__(self, surrogate: Surrogate, step: Spike) -> None:
        self.surrogate = surrogate
        self.step = step

    def __call__(self, z: Tensor) -> Tensor:
        """Spikes at `z = v - threshold`, of any shape."""
        return _Step.apply(z, self.surrogate, self.step)


class _Step(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor, surrogate: Surrogate, step: Spike) -> Tensor:
        ctx.save_for_backward(z)
        ctx.surrogate = surrogate
        with listening(None):  # what the library's own function calls is not exchanged once more
            return step(z)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None, None]:
        (z,) = ctx.saved_tensors
        slope = derivative(z, ctx.surrogate, ctx.surrogate.sharpness)
        return upstream[0] * slope, None, None


def step_of(node: nn.Module, owner: Library) -> Spike:
    """The function of `v - threshold` by which a neuron fires."""
    if owner.fires_by is not None:
        return owner.fires_by(node)
    return lambda z: ((z > 0) if owner.strict else (z >= 0)).to(z.dtype)


def in_its_precision(node: nn.Module, owner: Library) -> Spike:
    """The function by which a neuron fires; snnTorch's spikes are float32 whatever `z` is."""
    step = step_of(node, owner)
    return lambda z: step(z).to(z.dtype)


@contextmanager
def swapping(nodes: list[tuple[nn.Module, Library]], surrogate: Surrogate, detach: bool) -> Any:
    """Gives neurons another surrogate derivative; they fire as before."""
    with ExitStack() as stack:
        for node, owner in nodes:
            spike = SpikeFunction(surrogate, step_of(node, owner))
            stack.enter_context(owner.swap(node, spike, detach))
        yield


@contextmanager
def with_detached_resets(nodes: list[tuple[nn.Module, Library]]) -> Iterator[None]:
    """No gradient passes through the resets of neurons, where their library can detach these."""
    with ExitStack() as stack:
        for node, owner in nodes:
            if owner.fires_by is not None:
                with suppress(InputError):
                    stack.enter_context(owner.swap(node, owner.fires_by(node), True))
        yield
