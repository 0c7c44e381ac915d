"""How many time steps a network runs, against what its caller says of them."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from robust_snn.foreign.layout_trial import try_layout, with_keys
from robust_snn.foreign.net_state import counting_calls
from robust_snn.foreign.runnable import Layout, Runnable, Study, spike_plan
from robust_snn.utils.errors import InputError

WEIGHTED = ("linear", "matmul", "bmm", "einsum", "conv1d", "conv2d", "conv3d")

_log = logging.getLogger("robust_snn")


class _Regained(TorchFunctionMode):
    """Gives the inputs of layers with weights a gradient, where an encoder has left none."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in WEIGHTED and isinstance(args[0], Tensor):
            value = args[0]
            if value.is_floating_point() and not value.requires_grad:
                args = (value.detach().requires_grad_(), *args[1:])
        return func(*args, **(kwargs or {}))


def warn_of_other_lists(subject: Runnable, images: Tensor, found: Study, loop: int) -> None:
    """Says so where a list that is read as time steps may be one of heads."""
    if not found.reading.stacked or loop < 2:
        return
    with torch.no_grad():
        steps = len(found.reading.steps(with_keys(subject, images, found.layout)))
    if steps != loop:
        _log.warning(
            "%s returns a list of %d, which is read as its time steps, and its neurons run %d; if "
            "they are something else, say which one to read, as adapt(net, output=lambda out: "
            "out[0])",
            subject.name,
            steps,
            loop,
        )


def refuse_own_steps(subject: Runnable, images: Tensor) -> None:
    """Refuses `T` for a network that shows an image to its neurons for several steps itself."""
    try:
        found = try_layout(subject, images, Layout.IMAGES)
        steps = _own_steps(subject, images, found)
    except Exception:  # not made for images alone, as expected
        return
    if steps > 1:
        raise InputError(
            f"{subject.name} runs {steps} time steps by itself; say robust_snn.adapt(net) without T"
        )


def _own_steps(subject: Runnable, images: Tensor, found: Study) -> int:
    """How many steps a network runs that is shown images alone; 0 if no neuron of it was found."""
    nodes = [node for node, _ in subject.nodes()]
    with counting_calls(nodes) as calls, torch.no_grad():
        out = found.reading.steps(subject.raw(images, Layout.IMAGES))
    with _Regained():
        plan = spike_plan(subject, images, Layout.IMAGES)
    stacked = len(out) if found.reading.time is not None else 0
    return max([stacked, plan.loop] if plan.neurons else [stacked, *calls])


def refuse_one_step(subject: Runnable, images: Tensor, found: Study) -> None:
    """Refuses a network that runs a single time step and needs `T`."""
    nodes = subject.nodes()
    one_step = bool(nodes) and all(owner.takes_one_step(node) for node, owner in nodes)
    if not (one_step or (found.stateful and not nodes)) or found.layout is not Layout.IMAGES:
        return
    steps = _own_steps(subject, images, found)
    if steps == 0:
        _log.warning(
            "the time steps of %s could not be counted, since no neuron of it was found; if it "
            "runs one for a call, say robust_snn.adapt(net, T=...)",
            subject.name,
        )
    if steps == 1:
        raise InputError(
            f"{subject.name} runs a single time step: every neuron was called once "
            "for an image; say robust_snn.adapt(net, T=...) with its number of time steps"
        )
