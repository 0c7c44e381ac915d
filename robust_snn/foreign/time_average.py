"""Gradients that are averaged over time (HART), through somebody's network, layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from robust_snn.foreign.spike_exchanges import above
from robust_snn.foreign.spike_pass import SpikePass
from robust_snn.kernels import TimeAverage
from robust_snn.kernels.blocks import blockwise
from robust_snn.kernels.spiking.surrogate_shapes import derivative
from robust_snn.utils.errors import InputError


def averaged_over_time(x: Tensor, run: Callable[[Tensor], tuple[Tensor, SpikePass]]) -> Tensor:
    """Logits `[B, K]` of a pass whose rules average over time (HART).

    Args:
        x: Images with a gradient.
        run: A forward pass, from images to logits and the spike pass that listened.
    """
    logits: Tensor = _Averaged.apply(x, run)
    return logits


class _Averaged(torch.autograd.Function):
    """A forward pass whose backward pass goes layer by layer."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, run: Callable[[Tensor], tuple[Tensor, SpikePass]]) -> Tensor:
        with torch.enable_grad():
            image = x.detach().requires_grad_()
            logits, spike_pass = run(image)
        ctx.kept = image, logits, spike_pass
        return logits.detach()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None]:
        image, logits, spike_pass = ctx.kept
        return average_over_time(spike_pass, image, logits, upstream[0]), None


def average_over_time(
    spike_pass: SpikePass, image: Tensor, logits: Tensor, upstream: Tensor
) -> Tensor:
    """Gradient of the image under a rule that averages over time (HART), layer by layer.

    The gradient that a layer sends down is the same at every step, so all of its steps have to be
    known first: neurons are taken one by one, from the last to the first.

    Args:
        spike_pass: The pass, whose spike functions stop every gradient.
        image: The image, a leaf of its graph.
        logits: `[B, K]`.
        upstream: Gradient of the logits.

    Raises:
        InputError: If a neuron has an effect on one before it, or on itself by a connection.
    """
    total = torch.zeros_like(image)
    collected: dict[tuple[int, int], Tensor] = {}
    neurons = [n for n, rule in enumerate(spike_pass.rules) if isinstance(rule, TimeAverage)]
    outputs = [(n, step, spikes) for n in neurons for step, spikes in spike_pass.spikes[n]]

    def send(values: Sequence[Tensor], gradients: Sequence[Tensor], done: int) -> None:
        nonlocal total
        got = torch.autograd.grad(
            values,
            [image, *(spikes for *_, spikes in outputs)],
            gradients,
            retain_graph=True,
            allow_unused=True,
        )
        total = total if got[0] is None else total + got[0]
        for (neuron, step, _), gradient in zip(outputs, got[1:], strict=True):
            if gradient is None:
                continue
            if neuron >= done:
                if bool(gradient.any()):
                    name = spike_pass.plan.neurons[neuron].name
                    raise InputError(f"spikes of {name} act on it or on neurons before it")
                continue
            known = collected.get((neuron, step))
            collected[neuron, step] = gradient if known is None else known + gradient

    send([logits], [upstream], len(spike_pass.rules))
    for neuron in reversed(neurons):
        membranes = spike_pass.membranes[neuron]
        known = [step for step in membranes if (neuron, step) in collected]
        if known:
            pairs = [(membranes[step].detach(), collected.pop((neuron, step))) for step in known]
            mean = _mean(spike_pass, neuron, pairs)
            send([*membranes.values()], [mean] * len(membranes), neuron)
    return total


def _mean(spike_pass: SpikePass, neuron: int, pairs: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """Mean over all steps of surrogate times upstream; `pairs` has the steps with an upstream."""
    rule, staircase = spike_pass.rules[neuron], spike_pass.plan.neurons[neuron].staircase
    assert isinstance(rule, TimeAverage) and staircase is not None
    edge, jump, surrogate = staircase.edges[0], staircase.jumps[0], rule.surrogate
    steps = len(spike_pass.membranes[neuron])

    def mean(*tensors: Tensor) -> Tensor:
        membranes, upstream = tensors[::2], tensors[1::2]
        total = torch.zeros_like(membranes[0])
        for membrane, gradient in zip(membranes, upstream, strict=True):
            slope = derivative(above(membrane, edge), surrogate, surrogate.sharpness)
            total += (slope if jump == 1 else jump * slope) * gradient
        return total / steps

    return blockwise(mean, *(tensor for pair in pairs for tensor in pair))
