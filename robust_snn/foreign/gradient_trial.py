"""Whether a gradient passes through a network of other people, tried on two images."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from robust_snn.foreign.interception import nodes_of
from robust_snn.foreign.runnable import Study
from robust_snn.foreign.spike_plan import SpikePlan
from robust_snn.gradients import BPTT, GradientMode
from robust_snn.gradients.modes import HART, STE
from robust_snn.gradients.surrogates import Atan
from robust_snn.neurons.pass_settings import LayerGradient
from robust_snn.utils.errors import InputError

if TYPE_CHECKING:
    from robust_snn.foreign.foreign_net import ForeignSNN

_log = logging.getLogger("robust_snn")


def tried_backwards(net: ForeignSNN, x: Tensor, found: Study) -> SpikePlan:
    """The plan of a study, with what a backward pass through its spikes shows.

    Args:
        net: The network.
        x: Images, of which two are tried.
        found: The study.
    """
    plan, wrapped = _tried(net, x, found), found.plan.wrapped
    if wrapped is None or not (plan.own_alone or plan.unreached):
        return plan
    return _tried(net, x, found._replace(plan=wrapped))


def _tried(net: ForeignSNN, x: Tensor, found: Study) -> SpikePlan:
    """`tried_backwards` of one plan."""
    few = x[:2].detach().clone().requires_grad_()
    own = _own_gradient(net, few, found)
    plan = replace(found.plan, no_gradient=own if isinstance(own, str) else None)
    if not plan.reached:
        if plan.no_gradient is None:
            return plan
        return replace(plan, unreached=_stopped(net, few, found) or _behind(net, plan))

    def go_back(mode: GradientMode, plan: SpikePlan, images: Tensor = few) -> Tensor | None:
        """The gradient of images; None if there is none."""
        with torch.enable_grad():
            tried = found._replace(plan=plan)
            logits = net.with_exchanged_spikes(images, tried, LayerGradient(mode), swap=False)
            if not logits.requires_grad:
                return None
            gradient: Tensor | None
            (gradient,) = torch.autograd.grad(_weighed(logits), images, allow_unused=True)
            return gradient

    def best(plan: SpikePlan) -> Tensor | None:
        """A gradient that is not zero, if there is one: straight through, spikes may cancel with
        their reset, and logits of two images may be saturated."""
        gradient, more = None, [x.detach().clone().requires_grad_()] if len(x) > len(few) else []
        for images in (few, *more):
            for mode in (STE(), BPTT(Atan())):
                gradient = go_back(mode, plan, images)
                if gradient is not None and gradient.any():
                    return gradient
        return gradient

    def alone(plan: SpikePlan, why: str) -> SpikePlan:
        """The plan of a network that the gradient modes of others do not reach."""
        has_own = isinstance(own, Tensor) and bool(own.any())
        return replace(plan, own_alone=why) if has_own else replace(plan, unreached=why)

    try:
        try:
            gradient = best(plan)
        except RuntimeError:  # an in-place change of a membrane that was saved for the gradient
            plan = replace(plan, copies=True)
            gradient = best(plan)
    except InputError as reason:  # its spikes are others for other images
        return alone(plan, str(reason))
    except RuntimeError as error:  # such as of an operation that has no derivative
        return alone(plan, f"no gradient passes through {net.name} ({str(error).split('. ')[0]})")
    if gradient is None or not gradient.any():
        zero_on = 0 if gradient is None else len(gradient)
        stopped = None if zero_on else _stopped(net, few, found)
        return alone(plan, stopped or _behind(net, plan, zero_on))
    if not plan.unrecognised:
        try:
            go_back(HART(), plan)
        except InputError as reason:
            plan = replace(plan, feedback=str(reason))
        except Exception as error:  # whatever hooks of a network do where no gradient comes
            plan = replace(plan, feedback=f"it does not go back layer by layer ({error})")
    return plan


def _behind(net: ForeignSNN, plan: SpikePlan, zero_on: int = 0) -> str:
    """Why no gradient reaches the image, or one that is zero on so many images."""
    if plan.jumps:
        (place, why), *others = plan.jumps.items()
        more = f" (and {len(others)} more)" if others else ""
        return (
            f"no gradient of {net.name} reaches the image: {place}: {why}{more}; write it as "
            "a step whose result is a number, such as (v >= 1).float(), outside of "
            "torch.no_grad(), or attack it without gradients"
        )
    if zero_on:
        return (
            f"the gradient of {net.name} is zero on all {zero_on} images that it was shown, as "
            "where logits saturate or say nothing but the class; attack it by an adaptive suite, "
            "which tries the layer before them, or without gradients"
        )
    return (
        f"no gradient of {net.name} reaches the image, as behind torch.no_grad() or a random "
        "encoder of its own; encode outside of it: adapt(net, T=..., encoder='poisson'), or "
        "attack it without gradients"
    )


def _stopped(net: ForeignSNN, x: Tensor, found: Study) -> str | None:
    """Names the custom function whose backward pass gives nothing, if one does."""
    stopping = list[str]()

    def listen(node: Any) -> None:
        def note(given: Sequence[Tensor | None], _: Any) -> None:
            if not any(gradient is not None for gradient in given):
                stopping.append(node._forward_cls.__name__)

        node.register_hook(note)

    with torch.enable_grad(), suppress(Exception):  # whatever has no gradient besides
        logits = net.with_own_neurons(x, found)
        for node in nodes_of([logits]):
            if hasattr(node, "_forward_cls"):
                listen(node)
        torch.autograd.grad(_weighed(logits), x, allow_unused=True)
    if not stopping:
        return None
    return (
        f"no gradient of {net.name} reaches the image, since the backward pass of {stopping[0]} "
        "returns None; let it return the gradient of its input, or attack it without gradients"
    )


def _own_gradient(net: ForeignSNN, x: Tensor, found: Study) -> Tensor | str:
    """The gradient of images of the net as its author runs it, or why there is none."""
    with torch.enable_grad():
        logits = net.with_own_neurons(x, found)
        try:
            gradient: Tensor = torch.autograd.grad(_weighed(logits), x)[0]
        except Exception as error:  # whatever a network does that has no gradient
            reason = str(error).split(". ")[0]
            return f"{net.name} has no gradient by itself ({reason})"
    if not gradient.any():
        _log.warning(
            "the own gradient of %s is zero on the first images, and attacks that follow it go "
            "nowhere; choose another, such as adapt(net, gradient='bptt')",
            net.name,
        )
    return gradient


def _weighed(logits: Tensor) -> Tensor:
    """A sum of logits in which those of two classes do not cancel."""
    return (logits * torch.arange(1.0, 1 + logits.shape[1], device=logits.device)).sum()
